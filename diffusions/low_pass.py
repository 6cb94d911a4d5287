"""φ_N, the low-pass filter of ILVR: down by N and up again (Choi et al. 2021, section 3.2)."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from utils.resize_right import apply_matrices, resize_matrix


class LowPass:
    """φ_N for images of one size. Down and up stay apart: two thin products cost less than the square one.

    Args:
        image: [..., H, W], one whose size, dtype and device the filter is for.
        factor: N ≥ 1; need not divide the size nor be a whole number. 1 is the identity.
        interp_method: kernel of the downsampler: cubic, lanczos2, lanczos3, linear or box.
        pad_mode: what lies beyond the border; symmetric, like the authors, keeps constants constant.
        way_up: the way back up: resize, the paper's, or projection, the downsampler's pseudo-inverse.

    Raises:
        ValueError: a factor below 1 or above the image's shorter side, or an unknown way_up.
    """

    def __init__(
        self,
        image: Tensor,
        factor: float,
        interp_method: str = "cubic",
        pad_mode: str = "symmetric",
        way_up: str = "resize",
    ) -> None:
        shape = image.shape[-2:]
        if not 1 <= factor <= min(shape):
            raise ValueError(f"downsample_factor must lie in 1 … {min(shape)}, not {factor}")
        if way_up not in WAYS_UP:
            raise ValueError(f"way_up {way_up!r} is none of {', '.join(WAYS_UP)}")
        options = factor, interp_method, pad_mode, way_up, image.dtype, image.device
        self.down, self.up = zip(*(_matrices(size, *options) for size in shape), strict=True)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., H, W] → [..., H, W]."""
        return apply_matrices(apply_matrices(x, *self.down), *self.up)


def downsample_matrix(size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric") -> Tensor:
    """D along one axis: down by `factor`.

    Args:
        size: pixels of the axis.
        factor, interp_method, pad_mode: as for `LowPass`.

    Returns:
        [⌈size/factor⌉, size], float64.
    """
    return resize_matrix(size, math.ceil(size / factor), 1 / factor, interp_method, pad_mode=pad_mode)


def upsample_matrix(size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric") -> Tensor:
    """The paper's way back: up by `factor` to `size` pixels, with the same kernel.

    Args: those of `downsample_matrix`.

    Returns:
        [size, ⌈size/factor⌉], float64.
    """
    return resize_matrix(math.ceil(size / factor), size, factor, interp_method, pad_mode=pad_mode)


def pseudo_inverse_matrix(
    size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric"
) -> Tensor:
    """The exact way back, D⁺ = Dᵀ(DDᵀ)⁻¹: D⁺D is the orthogonal projection onto what D keeps.

    The image's own D is the Kronecker product of its axes', and so is the pseudo-inverse.

    Args: those of `downsample_matrix`.

    Returns:
        [size, ⌈size/factor⌉], float64.
    """
    return torch.linalg.pinv(downsample_matrix(size, factor, interp_method, pad_mode))


@lru_cache(maxsize=64)  # of a run's every batch the same; only a projection of a large image takes long
def _matrices(
    size: int, factor: float, interp_method: str, pad_mode: str, way_up: str, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Down and up along one axis, rounded before they are moved: some devices have no float64."""
    with torch.inference_mode(False):  # they may serve under autograd another time
        both = (make(size, factor, interp_method, pad_mode) for make in (downsample_matrix, WAYS_UP[way_up]))
        down, up = (matrix.to(dtype).to(device) for matrix in both)
    return down, up


WAYS_UP = {"resize": upsample_matrix, "projection": pseudo_inverse_matrix}

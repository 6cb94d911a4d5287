"""φ_N, the low-pass filter of ILVR: down by N and up again (Choi et al. 2021, section 3.2)."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from utils.resize_right import apply_matrices, check_floating_point, resize_matrix


class LowPass:
    """φ_N for images of one size. Down and up stay separate: two thin products cost less than the square one.

    Args:
        image: [..., H, W]; the filter is for its size, dtype and device.
        factor: N ≥ 1; need not divide the size nor be a whole number. 1 is the identity.
        interp_method: kernel of the downsampler: cubic, lanczos2, lanczos3, linear or box.
        pad_mode: how the image continues beyond its border; symmetric, the authors' choice, keeps constants constant.
        low_pass: how it comes back up: resize, the paper's, or projection, the downsampler's pseudo-inverse.

    Raises:
        ValueError: a factor below 1 or above the image's shorter side, an unknown low_pass, or an image of integers.
    """

    def __init__(
        self,
        image: Tensor,
        factor: float,
        interp_method: str = "cubic",
        pad_mode: str = "symmetric",
        low_pass: str = "resize",
    ) -> None:
        check_floating_point(image)
        shape = image.shape[-2:]
        if not 1 <= factor <= min(shape):
            raise ValueError(f"downsample_factor must be in 1 … {min(shape)}, not {factor}")
        if low_pass not in LOW_PASSES:
            raise ValueError(f"low_pass must be one of {', '.join(LOW_PASSES)}, not {low_pass!r}")
        options = factor, interp_method, pad_mode, low_pass, image.dtype, image.device
        self.down, self.up = zip(*(_matrices(size, *options) for size in shape), strict=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Filter [..., H, W] → [..., H, W]; raise ValueError for another dtype or device than the image's."""
        return apply_matrices(apply_matrices(x, *self.down), *self.up)


def downsample_matrix(size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric") -> Tensor:
    """Make D along one axis: down by `factor`.

    Args:
        size: pixels of the axis.
        factor, interp_method, pad_mode: as for `LowPass`.

    Returns:
        [⌈size/factor⌉, size], float64.
    """
    return resize_matrix(size, math.ceil(size / factor), 1 / factor, interp_method, pad_mode=pad_mode)


def upsample_matrix(size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric") -> Tensor:
    """Make the paper's way back along one axis: up by `factor` to `size` pixels, with the same kernel.

    Args:
        size, factor, interp_method, pad_mode: as for `downsample_matrix`.

    Returns:
        [size, ⌈size/factor⌉], float64.
    """
    return resize_matrix(math.ceil(size / factor), size, factor, interp_method, pad_mode=pad_mode)


def pseudo_inverse_matrix(
    size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric"
) -> Tensor:
    """Make the exact way back, D⁺ = Dᵀ(DDᵀ)⁻¹: D⁺D is the orthogonal projection onto what D keeps.

    The image's own D is the Kronecker product of its axes', and so is the pseudo-inverse.

    Args:
        size, factor, interp_method, pad_mode: as for `downsample_matrix`.

    Returns:
        [size, ⌈size/factor⌉], float64.
    """
    return torch.linalg.pinv(downsample_matrix(size, factor, interp_method, pad_mode))


@lru_cache(maxsize=64)  # every batch of a run needs the same; a projection of a large image takes long
def _matrices(
    size: int, factor: float, interp_method: str, pad_mode: str, low_pass: str, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Make down and up along one axis, rounded before they are moved: some devices have no float64."""
    with torch.inference_mode(False):  # cached, so that a later caller may need them under autograd
        both = (make(size, factor, interp_method, pad_mode) for make in (downsample_matrix, LOW_PASSES[low_pass]))
        down, up = (matrix.to(dtype).to(device) for matrix in both)
    return down, up


# name: the matrix that goes back up along one axis
LOW_PASSES = {"resize": upsample_matrix, "projection": pseudo_inverse_matrix}

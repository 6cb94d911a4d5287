"""φ_N, the low-pass filter of ILVR: down by N and up again (Choi et al. 2021, section 3.2), or another."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from utils.resize_right import apply_matrices, resize_matrix, weighted_sums

REACH = 4  # σ; the Gaussian has 6e-5 of its weight beyond


class LowPass:
    """φ_N for images of one size: linear, of gain 1 at frequency zero.

    Down and up stay separate: two thin products cost less than the square one.

    Args:
        image: [..., H, W]; the filter is for its size, dtype and device.
        factor: N ≥ 1; need not divide the size nor be a whole number. 1 is the identity.
        interp_method: kernel of the downsampler: cubic, lanczos2, lanczos3, linear or box; gaussian and dft have none.
        pad_mode: how the image continues beyond its border; symmetric, the authors' choice, keeps constants constant.
        low_pass: resize, the paper's; projection, which comes back up by the downsampler's pseudo-inverse; gaussian, a
            blur of σ = N/2 pixels; or dft, the ideal low-pass, which keeps the modes below Nyquist's frequency over N.

    Attributes:
        factor: N.

    Raises:
        ValueError: a factor below 1 or above the image's shorter side, an unknown low_pass, a pad_mode that dft does
            not take, or an image of integers.
    """

    def __init__(
        self,
        image: Tensor,
        factor: float,
        interp_method: str = "cubic",
        pad_mode: str = "symmetric",
        low_pass: str = "resize",
    ) -> None:
        if not image.is_floating_point():  # in whose dtype weights are zero
            raise ValueError(f"an image must be of floating-point numbers, not of {image.dtype}")
        shape = image.shape[-2:]
        if not 1 <= factor <= min(shape):
            raise ValueError(f"downsample_factor must be in 1 … {min(shape)}, not {factor}")
        if low_pass not in LOW_PASSES:
            raise ValueError(f"low_pass must be one of {', '.join(LOW_PASSES)}, not {low_pass!r}")
        self.factor = factor
        options = factor, interp_method, pad_mode, low_pass, image.dtype, image.device
        self.stages = list(zip(*(_matrices(size, *options) for size in shape), strict=True))

    def __call__(self, x: Tensor) -> Tensor:
        """Filter [..., H, W] → [..., H, W]; raise ValueError for another dtype or device than the image's."""
        for rows, columns in self.stages:
            x = apply_matrices(x, rows, columns)
        return x


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


def gaussian_matrix(size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric") -> Tensor:
    """Make a Gaussian blur of σ = N/2 pixels along one axis, without resampling; N = 1 is the identity.

    Args:
        size, factor, pad_mode: as for `downsample_matrix`.
        interp_method: not used.

    Returns:
        [size, size], float64.
    """
    sigma = factor / 2 if factor > 1 else 0.1  # the nearest pixels weigh e^-50, and nothing beside 1 in float32
    offsets = torch.arange(-math.ceil(REACH * sigma), math.ceil(REACH * sigma) + 1)
    weights = torch.exp(-(offsets.double() / sigma).square() / 2)
    neighbours = torch.arange(size)[:, None] + offsets
    return weighted_sums(neighbours, (weights / weights.sum()).expand(size, -1), size, pad_mode)


def ideal_matrix(size: int, factor: float, interp_method: str = "cubic", pad_mode: str = "symmetric") -> Tensor:
    """Make the ideal low-pass along one axis: of the discrete Fourier transform, the modes below Nyquist's over N.

    An axis continued symmetrically has the modes of the discrete cosine transform. FBSDiff (Gao and Liu, ACM MM 2024,
    arXiv:2408.00998) replaces such bands of latents.

    Args:
        size, factor: as for `downsample_matrix`.
        interp_method: not used.
        pad_mode: symmetric or circular: only these continue an axis periodically.

    Returns:
        [size, size], float64, an orthogonal projection.

    Raises:
        ValueError: another pad_mode.
    """
    if pad_mode not in ("symmetric", "circular"):
        raise ValueError(f"low_pass dft needs pad_mode symmetric or circular, not {pad_mode!r}")
    period = torch.eye(size, dtype=torch.float64)
    if pad_mode == "symmetric":
        period = torch.cat([period, period.flip(0)])
    modes = torch.fft.rfft(period, dim=0)
    if factor > 1:
        modes[torch.arange(len(modes)) >= len(period) / (2 * factor)] = 0
    return torch.fft.irfft(modes, len(period), dim=0)[:size]


@lru_cache(maxsize=64)  # every batch of a run needs the same; a projection of a large image takes long
def _matrices(
    size: int, factor: float, interp_method: str, pad_mode: str, low_pass: str, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    """Make the matrices along one axis, rounded before they are moved: some devices have no float64."""
    with torch.inference_mode(False):  # cached, so that a later caller may need them under autograd
        made = (make(size, factor, interp_method, pad_mode) for make in LOW_PASSES[low_pass])
        return tuple(matrix.to(dtype).to(device) for matrix in made)


# name: the matrices along one axis, in the order in which they are applied
LOW_PASSES = {
    "resize": (downsample_matrix, upsample_matrix),
    "projection": (downsample_matrix, pseudo_inverse_matrix),
    "gaussian": (gaussian_matrix,),
    "dft": (ideal_matrix,),
}

"""ILVR: the low frequencies of a sample replaced by a reference's (Choi et al. 2021, arXiv:2108.02938)."""

import math

import torch
from torch import Tensor

from diffusions.ddpm import RandnLike
from diffusions.schedule import Transition
from utils.resize_right import apply_matrices, low_pass_matrix


class ILVR:
    """A refinement for the diffusers' `refine`: x = x' + φ_N(y_prev - x') (Choi et al. 2021, algorithm 1).

    φ_N, down by N and up again, is linear, so that one application to the difference is enough.

    Args:
        reference: y_0, [B, C, H, W] in [-1, 1], one image a sample, on the sample's device.
        downsample_factor: N ≥ 1; the larger, the less of the reference binds. 1 replaces the whole sample.
        interp_method: kernel of φ_N: cubic, lanczos2, lanczos3, linear or box.
        pad_mode: what φ_N sees beyond the border; symmetric, like the authors, keeps constants constant.
        range_t: b; refine only at respaced steps S-1 … b (section 4.2). 0 is every step.

    Raises:
        ValueError: a factor below 1 or above the image's shorter side, or a negative range_t.
    """

    def __init__(
        self,
        reference: Tensor,
        downsample_factor: float = 8,
        interp_method: str = "cubic",
        pad_mode: str = "symmetric",
        range_t: int = 0,
    ) -> None:
        height, width = reference.shape[-2:]
        if not 1 <= downsample_factor <= min(height, width):
            raise ValueError(f"downsample_factor must lie in 1 … {min(height, width)}, not {downsample_factor}")
        if range_t < 0:
            raise ValueError(f"range_t must be at least 0, not {range_t}")
        self.reference = reference
        self.range_t = range_t
        self.rows = low_pass_matrix(height, downsample_factor, interp_method, pad_mode).to(reference)
        self.columns = low_pass_matrix(width, downsample_factor, interp_method, pad_mode).to(reference)

    def low_pass(self, x: Tensor) -> Tensor:
        """φ_N(x), [B, C, H, W]."""
        return apply_matrices(x, self.rows, self.columns)

    def __call__(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        """Refine what a reverse step made.

        Args:
            sample: x', [B, C, H, W], at the noise level `transition` leads to.
            randn_like: draws the reference's noise; not called at the last step, whose reference is clean.

        Returns:
            [B, C, H, W].
        """
        if transition.index < self.range_t:
            return sample
        reference = self.reference
        if not transition.is_last:
            level = transition.alphas_cumprod_prev
            reference = math.sqrt(level) * reference + math.sqrt(1 - level) * randn_like(reference)
        return sample + self.low_pass(reference - sample)

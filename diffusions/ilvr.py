"""ILVR: the low frequencies of a sample replaced by a reference's (Choi et al. 2021, arXiv:2108.02938)."""

import math

import torch
from torch import Tensor

from diffusions.low_pass import LowPass
from diffusions.sampler import Guide, RandnLike
from diffusions.schedule import Transition


class ILVR(Guide):
    """Refinement of the sample: x = x' + φ_N(y_prev - x') (Choi et al. 2021, algorithm 1).

    φ_N, down by N and up again, is linear, so that one application to the difference is enough.

    That φ_N, the paper's, is no projection. So the sample's low frequencies only come near the reference's, and
    noise is lost: sample and reference carry independent noise, and in a mode that φ_N passes with gain g the sum
    keeps (1-g)² + g² of the variance that the network was trained on, 1/2 at worst, in the octave below the cutoff.
    `way_up="projection"` takes P = D⁺D instead, D being the downsampler and D⁺ = Dᵀ(DDᵀ)⁻¹ its pseudo-inverse: g is
    0 or 1, so the noise stays whole in every mode, and D(sample) = D(reference) after the last step. x' + P(y - x')
    is D⁺Dy + (I - D⁺D)x', the range-null-space decomposition of DDNM (Wang et al., ICLR 2023). The difference: DDNM
    puts the clean measurement Dy into the predicted x̂0 before the reverse step; this puts the equally noised one
    into the sample after it, as ILVR does.

    Args:
        reference: y_0, [B, C, H, W] in [-1, 1], one image per sample, on the sample's device.
        downsample_factor: N ≥ 1; the larger, the less of the reference binds. 1 replaces the whole sample.
        interp_method: kernel of φ_N: cubic, lanczos2, lanczos3, linear or box.
        pad_mode: what φ_N sees beyond the border; symmetric, like the authors, keeps constants constant.
        range_t: b; refine only at respaced steps S-1 … b (section 4.2). 0 is every step.
        way_up: how φ_N comes back to full size: resize, the paper's, or projection.

    Attributes:
        low_frequencies: φ_N(y_0), [B, C, H, W]: what of the reference binds.

    Raises:
        ValueError: a factor below 1 or above the image's shorter side, a negative range_t, or an unknown way_up.
    """

    def __init__(
        self,
        reference: Tensor,
        downsample_factor: float = 8,
        interp_method: str = "cubic",
        pad_mode: str = "symmetric",
        range_t: int = 0,
        way_up: str = "resize",
    ) -> None:
        if range_t < 0:
            raise ValueError(f"range_t must be at least 0, not {range_t}")
        self.reference = reference
        self.downsample_factor = downsample_factor
        self.range_t = range_t
        self.low_pass = LowPass(reference, downsample_factor, interp_method, pad_mode, way_up)
        self.low_frequencies = self.low_pass(reference)

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
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

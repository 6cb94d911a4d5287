"""ILVR: the low frequencies of a sample replaced by a reference's (Choi et al. 2021, arXiv:2108.02938)."""

import math

import torch
from torch import Tensor

from diffusions.sampler import Guide, RandnLike
from diffusions.schedule import Transition


class ILVR(Guide):
    """Refinement of the sample: x = x' + φ_N(y_prev - x') (Choi et al. 2021, algorithm 1).

    φ_N, down by N and up again, is linear, so applying it once to the difference is enough. With a mask m and a weight
    W, x = x' + W·m ⊙ φ_N(y_prev - x').

    The paper's φ_N is not a projection. So the sample's low frequencies only approach the reference's, and noise is
    lost: sample and reference carry independent noise, and in a mode that φ_N passes with gain g the sum keeps
    (1-g)² + g² of the variance that the network was trained on, 1/2 at worst, in the octave below the cutoff.
    `low_pass="projection"` uses P = D⁺D instead, D being the downsampler and D⁺ = Dᵀ(DDᵀ)⁻¹ its pseudo-inverse: g is
    0 or 1, so every mode keeps its noise, and D(sample) = D(reference) after the last step. x' + P(y - x') is
    D⁺Dy + (I - D⁺D)x', the range-null-space decomposition of DDNM (Wang et al., ICLR 2023). The difference: DDNM puts
    the clean measurement Dy into the predicted x̂0 before the reverse step; this puts the equally noised one into the
    sample after it, as ILVR does.

    Args:
        reference, downsample_factor, interp_method, pad_mode, range_t, low_pass, mask, weight: see `Guide`. N = 1
            replaces the whole sample, or what the mask shows of it.
    """

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        """Refine the sample after a reverse step.

        Args:
            sample: x', [B, C, H, W], at the noise level `transition` leads to.
            transition: the reverse step.
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
        return sample + self.bind(reference - sample, transition)

"""Start near the reference instead of from pure noise, and walk only the last steps.

"Come-Closer-Diffuse-Faster" (Chung et al., CVPR 2022, arXiv:2112.05146): the early steps settle only what a rough
estimate of the image, here the low-passed reference, says already. Noised far enough, estimate and image can hardly
be told apart (its theorem 1: the reverse steps shrink the difference), so those steps may be left out.
"""

import torch
from torch import Tensor

from diffusions.ddpm import DDPM


def start(diffuser: DDPM, estimate: Tensor, init_noise: Tensor, strength: float) -> tuple[Tensor, int]:
    """Where to begin for `sample_loop`: an image noised to the level of the s·S-th step, and the steps left.

    Args:
        estimate: [B, C, H, W] in [-1, 1], the clean image roughly: φ_N(y_0) for ILVR.
        init_noise: like `estimate`, from N(0, 1).
        strength: s in (0, 1], the share of the S steps to walk, rounded to whole steps, at least one. 1 begins
            with pure noise and takes nothing from the estimate, whatever noise level training ended at.

    Returns:
        The image to begin with, [B, C, H, W], and the number of steps: `sample_loop`'s `init_noise` and `steps`.

    Raises:
        ValueError: a strength outside of (0, 1].
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie above 0 and at most at 1, not {strength}")
    total = len(diffuser.transitions)
    if strength == 1:
        return init_noise, total
    steps = max(1, round(strength * total))
    t = torch.full([len(estimate)], diffuser.transitions[-steps].t, dtype=torch.int64, device=estimate.device)
    return diffuser.q_sample(estimate, t, init_noise), steps

"""Start near the reference instead of from pure noise, and walk only the last steps.

"Come-Closer-Diffuse-Faster" (Chung et al., CVPR 2022, arXiv:2112.05146): the early steps settle only what a rough
estimate of the image, here the low-passed reference, says already. Noised far enough, estimate and image can hardly
be told apart (its theorem 1: the reverse steps shrink the difference), so those steps may be left out.
"""

import torch
from torch import Tensor

from diffusions.ddpm import DDPM


def start(diffuser: DDPM, estimate: Tensor, init_noise: Tensor, steps: int) -> Tensor:
    """Where `sample_loop` begins when it walks only the last `steps` of its S steps.

    Args:
        estimate: [B, C, H, W] in [-1, 1], the clean image roughly: φ_N(y_0) for ILVR.
        init_noise: like `estimate`, from N(0, 1).
        steps: 1 … S. All S begin with pure noise: nothing is taken from the estimate then, though training's last
            noise level would let a little of it through.

    Returns:
        [B, C, H, W], the estimate noised to the level of the first step walked.

    Raises:
        ValueError: steps outside of 1 … S.
    """
    total = len(diffuser.transitions)
    if not 1 <= steps <= total:
        raise ValueError(f"steps must lie in 1 … {total}, not {steps}")
    if steps == total:
        return init_noise
    t = torch.full([len(estimate)], diffuser.transitions[-steps].t, dtype=torch.int64, device=estimate.device)
    return diffuser.q_sample(estimate, t, init_noise)

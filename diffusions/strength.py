"""Start near the reference instead of from pure noise, and walk only the last steps.

"Come-Closer-Diffuse-Faster" (Chung et al., CVPR 2022, arXiv:2112.05146): the early steps settle only what a rough
estimate of the image, here the low-passed reference, says already. Noised far enough, estimate and image can hardly
be told apart (its theorem 1: the reverse steps shrink the difference), so those steps may be left out.
"""

import torch
from torch import Tensor

from diffusions.sampler import Sampler


def noised_start(sampler: Sampler, estimate: Tensor, noise: Tensor, walk_steps: int) -> Tensor:
    """Where `sample_loop` begins when it walks only the last `walk_steps` of its S steps.

    Args:
        estimate: [B, C, H, W] in [-1, 1], the clean image roughly: φ_N(y_0) for ILVR.
        noise: like `estimate`, from N(0, 1).
        walk_steps: 1 … S. All S begin with pure noise: nothing is taken from the estimate then, though training's
            last noise level would let a little of it through.

    Returns:
        [B, C, H, W], the estimate noised to the level of the first step walked.

    Raises:
        ValueError: walk_steps outside of 1 … S.
    """
    first = sampler.last_transitions(walk_steps)[0]
    if first is sampler.transitions[0]:
        return noise
    level = torch.tensor(first.alphas_cumprod, dtype=estimate.dtype, device=estimate.device)
    return level.sqrt() * estimate + (1 - level).sqrt() * noise

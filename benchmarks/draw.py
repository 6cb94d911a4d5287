"""Samples for the benchmarks: one per reference, each from noise of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusions import Guide, Sampler
from diffusions.process import Denoiser
from utils.noise import SampleNoise
from utils.run.batch import sample_batch

SEED = 2022
BATCH = 16


def draw(
    model: Denoiser,
    sampler: Sampler,
    references: Tensor,
    make_guide: Callable[[Tensor], Guide] | None,
    walk_steps: int | None = None,
    seed: int = SEED,
) -> Tensor:
    """Samples before clipping, [M, C, H, W] → [M, C, H, W]; sample i's noise is i's, whatever is drawn besides.

    Args:
        references: of which unguided samples take the shape only.
        make_guide: from some of the references to what steers by them; None for samples that follow nothing.
        walk_steps: how many of the sampler's last steps are walked; None for all.
        seed: of all noise.
    """
    drawn = []
    for numbers in torch.arange(len(references)).split(BATCH):
        if make_guide is None:
            noise = SampleNoise(seed, numbers.tolist())
            drawn.append(sampler.sample(model, noise.randn(*references.shape[1:]), randn_like=noise.randn_like))
            continue
        walked = walk_steps or len(sampler.transitions)
        *_, last = sample_batch(model, sampler, make_guide(references[numbers]), seed, numbers.tolist(), walked)
        drawn.append(last.sample)
    return torch.cat(drawn)

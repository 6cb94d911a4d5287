"""Samples for the benchmarks: one per reference, each from its own noise."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusions import Guide, Sampler
from diffusions.process import Denoiser
from utils.noise import SampleNoise
from utils.run.job import sample_batch

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
    """Draw samples before clipping, [M, C, H, W] → [M, C, H, W]; sample i's noise depends on the seed and i alone.

    Args:
        model: the network.
        sampler: walks from noise to image.
        references: unguided samples use only their shape.
        make_guide: makes a guide from some of the references; None for unconditional samples.
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

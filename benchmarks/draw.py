"""Samples for the benchmarks: one per reference, each from its own noise."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusions import Guide, SampleNoise, Sampler, noised_start
from diffusions.process import Denoiser

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
        noise = SampleNoise(seed, numbers.tolist())
        guide = make_guide(references[numbers]) if make_guide else None
        x = noise.randn(*references.shape[1:])
        if guide:
            x = noised_start(sampler, guide.low_frequencies, x, walk_steps or len(sampler.transitions))
        drawn.append(sampler.sample(model, x, guide, noise.randn_like, walk_steps))
    return torch.cat(drawn)

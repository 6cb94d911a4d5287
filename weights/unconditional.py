"""Unconditional samples, to judge a model by."""

from collections.abc import Sequence

import numpy as np
import torch

from diffusions import DDPM, SampleNoise
from models import Model
from utils.images import to_pixels


def draw(
    model: Model,
    steps: int,
    samples: Sequence[int],
    seed: int = 0,
    device: torch.device | str = "cpu",
    var_type: str = "fixed_small",
) -> np.ndarray:
    """Draw DDPM samples, each from its own noise.

    Args:
        model: ready on `device`.
        steps: S, at most the T of the model's process.
        samples: their numbers.
        seed: of all noise.
        device: to sample on.
        var_type: see `DDPM`.

    Returns:
        [B, H, W, 3] uint8.
    """
    sampler = DDPM(model.process, steps, var_type=var_type)
    noise = SampleNoise(seed, samples, device)
    x = noise.randn(model.channels, model.image_size, model.image_size)
    return to_pixels(sampler.sample(model, x, randn_like=noise.randn_like))

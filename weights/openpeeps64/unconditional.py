"""Samples of a model that follow no reference, to judge the model by."""

from collections.abc import Sequence

import numpy as np
import torch

from diffusions import DDPM
from diffusions.ddpm import Model
from utils.config import Config
from utils.images import make_grid, to_pixels
from utils.noise import SampleNoise


def draw(
    model: Model, config: Config, steps: int, samples: Sequence[int], seed: int = 0, device: torch.device | str = "cpu"
) -> np.ndarray:
    """DDPM samples of a model, each from noise of its own.

    Args:
        config: the model's.
        steps: S, at most the config's total_steps.
        samples: their numbers.

    Returns:
        [B, H, W, 3] uint8.
    """
    diffuser = DDPM(**{**config.diffusion, "respace_steps": steps})
    noise = SampleNoise(seed, samples, device)
    x = noise.randn(config.image_channels, config.image_size, config.image_size)
    return to_pixels(diffuser.sample(model, x, randn_like=noise.randn_like))


def sheet(pictures: np.ndarray, columns: int = 8) -> np.ndarray:
    """[N, H, W, 3] uint8 in rows, [H', W', 3]."""
    return make_grid([list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])

"""Known faults of rising strength, to check that a measure detects them."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusions.low_pass import LowPass

Disturb = Callable[[Tensor], Tensor]  # [B, C, H, W] in [-1, 1] → the same


def blur(factor: float) -> Disturb:
    """Go down by a factor and up again."""
    return lambda images: LowPass(images, factor)(images)


def fade(strength: float) -> Disturb:
    """Go part of the way to the low-passed image, at N = 8: lines lose contrast."""
    return lambda images: images + strength * (LowPass(images, 8)(images) - images)


def halo(strength: float) -> Disturb:
    """Add the veil that a refinement leaves: part of the way to another image's low frequencies, at N = 8."""
    return lambda images: images + strength * LowPass(images, 8)(images.roll(1, 0) - images)


def noise(strength: float) -> Disturb:
    """Add white noise with this standard deviation."""
    return lambda images: images + strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


DISTURBANCES: dict[str, dict[float, Disturb]] = {
    "unchanged": {0: noise(0)},
    "blur": {strength: blur(strength) for strength in (1.5, 2, 4, 8)},
    "fade": {strength: fade(strength) for strength in (0.25, 0.5)},
    "halo": {strength: halo(strength) for strength in (0.1, 0.25, 0.5)},
    "noise": {strength: noise(strength) for strength in (0.02, 0.05, 0.1)},
}

"""Sliced Wasserstein distance between two sets of images, one number per level of their Laplacian pyramids.

Karras et al., "Progressive Growing of GANs" (ICLR 2018, arXiv:1710.10196), section 5: patches drawn from every level
are two clouds of points; their distance, averaged over random directions, measures how similar the textures are at that
scale. The seed fixes the patches' positions and the directions, so the same images give the same numbers. The distance
grows as there are fewer images, even of one distribution: compare only results from equally many images, and with their
floor, the distance between as many training and held-out images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 7  # pixels per side
PATCHES = 128  # patches per image
DIRECTIONS = 512
SCALE = 1000.0


def _blur(images: Tensor, gain: float = 1.0) -> Tensor:
    """Apply the pyramid's 5x5 binomial filter (Burt & Adelson 1983). [N, C, H, W] -> [N, C, H, W]"""
    channels = images.shape[1]
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (gain * row[:, None] * row).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def laplacian_pyramid(images: Tensor, levels: int = 3) -> list[Tensor]:
    """[N, C, H, W] -> details from fine to coarse, the rest last: [N, C, H, W], [N, C, H/2, W/2], ..."""
    pyramid = []
    for _ in range(levels - 1):
        coarse = _blur(images)[:, :, ::2, ::2]
        spread = torch.zeros_like(images)
        spread[:, :, ::2, ::2] = coarse
        pyramid.append(images - _blur(spread, gain=4.0))
        images = coarse
    return [*pyramid, images]


def patches(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random patches, every channel of mean 0 and deviation 1. [N, C, H, W] -> [N * PATCHES, C * PATCH**2]"""
    count, _, height, width = images.shape
    offset = torch.arange(PATCH)
    top = torch.randint(height - PATCH + 1, (count * PATCHES, 1, 1), generator=generator) + offset[:, None]
    left = torch.randint(width - PATCH + 1, (count * PATCHES, 1, 1), generator=generator) + offset
    image = torch.arange(count).repeat_interleave(PATCHES)[:, None, None]
    found = images.permute(0, 2, 3, 1)[image, top, left]  # [N * PATCHES, PATCH, PATCH, C]
    std, mean = torch.std_mean(found, dim=(0, 1, 2))
    return ((found - mean) / std).flatten(1)


def sliced_wasserstein(a: Tensor, b: Tensor, levels: int = 3, seed: int = 0) -> list[float]:
    """Distance times 1000 between as many images, [N, C, H, W] in [-1, 1] each, at every level from fine to coarse."""
    if a.shape != b.shape:
        raise ValueError(f"the sets must be equally large: {tuple(a.shape)} and {tuple(b.shape)}")
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for level_a, level_b in zip(laplacian_pyramid(a, levels), laplacian_pyramid(b, levels), strict=True):
        cloud_a, cloud_b = patches(level_a, generator), patches(level_b, generator)
        directions = F.normalize(torch.randn(cloud_a.shape[1], DIRECTIONS, generator=generator), dim=0)
        gaps = [
            ((cloud_a @ some).sort(dim=0).values - (cloud_b @ some).sort(dim=0).values).abs().mean()
            for some in directions.split(64, dim=1)
        ]
        distances.append(SCALE * torch.stack(gaps).mean().item())
    return distances

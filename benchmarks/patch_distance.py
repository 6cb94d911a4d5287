"""How far a picture's surfaces and lines are from real ones: the distance of its patches to the nearest real patch.

Each patch of a sample is compared with the real patch most like it. So a veil over a clean drawing counts in full,
while a distance between distributions (`benchmarks.realism`) finds that some real patch is as smooth. Every sample has
its own number, so a bootstrap needs only their weighted mean. It is the improved precision of Kynkäänniemi et al.
(NeurIPS 2019, arXiv:1904.06991) without a threshold, in pixels: no network trained on photographs judges a drawing.
Like any precision, it does not measure diversity.
"""

import torch
from torch import Tensor

PATCH = 9  # pixels a side
REAL_PATCHES, SAMPLE_PATCHES = 300, 100  # an image
CHUNK = 500  # patches whose distances are in memory at once


class PatchDistance:
    """The mean Euclidean distance of an image's patches to their nearest real ones, over that of real images' own.

    Args:
        real: [N, C, H, W] in [-1, 1], whose patches are the real ones.
        others: [M, C, H, W], more real images: they are 1 on average.
        seed: of the patches' places.
    """

    def __init__(self, real: Tensor, others: Tensor, seed: int = 0) -> None:
        self.seed = seed
        found = patches(real, REAL_PATCHES, seed)
        self.centre = found.mean(0)  # distances of centred patches lose less to rounding
        self.real = (found - self.centre).mT.contiguous()
        self.half_squares = self.real.square().sum(0) / 2
        self.unit = self._distances(others).mean()

    def __call__(self, images: Tensor) -> Tensor:
        """Measure [B, C, H, W] in [-1, 1] → [B], 1 being real."""
        return self._distances(images) / self.unit

    def _distances(self, images: Tensor) -> Tensor:
        found = patches(images, SAMPLE_PATCHES, self.seed + 1) - self.centre
        nearest = [self._nearest(some) for some in found.split(CHUNK)]
        return torch.cat(nearest).unflatten(0, (-1, SAMPLE_PATCHES)).mean(1)

    def _nearest(self, found: Tensor) -> Tensor:
        """Minimise ‖a - b‖² = ‖a‖² + 2 (‖b‖²/2 - a·b) over b. [n, D] → [n]."""
        least = torch.addmm(self.half_squares, found, self.real, alpha=-1).amin(1)
        return (found.square().sum(1) + 2 * least).clamp(min=0).sqrt()


def patches(images: Tensor, count: int, seed: int) -> Tensor:
    """Cut `count` patches from each image, at places that the seed fixes. [B, C, H, W] → [B·count, C·PATCH²]."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = images.shape
    offset = torch.arange(PATCH)
    top = torch.randint(height - PATCH + 1, (batch * count, 1, 1), generator=generator) + offset[:, None]
    left = torch.randint(width - PATCH + 1, (batch * count, 1, 1), generator=generator) + offset
    image = torch.arange(batch).repeat_interleave(count)[:, None, None]
    return images.movedim(1, -1)[image, top, left].flatten(1)

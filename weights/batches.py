"""The data of a training step. All of it follows from the seed and the step, so that a run resumes exactly."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.images import from_pixels


class Batch(NamedTuple):
    """Clean images [B, C, H, W] in [-1, 1], their timesteps, int64 [B], and noise like the images."""

    x0: Tensor
    t: Tensor
    noise: Tensor


class Batches:
    """Batch `step` of a run, or one process's share of it.

    Args:
        images: uint8 [N, H, W, C], on the device of training.
        size: B, images per batch of this process; at most N together.
        total_steps: T.
        seed: of the order of the images, the timesteps and the noise.
        rank, world: this process and how many there are.
    """

    def __init__(
        self, images: Tensor, size: int, total_steps: int, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.images = images
        self.size = size
        self.total_steps = total_steps
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = -1
        self.order = torch.empty(0, dtype=torch.int64)

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator(self.images.device).manual_seed(mixed(self.seed, step, self.rank))
        x0 = from_pixels(self.images[self._indices(step)])
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        return Batch(x0, self._timesteps(generator), noise)

    def _indices(self, step: int) -> Tensor:
        """Pick each image once per epoch, in a new order each time; a last, incomplete batch is left out."""
        epoch, batch = divmod(step, len(self.images) // (self.size * self.world))
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
            self.order = torch.randperm(len(self.images), generator=generator)
            self.epoch = epoch
        start = (batch * self.world + self.rank) * self.size
        return self.order[start : start + self.size].to(self.images.device)

    def _timesteps(self, generator: torch.Generator) -> Tensor:
        """Draw one from each of B equal shares of the timesteps: uniform, with less variance between batches."""
        device = self.images.device
        places = torch.rand(self.size, generator=generator, device=device) + torch.arange(self.size, device=device)
        return (places * self.total_steps / self.size).long().clamp(max=self.total_steps - 1)


def mixed(*numbers: int) -> int:
    """Make a seed of 63 bits from several whole numbers, the same with every version of NumPy."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)

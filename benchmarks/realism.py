"""How far samples are from real images, and how sure that is: sliced Wasserstein distance with a bootstrap.

This is the distance of `benchmarks.sliced_wasserstein` in its other form, W₁ = ∫ |F_a - F_b| (F being the
distribution functions along a direction). A sample's weight is a factor in F_a, so a bootstrap does not need to sort
again; and the sets may differ in size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sliced_wasserstein import SCALE, laplacian_pyramid, patches

LEVELS = 3
DIRECTIONS = 64


class Realism:
    """The distance of samples to fixed real images.

    Args:
        real: [N, C, H, W] in [-1, 1].
        seed: of the patches' places and the directions.
    """

    def __init__(self, real: Tensor, seed: int = 0) -> None:
        self.seed = seed
        self.real = [patches(level, self._generator()) for level in laplacian_pyramid(real, LEVELS)]

    def __call__(self, samples: Tensor, weights: Tensor) -> Tensor:
        """Measure the distance × 1000 at every level of the pyramid, fine to coarse, for each weighting of the samples.

        Args:
            samples: [M, C, H, W] in [-1, 1].
            weights: [K, M], how often each sample counts; K weightings.

        Returns:
            [K, 3]
        """
        weights = weights / weights.sum(1, keepdim=True)
        return torch.stack(
            [
                self._level(patches(level, self._generator()), real, weights)
                for level, real in zip(laplacian_pyramid(samples, LEVELS), self.real, strict=True)
            ],
            dim=1,
        )

    def _level(self, cloud: Tensor, real: Tensor, weights: Tensor) -> Tensor:
        """Measure one level: [n, D], [m, D], [K, M] with n a multiple of M → [K]."""
        generator = self._generator()
        real = real[torch.randperm(len(real), generator=generator)[: len(cloud)]]  # as many, or all there are
        directions = F.normalize(torch.randn(cloud.shape[1], DIRECTIONS, generator=generator), dim=0)
        share = weights.repeat_interleave(len(cloud) // weights.shape[1], dim=1) * weights.shape[1] / len(cloud)
        mass = torch.cat([share, torch.full([len(weights), len(real)], -1 / len(real))], dim=1)
        return SCALE * torch.stack([weighted_w1(cloud @ d, real @ d, mass) for d in directions.mT]).mean(0)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


def weighted_w1(a: Tensor, b: Tensor, mass: Tensor) -> Tensor:
    """Compute W₁ between weighted points of a line.

    Args:
        a: [n], b: [m].
        mass: [K, n + m], a's weights (of sum 1), then b's, negative (of sum -1).

    Returns:
        [K]
    """
    points, order = torch.cat([a, b]).sort()
    gap = mass[:, order].cumsum(1)[:, :-1]
    return gap.abs() @ points.diff()

"""Per-sample random streams: a sample's noise is its own, whatever batch or process it is drawn in.

The idea is EDM's (Karras et al. 2022, https://github.com/NVlabs/edm, generate.py): one generator per sample.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class SampleNoise:
    """Gaussian noise for a batch, each sample from its own stream.

    It costs a launch per sample and draw. Drawing several at once would save launches but change every image:
    accelerators then give other numbers, and so do CPUs where a draw's size is no multiple of 16.

    Args:
        seed: of the run, ≥ 0.
        samples: the numbers of the batch's samples; two of them never share a stream.
        device: where the noise is drawn.
    """

    def __init__(self, seed: int, samples: Sequence[int], device: torch.device | str = "cpu") -> None:
        # One hash per run, then consecutive seeds: CPU generators use 32 bits of a seed only, which
        # hashes of (seed, sample) would soon make collide.
        first = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self.device = torch.device(device)
        self.generators = [torch.Generator(device).manual_seed((first + i) % 2**64) for i in samples]

    def randn(self, *shape: int) -> Tensor:
        """Return the next draw of every stream, [B, *shape] float32 from N(0, 1)."""
        noise = torch.empty(len(self.generators), *shape, device=self.device)
        for row, generator in zip(noise, self.generators, strict=True):
            row.normal_(generator=generator)
        return noise

    def randn_like(self, x: Tensor) -> Tensor:
        """Return the next draw of every stream, [B, ...] like `x`."""
        return self.randn(*x.shape[1:])

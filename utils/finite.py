"""Whether the numbers of a batch stayed finite, asked once, at its end."""

from collections.abc import Callable

import torch
from torch import Tensor


class FiniteWatch:
    """A model, and a sum of all it returned: finite only if every value was.

    The images alone do not tell: clipping x̂0 turns an infinity, as half precision returns it, into black or
    white. The sum stays on the device, so that no step waits for it; who asks for it waits, and is to do so beside the
    next batch.

    Args:
        model: maps x [B, C, H, W] and t [B] to an output [B, …].
    """

    def __init__(self, model: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.model = model
        self.sum: Tensor | float = 0.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        output = self.model(x, t)
        self.add(output)
        return output

    def add(self, values: Tensor) -> None:
        """Watch these [B, …] too."""
        self.sum = self.sum + values.detach().flatten(1).sum(1, dtype=torch.float32)

    def is_finite(self) -> list[bool]:
        """For each of the batch; waits for the device."""
        return torch.as_tensor(self.sum).isfinite().tolist()

"""Images larger than a network's own: it sees overlapping windows of its own size, and its predictions are blended.

MultiDiffusion (Bar-Tal et al., ICML 2023, arXiv:2302.08113): each pixel's prediction is the mean of those of all the
windows that hold it. Here the mean is weighted, so that a window fades out towards a border beyond which the
image continues. Right at such a border its weight is 0: there it sees least of what surrounds its pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from utils.batching import is_out_of_memory

WHOLE = 2  # images of up to this many times a window's area are seen whole: the embedded model draws those better
CODER_OVERLAP = 1 / 4  # of an autoencoder's windows, as a share of a window
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples' fractions are spread evenly
MARGIN = 1 / 8  # of the overlap, at a window's border, where its weight is 0


@dataclass(frozen=True)
class Axis:
    """An image's axis in windows: each starts at one of `starts`, and neighbours share at least `overlap` pixels."""

    length: int
    size: int
    overlap: int
    starts: Sequence[int]

    def scaled(self, factor: int) -> "Axis":
        """Return the same windows of an image `factor` times as long."""
        starts = [factor * start for start in self.starts]
        return Axis(factor * self.length, factor * self.size, factor * self.overlap, starts)

    @property
    def borders(self) -> list[int]:
        """The positions where a window begins or ends within the image."""
        ends = {start + self.size for start in self.starts}
        return sorted(ends.union(self.starts) - {0, self.length})

    def place(self, window: int) -> slice:
        """Return the pixels of a window."""
        return slice(self.starts[window], self.starts[window] + self.size)

    def weights(self) -> Tensor:
        """Return each window's weight for its pixels, [windows, size] float32; they sum to 1 at each pixel."""
        distance = torch.arange(self.size, dtype=torch.float64) + 0.5
        ramp = (distance / max(self.overlap, 1) - MARGIN) / (1 - 2 * MARGIN) if self.overlap else distance
        fade = torch.sin(ramp.clamp(0, 1) * math.pi / 2).square()
        weights, total = [], torch.zeros(self.length, dtype=torch.float64)
        for window, start in enumerate(self.starts):
            weights.append(torch.ones_like(fade))
            if start > 0:
                weights[-1] *= fade
            if start + self.size < self.length:
                weights[-1] *= fade.flip(0)
            total[self.place(window)] += weights[-1]
        return torch.stack([weight / total[self.place(i)] for i, weight in enumerate(weights)]).float()


def divide(length: int, size: int, overlap: int, shift: float = 0.0) -> Axis:
    """Divide an axis into the fewest windows, evenly spread from end to end; where shifted, one more.

    Args:
        length, size: of the axis and of a window, in pixels.
        overlap: what neighbours share at least, below `size`.
        shift: towards the start, as a share of the way from one window to the next, in 0 … 1.
    """
    free = max(0, length - size)
    gaps = math.ceil(free / (size - overlap))
    stride = free / max(gaps, 1)
    starts = {round(min(max((i - shift) * stride, 0), free)) for i in range(gaps + 2)}
    return Axis(length, min(size, length), overlap, sorted(starts))


def blend(
    call: Callable[[Tensor, list[int]], Tensor], x: Tensor, rows: Axis, columns: Axis, batch: int, shrinks: int = 1
) -> Tensor:
    """Blend what `call` makes of an image's windows into one image.

    Args:
        call: maps windows [n, C, h, w], of the images of these numbers, to [n, C', f·h, f·w], f being a whole number,
            or 1/`shrinks`.
        x: [B, C, H, W].
        rows, columns: its windows along height and width, in units of `shrinks` pixels.
        batch: the maximum number of windows at a time.
        shrinks: how many times smaller along a side is what `call` returns; 1 where it is not smaller.

    Returns:
        [B, C', f·H, f·W], of x's dtype.
    """
    rows_seen, columns_seen = rows.scaled(shrinks), columns.scaled(shrinks)
    windows = list(product(range(len(x)), range(len(rows.starts)), range(len(columns.starts))))
    blended = None
    for first in range(0, len(windows), batch):
        group = windows[first : first + batch]
        seen = torch.stack([x[i, :, rows_seen.place(row), columns_seen.place(column)] for i, row, column in group])
        made = call(seen, [i for i, _, _ in group]).to(x.dtype)
        if blended is None:
            rows_made, columns_made = (axis.scaled(made.shape[-1] // columns.size) for axis in (rows, columns))
            row_weights, column_weights = (axis.weights().to(x) for axis in (rows_made, columns_made))
            blended = x.new_zeros(len(x), made.shape[1], rows_made.length, columns_made.length)
        for part, (i, row, column) in zip(made, group, strict=True):
            weight = row_weights[row, :, None] * column_weights[column]
            blended[i, :, rows_made.place(row), columns_made.place(column)] += weight * part
    assert blended is not None
    return blended


def code_in_windows(coder: Callable[[Tensor], Tensor], x: Tensor, size: Sequence[int], shrinks: int = 1) -> Tensor:
    """Encode images or decode latents in windows, so that memory does not grow with their size.

    Args:
        coder: encodes or decodes.
        x: [B, C, H, W].
        size: (height, width) of x that the autoencoder was trained at.
        shrinks: how many times smaller along a side is what comes out; 1 where it is larger.
    """
    if math.prod(x.shape[2:]) <= WHOLE * math.prod(size):
        return coder(x)
    overlap = int(CODER_OVERLAP * min(size)) // shrinks
    rows, columns = (
        divide(length // shrinks, side // shrinks, overlap) for length, side in zip(x.shape[2:], size, strict=True)
    )
    return blend(lambda seen, _: coder(seen), x, rows, columns, 1, shrinks)


class Tiles:
    """A network for images of any size, called like the network.

    Windows move from timestep to timestep: what one step draws at their borders, the next draws over.

    Args:
        network: sees windows.
        size: (height, width) of a window: what the network was trained at.
        overlap: the least that neighbouring windows share, in pixels. A larger overlap means more windows.
        batch: the maximum number of windows at a time. Halved if they do not fit into the accelerator's memory.
        whole: images of up to this many times a window's area are not divided.

    Raises:
        ValueError: an overlap below 0 or not below the window's sides.
    """

    def __init__(
        self, network: Callable[..., Tensor], size: tuple[int, int], overlap: int, batch: int, whole: float = 1.0
    ) -> None:
        if not 0 <= overlap < min(size):
            raise ValueError(f"overlap must be in 0 … {min(size) - 1}, not {overlap}")
        self.network = network
        self.size = size
        self.overlap = overlap
        self.batch = batch
        self.whole = whole * math.prod(size)

    def __call__(self, x: Tensor, t: Tensor, *class_id: Tensor) -> Tensor:
        """Predict from x [B, C, H, W], t [B], all of one step, and maybe class_id [B]: [B, C or 2C, H, W]."""
        if math.prod(x.shape[2:]) <= self.whole:
            return self.network(x, t, *class_id)
        while self.batch > 1:
            try:
                return self._blend(x, t, *class_id)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # here, not where the error is caught: its traceback keeps the failed windows in memory
            self.batch //= 2
            clear_device_cache(garbage_collection=True)
        return self._blend(x, t, *class_id)

    def shift(self, t: Tensor) -> float:
        """Return how far the windows are shifted: a fraction that differs from timestep to timestep, 0 for t = 0."""
        return t[0].item() * GOLDEN % 1

    def _blend(self, x: Tensor, *given: Tensor) -> Tensor:
        shift = self.shift(given[0])
        rows, columns = (
            divide(length, side, self.overlap, shift) for length, side in zip(x.shape[2:], self.size, strict=True)
        )
        return blend(
            lambda seen, images: self.network(seen, *(each[images] for each in given)), x, rows, columns, self.batch
        )

"""The pictures that show a run: its samples in a grid, a sweep side by side, one sample coming into being."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from utils.files import write_atomically
from utils.images import make_grid, save_png, to_pixels

BLOCK_GAP, LABEL_HEIGHT = 10, 16  # pixels
ANIMATION_FRAMES, STRIP_FRAMES = 50, 10
FRAME_MS, LAST_FRAME_MS = 80, 2000

Rows = Sequence[Sequence[np.ndarray]]  # of pictures [H, W, 3] uint8


def draw_grid(
    references: Sequence[np.ndarray], low_frequencies: Sequence[np.ndarray], blocks: Mapping[str, Rows]
) -> np.ndarray:
    """One row per reference: the reference, what of it binds, its samples; of a sweep one block of samples per label.

    Args:
        references: pictures [H, W, 3] uint8, all of one size.
        low_frequencies: what of each binds; shown where there is one block only.
        blocks: by their labels, one row of samples per reference each.

    Returns:
        [H', W', 3] uint8.
    """
    if len(blocks) > 1:
        return side_by_side([[[picture] for picture in references], *blocks.values()], ["", *blocks])
    (samples,) = blocks.values()
    return make_grid([[a, b, *c] for a, b, c in zip(references, low_frequencies, samples, strict=True)])


def side_by_side(blocks: Sequence[Rows], labels: Sequence[str]) -> np.ndarray:
    """Grids beside each other, each under its label and at least as wide.

    Args:
        blocks: of each grid the rows of pictures [H, W, 3] uint8, all of one size and as many rows.

    Returns:
        [H', W', 3] uint8.
    """
    grids, font = [make_grid(rows) for rows in blocks], ImageFont.load_default(12)
    widths = [max(grid.shape[1], math.ceil(font.getlength(label))) for grid, label in zip(grids, labels, strict=True)]
    size = (sum(widths) + BLOCK_GAP * (len(grids) - 1), LABEL_HEIGHT + grids[0].shape[0])
    figure = Image.new("RGB", size, "white")
    draw, x = ImageDraw.Draw(figure), 0
    for grid, label, width in zip(grids, labels, widths, strict=True):
        draw.text((x, 0), label, "black", font)
        figure.paste(Image.fromarray(grid), (x, LABEL_HEIGHT))
        x += width + BLOCK_GAP
    return np.asarray(figure)


class Progress:
    """One image on its way: looks at the steps as they are made, keeps some, and shows them.

    Args:
        steps: how many there will be.
        decode: makes images of what the steps are of, [B, C, H, W] each.
    """

    def __init__(self, steps: int, decode: Callable[[Tensor], Tensor]) -> None:
        self.decode = decode
        self.kept = set(_spread(steps, ANIMATION_FRAMES))
        self.seen = 0
        self.frames: list[list[np.ndarray]] = []  # the sample, and the x̂0 expected of it, [H, W, 3] uint8 each

    def add(self, sample: Tensor, pred_x0: Tensor) -> None:
        """Look at a step's sample and x̂0, [C, H, W]."""
        if self.seen in self.kept:
            self.frames.append(list(to_pixels(self.decode(torch.stack([sample, pred_x0])))))
        self.seen += 1

    def strip(self) -> np.ndarray:
        """A few frames from left to right: the sample above, below it what the network expects. [H', W', 3] uint8."""
        chosen = [self.frames[i] for i in _spread(len(self.frames), STRIP_FRAMES)]
        return make_grid(list(zip(*chosen, strict=True)))

    def save(self, path: Path) -> None:
        """The strip as `path`.png, and an animation, sample and expectation beside each other, as `path`.webp."""
        save_png(self.strip(), path.with_suffix(".png"))
        first, *rest = (Image.fromarray(make_grid([frame])) for frame in self.frames)
        durations = [FRAME_MS] * len(rest) + [LAST_FRAME_MS]
        file = io.BytesIO()
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=75)
        write_atomically(path.with_suffix(".webp"), file.getvalue())


def _spread(count: int, most: int) -> list[int]:
    """All of 0 … count-1, or so many of them evenly spread from the first to the last."""
    return list(range(count)) if count <= most else [i * (count - 1) // (most - 1) for i in range(most)]

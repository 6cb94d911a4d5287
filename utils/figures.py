"""The pictures that show a run: its samples in a grid, a sweep side by side, one sample coming into being."""

import io
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffusions.low_pass import LowPass
from utils.files import write_atomically
from utils.images import make_grid, read_pixels, read_reference, save_png, to_pixels
from utils.settings import Binding, Settings

if TYPE_CHECKING:
    from diffusions import Step

GRID_ROWS, GRID_VARIATIONS = 64, 8  # what a grid shows of a large run
BLOCK_GAP, LABEL_HEIGHT = 10, 16  # pixels
ANIMATION_FRAMES, STRIP_FRAMES = 50, 10
FRAME_MS, LAST_FRAME_MS = 80, 2000


def draw_grid(settings: Settings) -> np.ndarray:
    """A row a reference: the reference, what of it binds, its samples; of a sweep a block of samples a binding.

    Returns:
        [H, W, 3] uint8.
    """
    size, channels = settings.config.image_size, settings.config.image_channels
    shown = list(islice(dict.fromkeys(sample.reference for sample in settings.samples), GRID_ROWS))
    references = [read_reference(reference.path, size, channels) for reference in shown]

    def rows(binding: Binding) -> list[list[np.ndarray]]:
        found: dict[str, list[np.ndarray]] = {reference.name: [] for reference in shown}
        for sample in settings.samples:
            if sample.binding == binding and sample.variation < GRID_VARIATIONS and sample.reference.name in found:
                found[sample.reference.name].append(read_pixels(settings.save_dir / sample.file_name))
        return list(found.values())

    pictures = [[to_pixels(reference)] for reference in references]
    if len(settings.bindings) > 1:
        labels = [binding.folder.replace("/", " ") for binding in settings.bindings]
        return side_by_side([pictures, *map(rows, settings.bindings)], ["", *labels])
    (binding,) = settings.bindings
    low_pass = LowPass(references[0], binding.downsample_factor, settings.interp_method, low_pass=settings.low_pass)
    low_passed = [[to_pixels(low_pass(reference))] for reference in references]
    return make_grid([a + b + c for a, b, c in zip(pictures, low_passed, rows(binding), strict=True)])


def side_by_side(blocks: Sequence[Sequence[Sequence[np.ndarray]]], labels: Sequence[str]) -> np.ndarray:
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
    """

    def __init__(self, steps: int) -> None:
        self.kept = set(_spread(steps, ANIMATION_FRAMES))
        self.seen = 0
        self.frames: list[list[np.ndarray]] = []  # the sample, and the x̂0 expected of it, [H, W, 3] uint8 each

    def __call__(self, step: "Step") -> None:
        """Look at a step, of which only the first image counts."""
        if self.seen in self.kept:
            self.frames.append([to_pixels(step.sample[0]), to_pixels(step.pred_x0[0])])
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

"""One sample coming into being: a strip of its steps, and an animation."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.files import write_atomically
from utils.images import make_grid, save_png, to_pixels
from utils.run.ownership import FIGURE_EXIF, signed

ANIMATION_FRAMES, STRIP_FRAMES = 50, 10
FRAME_MS, LAST_FRAME_MS = 80, 2000


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
        """Look at a step's sample and x̂0, [C, H, W] each."""
        if self.seen in self.kept:
            self.frames.append(list(to_pixels(self.decode(torch.stack([sample, pred_x0])))))
        self.seen += 1

    def strip(self) -> np.ndarray:
        """A few frames from left to right: the sample above, below it what the network expects. [H', W', 3] uint8."""
        chosen = [self.frames[i] for i in _spread(len(self.frames), STRIP_FRAMES)]
        return make_grid(list(zip(*chosen, strict=True)))

    def save(self, path: Path) -> None:
        """The strip as `path`.png, and an animation, sample and expectation beside each other, as `path`.webp."""
        save_png(self.strip(), path.with_suffix(".png"), signed({"figure": "progress"}))
        first, *rest = (Image.fromarray(make_grid([frame])) for frame in self.frames)
        durations = [FRAME_MS] * len(rest) + [LAST_FRAME_MS]
        file = io.BytesIO()
        exif = Image.Exif()
        exif.update(FIGURE_EXIF)
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=75, exif=exif)
        write_atomically(path.with_suffix(".webp"), file.getvalue())


def _spread(count: int, most: int) -> list[int]:
    """All of 0 … count-1, or so many of them evenly spread from the first to the last."""
    return list(range(count)) if count <= most else [i * (count - 1) // (most - 1) for i in range(most)]

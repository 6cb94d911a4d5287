"""Portraits of the embedded model's domain that it was not trained on, on one sheet: what quality is measured against.

    (cd weights/openpeeps64 && npm install && node render.mjs ../../data)
    python -m benchmarks.held_out data/held_out.bin               # writes benchmarks/held_out.webp, lossless

Neighbouring seeds of DiceBear draw alike portraits, so every fifth is taken, and those are shuffled.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.images import from_pixels
from weights.openpeeps64.batches import read_images

SHEET = Path(__file__).with_suffix(".webp")
SIZE, ROWS, COLUMNS, STRIDE = 64, 16, 21, 5


def load_held_out() -> Tensor:
    """The sheet's portraits, [336, 3, 64, 64] float32 in [-1, 1]."""
    with Image.open(SHEET) as file:
        sheet = torch.from_numpy(np.array(file.convert("RGB")))
    return from_pixels(sheet.reshape(ROWS, SIZE, COLUMNS, SIZE, 3).transpose(1, 2).flatten(0, 1))


def pack(rendered: Path) -> None:
    """Make the sheet from what render.mjs wrote: raw uint8 RGB, one portrait after the other."""
    portraits = read_images(rendered, SIZE, 3).numpy()
    chosen = np.random.default_rng(0).permutation(ROWS * COLUMNS) * STRIDE
    sheet = portraits[chosen].reshape(ROWS, COLUMNS, SIZE, SIZE, 3).swapaxes(1, 2)
    Image.fromarray(sheet.reshape(ROWS * SIZE, COLUMNS * SIZE, 3)).save(SHEET, lossless=True, method=6, quality=100)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))

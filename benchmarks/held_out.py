"""Held-out portraits of the embedded model's domain, on one sheet: quality is measured against them.

    (cd weights/openpeeps64 && npm install && node render.mjs ../../data)
    python -m benchmarks.held_out data/held_out.bin               # writes benchmarks/held_out.webp, lossless

Neighbouring seeds of DiceBear draw similar portraits, so every fifth is taken, and these are shuffled.
"""

import sys
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.sheet import SIZE, read_sheet, write_sheet
from weights.data import read_images

SHEET = Path(__file__).with_suffix(".webp")
ROWS, COLUMNS, STRIDE = 16, 21, 5
REAL = 200  # the first portraits serve as the real images that samples are compared with


def load_held_out() -> Tensor:
    """Load the sheet's portraits, [336, 3, 64, 64] float32 in [-1, 1]."""
    return read_sheet(SHEET)


def pack(rendered: Path) -> None:
    """Make the sheet from what render.mjs wrote: raw uint8 RGB, one portrait after the other."""
    portraits = read_images(rendered, SIZE, 3).numpy()
    chosen = np.random.default_rng(0).permutation(ROWS * COLUMNS) * STRIDE
    write_sheet(portraits[chosen].reshape(ROWS, COLUMNS, SIZE, SIZE, 3), SHEET)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))

"""Many small pictures in one lossless file."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.images import from_pixels

SIZE = 64  # pixels a side of every picture


def read_sheet(path: Path) -> Tensor:
    """Read the pictures, row by row, [N, 3, 64, 64] float32 in [-1, 1]."""
    with Image.open(path) as file:
        sheet = torch.from_numpy(np.array(file.convert("RGB")))
    return from_pixels(sheet.unflatten(1, (-1, SIZE)).unflatten(0, (-1, SIZE)).transpose(1, 2).flatten(0, 1))


def write_sheet(pictures: np.ndarray, path: Path) -> None:
    """Save pictures, [rows, columns, 64, 64, 3] uint8, as one WebP."""
    rows, columns = pictures.shape[:2]
    sheet = pictures.swapaxes(1, 2).reshape(rows * SIZE, columns * SIZE, 3)
    Image.fromarray(sheet).save(path, lossless=True, method=6, quality=100)

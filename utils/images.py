"""Images in and out: a reference → [-1, 1] at the model's size; samples → PNG files and a grid."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from utils.errors import InputError
from utils.files import open_regular, write_atomically
from utils.pictures import Picture, Tolerance, open_picture
from utils.resize_right import resize_matrix

BAND = 2**20  # pixels of a picture that are converted at a time
GRID_GAP = 2  # pixels between the pictures of a grid


def from_pixels(pixels: Tensor) -> Tensor:
    """[..., H, W, C] uint8 → [..., C, H, W] float32 in [-1, 1], the way back from `to_pixels`."""
    return pixels.movedim(-1, -3) / 127.5 - 1


def read_reference(
    path: Path, size: int, channels: int = 3, tolerance: Tolerance | None = None, sha256: str | None = None
) -> Tensor:
    """Read a picture, its short side resized to `size`, cropped around its centre.

    Args:
        path: the file.
        size: height and width wanted, in pixels.
        channels: 3 for colour, 1 for grey.
        tolerance: what the picture may cost and lack.
        sha256: what the file's content has to be.

    Returns:
        [channels, size, size], float32 in [-1, 1].

    Raises:
        InputError: it cannot be read as a picture, or is not the one it was.
    """
    with open_picture(path, tolerance) as picture:
        if sha256 not in (None, picture.sha256):
            raise InputError(f"{path}: was replaced during the run; the same command makes its images anew")
        picture.load(size)
        return _resize(picture, size, channels).clamp(-1, 1)


def _resize(picture: Picture, size: int, channels: int) -> Tensor:
    """The central square, [channels, size, size], of a decoded picture; band by band, for it may be huge."""
    scale = size / min(picture.height, picture.width)
    # Centres stay on each other, so that asking for the square alone is resizing and cropping in one.
    top, bottom = _around_square(picture.height, picture.width, size)
    left, right = _around_square(picture.width, picture.height, size)
    rows, columns = (
        resize_matrix(length, size, scale, pad_mode="symmetric").float() for length in (bottom - top, right - left)
    )
    squeezed = torch.zeros(channels, size, right - left)  # in height alone, to which each band adds its share
    height = max(1, BAND // (right - left))
    for start in range(top, bottom, height):
        stop = min(bottom, start + height)
        weights = rows[:, start - top : stop - top]
        (seen,) = weights.any(1).nonzero(as_tuple=True)
        band = from_pixels(torch.from_numpy(picture.pixels(slice(start, stop), slice(left, right), channels).copy()))
        squeezed[:, seen] += weights[seen] @ band
    square = squeezed @ columns.mT
    return torch.from_numpy(picture.turn(square.movedim(0, -1).numpy()).copy()).movedim(-1, 0)


def _around_square(length: int, other: int, size: int) -> tuple[int, int]:
    """From where to where a side counts: what no pixel of the central square sees is cut off, the centre stays it.

    A picture may be a single row of a hundred million pixels.
    """
    short = min(length, other)
    margin = math.ceil(2 * max(1, short / size)) + 2  # half of the cubic kernel's width, and some
    cut = max(0, (length - short) // 2 - margin)
    return cut, length - cut


def to_pixels(images: Tensor) -> np.ndarray:
    """[..., C, H, W] in [-1, 1] → [..., H, W, 3] uint8."""
    pixels = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)
    return pixels.expand(*pixels.shape[:-1], 3).numpy()


def read_pixels(path: Path) -> np.ndarray:
    """A PNG of ours, [H, W, 3] uint8."""
    with open_regular(path) as stream, Image.open(stream, formats=["PNG"]) as file:
        return np.asarray(file.convert("RGB"))


def save_png(pixels: np.ndarray, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write a PNG, whole or not at all.

    Args:
        pixels: [H, W, 3] uint8.
        path: where to.
        text: text chunks to carry, name → value.

    Raises:
        RunError: it cannot be written.
    """
    chunks = PngInfo()
    for name, value in (text or {}).items():
        chunks.add_itxt(name, value)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=chunks)
    write_atomically(path, file.getvalue())


def make_sheet(pictures: np.ndarray, columns: int = 8) -> np.ndarray:
    """[N, H, W, 3] uint8 in rows of so many, [H', W', 3]."""
    return make_grid([list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])


def make_grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Lay pictures out in rows on white.

    Args:
        rows: pictures [H, W, 3] uint8, all of one size; rows may differ in length.

    Returns:
        [H', W', 3] uint8.
    """
    height, width = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    step_y, step_x = height + GRID_GAP, width + GRID_GAP
    grid = np.full((len(rows) * step_y - GRID_GAP, columns * step_x - GRID_GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            grid[y * step_y : y * step_y + height, x * step_x : x * step_x + width] = picture
    return grid

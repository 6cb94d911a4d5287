"""Images in and out: a reference → [-1, 1] at the model's size; samples → PNG files and a grid."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, zip_longest
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

Shape = tuple[int, int]  # height and width, in pixels


def from_pixels(pixels: Tensor) -> Tensor:
    """[..., H, W, C] uint8 → [..., C, H, W] float32 in [-1, 1], the way back from `to_pixels`."""
    return pixels.movedim(-1, -3) / 127.5 - 1


def read_reference(
    path: Path,
    size: int | Shape,
    channels: int = 3,
    tolerance: Tolerance | None = None,
    sha256: str | None = None,
    canvas: Shape | None = None,
) -> Tensor:
    """Read a picture, resized until it just covers `size`, cropped around its centre.

    Args:
        path: the file.
        size: (height, width) wanted, in pixels, or one number for a square.
        channels: 3 for colour, 1 for grey.
        tolerance: what the picture may cost and lack.
        sha256: what the file's content has to be.
        canvas: crop to this larger (height, width) instead; where the picture ends, it is mirrored.

    Returns:
        [channels, H, W], float32 in [-1, 1].

    Raises:
        InputError: it cannot be read as a picture, or is not the one it was.
    """
    shape = (size, size) if isinstance(size, int) else size
    with open_picture(path, tolerance) as picture:
        if sha256 not in (None, picture.sha256):
            raise InputError(f"{path}: was replaced during the run; the same command makes its images anew")
        picture.load(max(shape))
        return _resize(picture, picture.swap(shape), picture.swap(canvas or shape), channels).clamp(-1, 1)


def _resize(picture: Picture, shape: Shape, canvas: Shape, channels: int) -> Tensor:
    """The middle of a decoded picture that just covers `shape`, as much of it as `canvas` is; [channels, H, W].

    Band by band, for the picture may be huge. Both shapes are as the picture is stored.
    """
    sides = list(zip((picture.height, picture.width), shape, strict=True))
    shrink, scale = min(have / want for have, want in sides), max(want / have for have, want in sides)
    # Centres stay on each other, so that asking for the middle alone is resizing and cropping in one.
    top, bottom = _around_middle(picture.height, canvas[0], shrink)
    left, right = _around_middle(picture.width, canvas[1], shrink)
    rows, columns = (
        resize_matrix(length, size, scale, pad_mode="symmetric").float()
        for length, size in zip((bottom - top, right - left), canvas, strict=True)
    )
    squeezed = torch.zeros(channels, canvas[0], right - left)  # in height alone, to which each band adds its share
    height = max(1, BAND // (right - left))
    for start in range(top, bottom, height):
        stop = min(bottom, start + height)
        weights = rows[:, start - top : stop - top]
        (seen,) = weights.any(1).nonzero(as_tuple=True)
        band = from_pixels(torch.from_numpy(picture.pixels(slice(start, stop), slice(left, right), channels).copy()))
        squeezed[:, seen] += weights[seen] @ band
    middle = squeezed @ columns.mT
    return torch.from_numpy(picture.turn(middle.movedim(0, -1).numpy()).copy()).movedim(-1, 0)


def _around_middle(length: int, size: int, shrink: float) -> tuple[int, int]:
    """From where to where a side counts: what no pixel of the middle, `size` when shrunk, sees is cut off.

    The centre stays it. A picture may be a single row of a hundred million pixels.
    """
    margin = math.ceil(2 * max(1, shrink)) + 2  # half of the cubic kernel's width, and some
    cut = max(0, (length - round(shrink * size)) // 2 - margin)
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
        rows: pictures [H, W, 3] uint8; rows may differ in length.

    Returns:
        [H', W', 3] uint8.
    """
    columns = [[picture for picture in column if picture is not None] for column in zip_longest(*rows)]
    tops = _places(max(picture.shape[0] for picture in row) for row in rows)
    lefts = _places(max(picture.shape[1] for picture in column) for column in columns)
    grid = np.full((tops[-1] - GRID_GAP, lefts[-1] - GRID_GAP, 3), 255, np.uint8)
    for top, row in zip(tops, rows, strict=False):
        for left, picture in zip(lefts, row, strict=False):
            grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid


def _places(sides: Iterable[int]) -> list[int]:
    """Where pictures of such sides begin, one after the other, and where a further one would."""
    return list(accumulate(sides, lambda place, side: place + side + GRID_GAP, initial=0))

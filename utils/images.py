"""Images in and out: a reference → [-1, 1] at the model's size; samples → PNG files and grids."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo, iTXt
from torch import Tensor

from utils.arrays import ArrayFile, open_reference
from utils.errors import InputError
from utils.files import open_regular, write_atomically
from utils.pictures import PictureFile, PictureLimits, ValueRange
from utils.resize_right import resize_matrix

BAND = 2**20  # pixels of a picture that are converted at a time
PNG_END = b"IEND\xaeB`\x82"
GRID_GAP, BLOCK_GAP = 2, 32  # pixels between the pictures of a grid, and between the blocks of a table
TILE = 128  # pixels of the longer side of a labelled grid's pictures, about
SCREEN = 1.6  # width over height, about

Shape = tuple[int, int]  # height and width, in pixels


def from_pixels(pixels: Tensor, value_range: ValueRange = (0, 255)) -> Tensor:
    """Map [..., H, W, C] to [..., C, H, W] float32, in [-1, 1] if in the range; `to_pixels` is the way back."""
    low, high = map(float, value_range)
    return ((pixels.movedim(-1, -3) - low) / ((high - low) / 2) - 1).float()


def read_reference(
    path: Path,
    size: int | Shape,
    channels: int = 3,
    limits: PictureLimits | None = None,
    sha256: str | None = None,
    canvas: Shape | None = None,
    value_range: ValueRange | None = None,
    channels_first: bool | None = None,
) -> Tensor:
    """Read a picture or an array, resized until it just covers `size` and cropped around its centre.

    Args:
        path: the file, see `open_reference`.
        size: (height, width) wanted, in pixels, or one number for a square.
        channels: 3 for colour, 1 for grey, and any number for arrays.
        limits: what the picture may cost and lack.
        sha256: what the hash of the file's content has to be.
        canvas: crop to this larger (height, width) instead; the picture is mirrored where it ends.
        value_range: the values that become -1 and 1; None for a picture's black and white.
        channels_first: of an array whose shape can be both, whether it is [C, H, W] rather than [H, W, C].

    Returns:
        [channels, H, W], float32; in [-1, 1], but for values of the file outside of `value_range`.

    Raises:
        InputError: it cannot be read, or is not the one it was, or is an array and `value_range` is missing.
    """
    shape = (size, size) if isinstance(size, int) else size
    with open_reference(path, channels, limits, value_range, channels_first) as picture:
        if sha256 not in (None, picture.sha256):
            raise InputError(f"{path}: was replaced during the run; run the same command again to redo its images")
        picture.load(max(shape))
        if picture.value_range is None:
            least, greatest = picture.extremes
            raise InputError(f"{path}: value_range is missing; its values are {least:g} … {greatest:g}")
        middle = _resize(picture, picture.swap(shape), picture.swap(canvas or shape), channels)
        # a kernel's overshoot is no value that anybody meant
        extremes = torch.tensor([[picture.extremes]], dtype=torch.float64)
        least, greatest = from_pixels(extremes, picture.value_range).flatten().tolist()
        middle = middle.clamp(min(-1, least), max(1, greatest))
        return torch.from_numpy(picture.turn(middle.movedim(0, -1).numpy()).copy()).movedim(-1, 0)


def _resize(picture: PictureFile | ArrayFile, shape: Shape, canvas: Shape, channels: int) -> Tensor:
    """Return the middle of a decoded picture that just covers `shape`, as much of it as `canvas` holds.

    The picture is converted in bands, for it may be huge. Both shapes, and [channels, H, W], are as it is stored.
    """
    shrink = min(picture.height / shape[0], picture.width / shape[1])
    scale = max(shape[0] / picture.height, shape[1] / picture.width)
    # What no pixel of the middle sees is cut off on both sides: a picture may be a single row of a hundred million
    # pixels. Centres stay on each other, so that asking for the middle alone is resizing and cropping in one.
    margin = math.ceil(2 * max(1, shrink)) + 2  # half of the cubic kernel's width, and some
    top, left = (
        max(0, (length - round(shrink * size)) // 2 - margin)
        for length, size in zip((picture.height, picture.width), canvas, strict=True)
    )
    bottom, right = picture.height - top, picture.width - left
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
        part = picture.pixels(slice(start, stop), slice(left, right), channels).copy()
        band = from_pixels(torch.from_numpy(part), picture.value_range or (0, 255))
        squeezed[:, seen] += weights[seen] @ band
    return squeezed @ columns.mT


def to_pixels(images: Tensor, show: Sequence[int] | None = None, white: int = 255) -> np.ndarray:
    """Map [..., C, H, W] in [-1, 1] to [..., H, W, 3], or to [..., H, W, 1] if one channel is shown.

    Args:
        images: of any number of channels.
        show: the channels to show, 1 to 3 of them, from 0; None for the first three. Where there are two, blue is 0.
        white: the largest value: 255 for uint8, 65535 for uint16.
    """
    shown = images.detach().float().cpu().movedim(-3, -1)
    shown = shown[..., list(range(min(3, shown.shape[-1])) if show is None else show)]
    if shown.shape[-1] == 2:
        shown = torch.cat([shown, torch.full_like(shown[..., :1], -1)], -1)
    pixels = ((shown + 1) * (white / 2)).round().clamp(0, white)
    return pixels.to(torch.uint8).numpy() if white == 255 else pixels.int().numpy().astype(np.uint16)


def read_pixels(path: Path) -> np.ndarray:
    """Read a PNG that `save_png` wrote, [H, W, 3] uint8."""
    with open_regular(path) as stream, Image.open(stream, formats=["PNG"]) as file:
        if file.mode == "I;16":
            return (np.asarray(file) >> 8).astype(np.uint8)[..., None].repeat(3, 2)
        return np.asarray(file.convert("RGB"))


def save_png(pixels: np.ndarray, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write a PNG, whole or not at all.

    Args:
        pixels: [H, W, 3] uint8; or [H, W, 1] uint8 or uint16, which becomes a grey PNG.
        path: where to.
        text: text chunks to store, name → value.

    Raises:
        RunError: it cannot be written.
    """
    chunks = PngInfo()
    for name, value in (text or {}).items():
        chunks.add_itxt(name, value)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, format="PNG", pnginfo=chunks)
    write_atomically(path, file.getvalue())


@dataclass(frozen=True)
class PngText:
    """The text in a file, none if it is not a PNG; and whether it is a PNG from its beginning to its end."""

    text: Mapping[str, str]
    is_whole: bool


def read_png_text(path: Path) -> PngText | None:
    """Read the text chunks of a PNG that `save_png` wrote; its pixels are checked by their checksums, not decoded.

    Returns:
        None where there is no file, or an empty one.

    Raises:
        InputError: something other than a file is there, or one that cannot be read, so that it may be anything.
    """
    text: dict[str, str] = {}
    try:
        with open_regular(path) as file:
            if not file.read(1):
                return None
            try:
                file.seek(-len(PNG_END), os.SEEK_END)
                is_whole = file.read() == PNG_END
                file.seek(0)
                with Image.open(file, formats=["PNG"]) as image:
                    text = {str(name): str(value) for name, value in image.info.items() if isinstance(value, iTXt)}
                    image.verify()
            except Exception:  # of any kind: it is damaged, or not a PNG
                is_whole = False
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return None
        problem = "cannot be read" if path.is_file() else "is in the way"
        raise InputError(f"{path}: {problem}: {error.strerror or error}") from None
    return PngText(text, is_whole)


def make_sheet(pictures: np.ndarray, columns: int = 8) -> np.ndarray:
    """Lay out [N, H, W, 3] uint8 in rows of so many pictures; return [H', W', 3]."""
    return make_grid([list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])


def make_grid(rows: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """Lay out pictures in rows and columns on white.

    Args:
        rows: pictures [H, W, 3] uint8, or None for an empty place; rows may differ in length.

    Returns:
        [H', W', 3] uint8.
    """

    def edges(lines: Sequence[Sequence[np.ndarray | None]], axis: int) -> list[int]:
        sides = [max((each.shape[axis] for each in line if each is not None), default=0) for line in lines]
        return list(accumulate(sides, lambda edge, side: edge + side + GRID_GAP, initial=0))

    tops, lefts = edges(rows, 0), edges(list(zip_longest(*rows)), 1)
    grid = np.full((tops[-1] - GRID_GAP, lefts[-1] - GRID_GAP, 3), 255, np.uint8)
    for top, row in zip(tops, rows, strict=False):
        for left, picture in zip(lefts, row, strict=False):
            if picture is not None:
                grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid


def make_labelled_grid(
    rows: Sequence[Sequence[np.ndarray | None]], labels: Sequence[str], note: str = ""
) -> np.ndarray:
    """Lay out a table of pictures of one size under column labels, in blocks side by side that fill a screen.

    Small pictures are enlarged by a whole factor, and large ones reduced by one, to about `TILE` pixels.

    Args:
        rows: of pictures [H, W, 3] uint8, or None for an empty place.
        labels: one for each column.
        note: a line to stand below.

    Returns:
        [H', W', 3] uint8.
    """
    longer = max(max(picture.shape[:2]) for row in rows for picture in row if picture is not None)
    times, factor = max(1, round(TILE / longer)), max(1, math.ceil(longer / (2 * TILE)))

    def resize(picture: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(picture).reduce(factor)).repeat(times, 0).repeat(times, 1)

    tiles = [[None if picture is None else resize(picture) for picture in row] for row in rows]
    height, width = next(tile.shape[:2] for row in tiles for tile in row if tile is not None)
    blocks = round(math.sqrt(SCREEN * len(rows) * height / (len(labels) * width)))
    length = math.ceil(len(rows) / max(1, blocks))
    header = [_draw_text(label) for label in labels]
    margin = np.full((1, BLOCK_GAP, 3), 255, np.uint8)
    parts: list[np.ndarray | None] = []
    for start in range(0, len(rows), length):
        parts += [make_grid([header, *tiles[start : start + length]]), margin]
    table = make_grid([parts[:-1]])
    return make_grid([[table], [_draw_text(note)]]) if note else table


def _draw_text(text: str) -> np.ndarray:
    """Draw a line in Pillow's default font, [H, W, 3] uint8."""
    font = ImageFont.load_default(13)
    image = Image.new("RGB", (max(1, math.ceil(font.getlength(text))), 20), "white")
    ImageDraw.Draw(image).text((0, 2), text, "black", font)
    return np.asarray(image)

"""Images in and out: a reference → [-1, 1] at the model's size; samples → PNG files and grids."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo, iTXt
from torch import Tensor

from utils.arrays import open_reference
from utils.errors import InputError
from utils.files import open_regular, write_atomically
from utils.pictures import TURNED, Reading, ValueRange, open_picture
from utils.resize_right import resize_matrix

BAND = 2**20  # pixels of a picture that are converted at a time
MAX_WEIGHTS = 2**28  # of a matrix that resizes an axis: 2 GB
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
    reading: Reading = Reading(),
    sha256: str | None = None,
    canvas: Shape | None = None,
    opacity: bool = False,
) -> Tensor:
    """Read a picture or an array, resized until it just covers `size` and cropped around its centre.

    Args:
        path: the file, see `open_reference`.
        size: (height, width) wanted, in pixels, or one number for a square.
        reading: how it is read.
        sha256: what the hash of the file's content has to be.
        canvas: crop to this larger (height, width) instead; the picture is mirrored where it ends.
        opacity: add a channel of it, from -1 where the picture is transparent to 1 where it is opaque.

    Returns:
        [C, H, W], float32; in [-1, 1], but for values of the file outside of the value range. One channel more with
        opacity.

    Raises:
        InputError: it cannot be read, is not the one it was, is too long a strip, or is an array and `value_range` is
            missing.
    """
    seen = (size, size) if isinstance(size, int) else size
    with open_reference(path, reading) as picture:
        if sha256 not in (None, picture.sha256):
            raise InputError(f"{path}: was replaced during the run; run the same command again to redo its images")
        picture.load(max(seen))
        if picture.value_range is None:
            least, greatest = picture.extremes
            raise InputError(f"{path}: value_range is missing; its values are {least:g} … {greatest:g}")
        is_turned, stored = picture.orientation in TURNED, (picture.height, picture.width)
        shape, canvas = (each[::-1] if is_turned else each for each in (seen, canvas or seen))  # as it is stored
        shrink = min(stored[0] / shape[0], stored[1] / shape[1])
        scale = max(shape[0] / stored[0], shape[1] / stored[1])
        # What no pixel of the middle sees is cut off on both sides: a picture may be a single row of a hundred million
        # pixels. Centres stay on each other, so that asking for the middle alone is resizing and cropping in one.
        margin = math.ceil(2 * max(1, shrink)) + 2  # half of the cubic kernel's width, and some
        top, left = (
            max(0, (side - round(shrink * wanted)) // 2 - margin) for side, wanted in zip(stored, canvas, strict=True)
        )
        bottom, right = picture.height - top, picture.width - left
        if max((bottom - top) * canvas[0], (right - left) * canvas[1]) > MAX_WEIGHTS:
            raise InputError(
                f"{path}: has {picture.shape[1]}×{picture.shape[0]} pixels, too long and thin a strip to be resized to "
                f"{seen[1]}×{seen[0]}; crop it"
            )
        rows, columns = (
            resize_matrix(side, wanted, scale, pad_mode="symmetric").float()
            for side, wanted in zip((bottom - top, right - left), canvas, strict=True)
        )
        # in height alone, to which each band adds its share
        squeezed = torch.zeros(reading.channels + opacity, canvas[0], right - left)
        height = max(1, BAND // (right - left))
        for start in range(top, bottom, height):  # in bands, for the picture may be huge
            stop = min(bottom, start + height)
            weights = rows[:, start - top : stop - top]
            (touched,) = weights.any(1).nonzero(as_tuple=True)
            part = picture.pixels(slice(start, stop), slice(left, right))
            band = from_pixels(torch.from_numpy(part.copy()), picture.value_range)
            if opacity:
                alpha = torch.from_numpy(picture.opacity(slice(start, stop), slice(left, right)).copy())
                band = torch.cat([band, from_pixels(alpha)])
            squeezed[:, touched] += weights[touched] @ band
        # a kernel's overshoot is no value that anybody meant
        extremes = torch.tensor([[picture.extremes]], dtype=torch.float64)
        least, greatest = from_pixels(extremes, picture.value_range).flatten().tolist()
        image = (squeezed @ columns.mT).clamp(min(-1, least), max(1, greatest))
        image = image.mT if is_turned else image
        image = image.flip(1) if picture.orientation in (3, 4, 7, 8) else image
        return (image.flip(2) if picture.orientation in (2, 3, 6, 7) else image).contiguous()


def crop(images: Tensor, shape: Shape) -> Tensor:
    """Return the middle of images [..., H, W], of this shape."""
    top, left = ((have - want) // 2 for have, want in zip(images.shape[-2:], shape, strict=True))
    return images[..., top : top + shape[0], left : left + shape[1]]


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
    """Read a PNG that `save_png` wrote, [H, W, 3] uint8; raise InputError if it cannot be read."""
    with open_picture(path) as picture:
        picture.load()
        pixels = picture.pixels(slice(0, picture.height), slice(0, picture.width))
        return pixels if pixels.dtype == np.uint8 else (pixels / 257).round().astype(np.uint8)  # of 16 bits


def save_png(pixels: np.ndarray, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write a PNG, whole or not at all; raise RunError if it cannot be written.

    Args:
        pixels: [H, W, 3] uint8; or [H, W, 1] uint8 or uint16, which becomes a grey PNG.
        path: of the file.
        text: text chunks to store, name → value.
    """
    chunks = PngInfo()
    for name, value in (text or {}).items():
        chunks.add_itxt(name, value)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, format="PNG", pnginfo=chunks)
    write_atomically(path, file.getvalue())


@dataclass(frozen=True)
class PngText:
    """The text in a file, none if it is not a PNG; whether it is a PNG from its beginning to its end; and its size."""

    text: Mapping[str, str]
    is_whole: bool
    shape: Shape


def read_png_text(path: Path) -> PngText | None:
    """Read the text chunks of a PNG that `save_png` wrote, and check that all its pixels are there.

    Returns:
        None where there is no file, or an empty one.

    Raises:
        InputError: something other than a file is there, or one that cannot be read, so that it may be anything.
    """
    text: dict[str, str] = {}
    shape = 0, 0
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
                    shape = image.height, image.width
                    image.verify()  # the checksums
                with Image.open(file, formats=["PNG"]) as image:
                    image.load()  # what the checksums of a file whose pixels are missing do not show
            except Exception:  # of any kind: it is damaged, or not a PNG
                is_whole = False
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return None
        problem = "cannot be read" if path.is_file() else "is in the way"
        raise InputError(f"{path}: {problem}: {error.strerror or error}") from None
    return PngText(text, is_whole, shape)


def make_grid(rows: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """Lay out pictures [H, W, 3] uint8 in rows and columns on white: [H', W', 3] uint8.

    Rows may differ in length; None is an empty place.
    """
    tops, lefts = [0], [0]
    for edges, lines, axis in ((tops, rows, 0), (lefts, zip_longest(*rows), 1)):
        for line in lines:
            sides = (picture.shape[axis] for picture in line if picture is not None)
            edges.append(edges[-1] + max(sides, default=0) + GRID_GAP)
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
    tiles = [
        [
            each if each is None else np.asarray(Image.fromarray(each).reduce(factor)).repeat(times, 0).repeat(times, 1)
            for each in row
        ]
        for row in rows
    ]
    height, width = next(tile.shape[:2] for row in tiles for tile in row if tile is not None)
    blocks = round(math.sqrt(SCREEN * len(rows) * height / (len(labels) * width)))
    length = math.ceil(len(rows) / max(1, blocks))
    font, texts = ImageFont.load_default(13), list[np.ndarray]()
    for text in (*labels, note):
        image = Image.new("RGB", (max(1, math.ceil(font.getlength(text))), 20), "white")
        ImageDraw.Draw(image).text((0, 2), text, "black", font)
        texts.append(np.asarray(image))
    *header, footer = texts
    margin = np.full((1, BLOCK_GAP, 3), 255, np.uint8)
    parts: list[np.ndarray | None] = []
    for start in range(0, len(rows), length):
        parts += [make_grid([header, *tiles[start : start + length]]), margin]
    table = make_grid([parts[:-1]])
    return make_grid([[table], [footer]]) if note else table

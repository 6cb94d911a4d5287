"""Images in and out: any picture file → [-1, 1] at the model's size; samples → PNG files and a grid."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from utils.errors import InputError
from utils.files import check_replaceable, open_regular, write_atomically
from utils.resize_right import resize

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # and no other: some of Pillow's readers start programs
LARGEST = 89_478_485  # pixels; Pillow's own limit, which it only warns of
GRID_GAP = 2  # pixels between the pictures of a grid


def from_pixels(pixels: Tensor) -> Tensor:
    """[..., H, W, C] uint8 → [..., C, H, W] float32 in [-1, 1], the way back from `to_pixels`."""
    return pixels.movedim(-1, -3) / 127.5 - 1


def decode(path: Path, channels: int = 3) -> np.ndarray:
    """Read a JPEG, PNG, BMP, TIFF or WebP file as a person sees it.

    EXIF orientation is honoured, transparency composited on white; greyscale, palette, 16-bit and CMYK
    pictures are converted.

    Args:
        path: the file.
        channels: 3 for colour, 1 for grey.

    Returns:
        [H, W, channels], uint8.

    Raises:
        InputError: it cannot be read as a picture.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise ValueError("is not a file")
        # Not within warnings.catch_warnings: threads that leave it in another order leave its filters behind.
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > LARGEST:
                raise ValueError(
                    f"has {file.width * file.height / 1e6:.0f} megapixels, and may have {LARGEST // 10**6}"
                )
            image = _to_mode(ImageOps.exif_transpose(file), "RGB" if channels == 3 else "L")
            return np.asarray(image).reshape(image.height, image.width, channels)
    except Exception as error:  # a decoder may fail on a broken file in any way
        raise InputError(f"{path}: cannot be read as an image: {_problem(error)}") from None


def _problem(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return f"is none of {', '.join(FORMATS)}, or damaged"
    return " ".join(str(error).split()) or repr(error)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert to 8-bit `mode` (RGB or L)."""
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip rather than scale
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pictures have no agreed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def read_reference(path: Path, size: int, channels: int = 3) -> Tensor:
    """Read a picture, its short side resized to `size`, cropped around its centre.

    Returns:
        [channels, size, size], float32 in [-1, 1].

    Raises:
        InputError: it cannot be read as a picture.
    """
    image = from_pixels(torch.from_numpy(_around_square(decode(path, channels), size).copy()))
    # Centres stay on each other, so that asking for the square alone is resizing and cropping in one.
    square = resize(image, size / min(image.shape[1:]), (size, size), pad_mode="symmetric")
    return square.clamp(-1, 1)


def _around_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut off what no pixel of the central square sees when it is resized to `size`; the centre stays the centre.

    A picture may be a single row of a hundred million pixels.
    """
    short = min(pixels.shape[:2])
    margin = math.ceil(2 * max(1, short / size)) + 2  # half of the cubic kernel's width, and some
    cuts = [max(0, (length - short) // 2 - margin) for length in pixels.shape[:2]]
    rows, columns = (slice(cut, length - cut) for cut, length in zip(cuts, pixels.shape[:2], strict=True))
    return pixels[rows, columns]


def to_pixels(images: Tensor) -> np.ndarray:
    """[..., C, H, W] in [-1, 1] → [..., H, W, 3] uint8."""
    pixels = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)
    return pixels.expand(*pixels.shape[:-1], 3).numpy()


def read_pixels(path: Path) -> np.ndarray:
    """A PNG of ours, [H, W, 3] uint8."""
    with open_regular(path) as stream, Image.open(stream) as file:
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


def read_text(path: Path) -> dict[str, str] | None:
    """The text chunks of a PNG.

    Returns:
        None where there is no file, or one that is not complete.

    Raises:
        InputError: something is there that is not a file, which no image can replace.
    """
    check_replaceable(path)
    if path.exists() and not path.is_file():  # a link to a pipe, say
        return None
    try:
        with Image.open(path, formats=["PNG"]) as file:
            file.load()
            return {str(name): value for name, value in file.info.items() if isinstance(value, str)}
    except Exception:  # damaged in whatever way
        return None


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

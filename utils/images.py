"""Images in and out: any picture file → [-1, 1] at the model's size; samples → PNG files and a grid."""

import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from utils.errors import InputError
from utils.files import write_atomically
from utils.resize_right import resize

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # and no other: some of Pillow's readers start programs
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
        with warnings.catch_warnings(action="ignore"):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as file:
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


def read_reference(
    path: Path, size: int | tuple[int, int], channels: int = 3, canvas: tuple[int, int] | None = None
) -> Tensor:
    """Read a picture, resized until it just covers `size`, cropped around its centre.

    Args:
        path: the file.
        size: (height, width), or one number for a square.
        channels: 3 for colour, 1 for grey.
        canvas: crop to this larger (height, width) instead; where the picture ends, it is mirrored.

    Returns:
        [channels, H, W], float32 in [-1, 1].

    Raises:
        InputError: it cannot be read as a picture.
    """
    shape = (size, size) if isinstance(size, int) else size
    pixels = decode(path, channels)
    scale = max(want / have for have, want in zip(pixels.shape[:2], shape, strict=True))
    image = from_pixels(torch.from_numpy(_middle(pixels, canvas or shape, scale).copy()))
    # Centres stay on each other, so that asking for the middle alone is resizing and cropping in one.
    return resize(image, scale, canvas or shape, pad_mode="symmetric").clamp(-1, 1)


def _middle(pixels: np.ndarray, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Cut off what no pixel of the middle, `shape` when resized, sees; the centre stays the centre.

    A picture may be a single row of a hundred million pixels.
    """
    margin = math.ceil(2 * max(1, 1 / scale)) + 2  # half of the cubic kernel's width, and some
    seen = [round(length / scale) for length in shape]
    cuts = [max(0, (have - want) // 2 - margin) for have, want in zip(pixels.shape[:2], seen, strict=True)]
    rows, columns = (slice(cut, length - cut) for cut, length in zip(cuts, pixels.shape[:2], strict=True))
    return pixels[rows, columns]


def to_pixels(images: Tensor) -> np.ndarray:
    """[..., C, H, W] in [-1, 1] → [..., H, W, 3] uint8."""
    pixels = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)
    return pixels.expand(*pixels.shape[:-1], 3).numpy()


def read_pixels(path: Path) -> np.ndarray:
    """A PNG of ours, [H, W, 3] uint8."""
    with Image.open(path) as file:
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
    if path.is_dir():
        raise InputError(f"{path}: is in the way: a folder where an image is to be written")
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

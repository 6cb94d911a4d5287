"""A picture file as a person sees it, 8-bit sRGB, by Pillow; what Pillow reads wrong is put right or refused."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError, features

from utils.batching import return_freed_memory
from utils.colours import ADOBE_GAMMA, ADOBE_RGB, declared_profile, rgb_profile, srgb_transform
from utils.errors import InputError
from utils.files import open_regular

FORMATS = ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"]  # few: some of Pillow's readers start programs
FORMATS += [name for name, codec in (("JPEG2000", "jpg_2000"), ("AVIF", "avif")) if codec in features.get_supported()]
HUGE = 64  # megapixels: a larger JPEG is decoded no finer than is needed
FINEST = 4  # pixels of the shorter side for each that it is resized to
MAX_PIXEL_BYTES, MAX_OTHER_BYTES = 8, 2**26  # of a file: for each pixel allowed (four channels of 16 bits), and beside

DEEP_GREYS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of more than 8 bits
MIN_WHITE = 2**14  # a picture whose 16-bit numbers are all smaller has 12 bits, say, and its white is not known
BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
ADVICE = "save it with 8 bits, or with 16 of which white takes the largest number, or as an array"

ValueRange = tuple[float, float]  # the values that mean -1 and 1, the lower first

Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is one for all; here each picture is measured before it is decoded
PngImagePlugin.MAX_TEXT_CHUNK = 2**26  # bytes unpacked, also of a colour profile


@dataclass(frozen=True)
class PictureLimits:
    """What a picture may cost and lack.

    Attributes:
        max_megapixels: the largest picture to decode.
        allow_truncated: whether to read one whose pixels are cut short; the missing ones are black.
    """

    max_megapixels: float = 512
    allow_truncated: bool = False


class PictureFile:
    """An open picture file; `open_picture` makes one.

    Attributes:
        sha256: of the file, 64 hexadecimal digits.
        megapixels: its size.
        stored: height and width in pixels.
        height, width: the same; after `load`, of what was decoded.
        orientation: EXIF's, 1 … 8; known after `load`.
        notes: remarks on how it was read, a few words each.
        value_range: the values that mean -1 and 1: as given, or after `load` black and white, 0 and 255 or 65535.
        extremes: the least value and the greatest that it may have; known after `load`.
    """

    axes: str = "HWC"
    extremes: tuple[float, float] = (0, 255)

    def __init__(self, file: BufferedReader, limits: PictureLimits, value_range: ValueRange | None = None) -> None:
        self.file, self.limits, self.notes, self.orientation = file, limits, list[str](), 1
        self.value_range = value_range
        self._status = os.fstat(file.fileno())
        self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        self.image: Any = Image.open(file, formats=FORMATS)
        self.stored = self.height, self.width = self.image.size[::-1]
        self.megapixels = self.width * self.height / 1e6
        if self.megapixels > limits.max_megapixels:
            raise ValueError(f"has {self.megapixels:.1f} megapixels; the limit is {limits.max_megapixels:g}")
        self._rawmode = check_numbers(self.image, value_range is not None)
        try:
            is_animated = getattr(self.image, "is_animated", False)
        except Exception:  # of any kind, in a frame after the first
            self.image.seek(0)
            is_animated = True
        self.notes += ["several frames, of which the first is used"] if is_animated else []
        self._profile = declared_profile(self.image, file)

    def load(self, size: int | None = None) -> None:
        """Decode the pixels.

        Args:
            size: the shorter side will be resized to this; a huge JPEG is decoded no finer than that needs.

        Raises:
            ValueError, OSError: they are damaged or of unknown meaning, or the file has been changed meanwhile.
        """
        if size and self.megapixels > HUGE:
            self.image.draft(None, (FINEST * size, FINEST * size))
        try:
            self.image.load()
        except OSError:
            self.image.tile = []  # what was decoded stays; without any left to decode, it is a picture
            if not self.limits.allow_truncated or self.image.getbbox(alpha_only=False) is None:
                raise
            self.notes.append("pixels cut short; the missing ones are black")
        status = os.fstat(self.file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise ValueError("was changed while it was read")
        least, greatest = check_white(self.image, self._rawmode, self.value_range is not None)
        if self.image.format == "BMP" and self.image.mode == "RGBA" and self.image.getextrema()[3] == (0, 0):
            self.image = self.image.convert("RGB")  # programs leave the fourth byte empty
        self.width, self.height = self.image.size
        profile = self._profile
        try:
            exif = self.image.getexif()
            camera = exif.get_ifd(ExifTags.IFD.Exif)
            interop = exif.get_ifd(ExifTags.IFD.Interop) if ExifTags.IFD.Interop in camera else {}
            self.orientation = exif.get(ExifTags.Base.Orientation, 1)
            # Design rule for Camera File system, 2.0
            if camera.get(ExifTags.Base.ColorSpace) == 2 or interop.get(ExifTags.Interop.InteropIndex) == "R03":
                profile = profile or rgb_profile(ADOBE_RGB, ADOBE_GAMMA)
        except Exception:  # of any kind, in what is not the picture
            self.notes.append("damaged metadata")
        self._use_profile(profile)
        # a colour profile gives numbers of 8 bits, unless they are not those of a picture
        self._is_deep = self.image.mode in DEEP_GREYS and (self._transform is None or self.value_range is not None)
        white = 65535 if self._is_deep else 255
        self.value_range = self.value_range or (0, white)
        self.extremes = (min(0, least), max(white, greatest)) if self._is_deep else (0, 255)

    def _use_profile(self, profile: bytes | None) -> None:
        """Find how colours become sRGB: the mode to bring them into, and a transform by littleCMS, or None.

        Args:
            profile: ICC; None where the picture has none.
        """
        mode = self.image.mode
        self._mode = mode if mode in ("CMYK", "LAB") else "L" if mode[0] in "1LI" else "RGB"
        self._transform = None
        try:
            if profile is not None:
                self._mode, self._transform = srgb_transform(self._mode, profile)
        except (ImageCms.PyCMSError, OSError, ValueError):
            self.notes.append("a colour profile that cannot be used, and is not")
        if mode == "LAB" and self._transform is None:
            self._transform = srgb_transform("LAB")[1]
        if mode == "CMYK" and profile is None:
            self.notes.append("CMYK without a colour profile, whose colours are a guess")

    def pixels(self, rows: slice, columns: slice, channels: int) -> np.ndarray:
        """Return a part of the decoded picture, as stored.

        Args:
            rows: which part, with a start and a stop.
            columns: the same.
            channels: 3 for colour, 1 for grey.

        Returns:
            [h, w, channels] uint8, sRGB, on white where it is transparent; of greys of more than 8 bits, their numbers
            as float64.
        """
        part = self.image.crop((columns.start, rows.start, columns.stop, rows.stop))
        if self._is_deep:
            return np.asarray(part, np.float64)[..., None].repeat(channels, 2)
        if part.mode in DEEP_GREYS:
            part = Image.fromarray((np.asarray(part) * (255 / 65535)).round().astype(np.uint8))
        alpha = None
        if part.has_transparency_data:
            part = part.convert("LA" if self._mode == "L" else "RGBA")
            alpha = part.getchannel("A")
        part = part if part.mode == self._mode else part.convert(self._mode)
        part = part if self._transform is None else self._transform.apply(part)
        part = part.convert("RGB" if channels == 3 else "L")
        if alpha is not None:
            part = Image.composite(part, Image.new(part.mode, part.size, "white"), alpha)
        return np.asarray(part).reshape(part.height, part.width, channels)

    def swap(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Turn a height and width as stored into those to be seen, or back; known after `load`."""
        return shape[::-1] if self.orientation in (5, 6, 7, 8) else shape

    def turn(self, pixels: np.ndarray) -> np.ndarray:
        """Turn [H, W, …] as stored into the picture to be seen, by EXIF's orientation."""
        pixels = pixels.swapaxes(0, 1) if self.orientation in (5, 6, 7, 8) else pixels
        pixels = pixels[::-1] if self.orientation in (3, 4, 7, 8) else pixels
        return pixels[:, ::-1] if self.orientation in (2, 3, 6, 7) else pixels


@contextmanager
def open_picture(
    path: Path, limits: PictureLimits | None = None, value_range: ValueRange | None = None
) -> Iterator[PictureFile]:
    """Open a picture file and see how large it is; nothing is decoded yet.

    Args:
        path: JPEG, PNG, BMP, TIFF, WebP, GIF, PBM/PGM/PPM, JPEG 2000 or AVIF.
        limits: what it may cost and lack.
        value_range: the values that mean -1 and 1, where they are not black and white.

    Raises:
        InputError: whatever goes wrong with the picture, also within the `with` block.
    """
    limits = limits or PictureLimits()
    try:
        with open_regular(path, MAX_OTHER_BYTES + int(MAX_PIXEL_BYTES * 1e6 * limits.max_megapixels)) as file:
            picture = PictureFile(file, limits, value_range)
            try:
                yield picture
            finally:
                picture.image.close()
                if picture.megapixels > HUGE:
                    return_freed_memory()
    except InputError:
        raise
    except Exception as error:  # a decoder may fail on a broken file in any way
        problem = getattr(error, "strerror", None) or " ".join(str(error).split()) or repr(error)
        if isinstance(error, UnidentifiedImageError):
            problem = f"is damaged, of a kind that Pillow does not read, or not one of {', '.join(FORMATS)}"
        elif not isinstance(error, (OSError, ValueError)):
            problem = f"is damaged ({problem})"
        raise InputError(f"{path}: cannot be read as an image: {problem}") from None


def check_numbers(image: Any, are_known: bool = False) -> str:
    """Check that Pillow will read the numbers of a picture right that is open, but not decoded yet.

    Args:
        image: the picture.
        are_known: whether the numbers have a meaning, so that they may not be scaled.

    Returns:
        Pillow's raw mode: how the file keeps its numbers.

    Raises:
        ValueError: it would read them wrong, or which of them is white is not known.
    """
    codec, _, _, arguments = (getattr(image, "tile", None) or [("", None, 0, "")])[0]
    rawmode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    tags = getattr(image, "tag_v2", {})
    is_deep = np.max(tags.get(BITS, 1)) > 8
    is_signed = 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)) and "32" not in rawmode
    is_clear = image.format == "PNG" and image.mode != "P" and "transparency" in image.info
    faults = {
        "16 bits of each colour in planes of their own": is_deep and tags.get(PLANES) == 2 and codec == "raw",
        "more than 8 bits, of which the smallest number is white": is_deep and tags.get(PHOTOMETRIC) == 0,
        "packed numbers of 32 bits in big-endian order": rawmode == "I;32BS" and codec == "libtiff",
        "signed numbers": is_signed,
        "floating-point numbers": image.mode == "F",
        "a transparent colour, and not 8 bits": is_clear and ";" in rawmode,
        "16 bits of each colour, of which 8 are read": are_known and bool(re.match("(RGB|LA).*16", rawmode)),
        "a largest number of its own": are_known and codec.startswith("ppm") and arguments[1] not in (255, 65535),
    }
    for fault, is_so in faults.items():
        if is_so:
            raise ValueError(f"has {fault}; {ADVICE}")
    return rawmode


def check_white(image: Any, rawmode: str, is_known: bool = False) -> tuple[int, int]:
    """Check that in a decoded picture of more than 8 bits, white can be the largest number of 16 bits.

    Args:
        image: the picture.
        rawmode: how the file keeps its numbers, in Pillow's words.
        is_known: whether it is known which number is white.

    Returns:
        The least number and the greatest of a grey picture of more than 8 bits, 0 and 0 of others.

    Raises:
        ValueError: it cannot.
    """
    low = high = 0
    if image.mode in DEEP_GREYS:
        for top in range(0, image.height, 256):  # in bands, for the picture may be huge
            band = np.asarray(image.crop((0, top, image.width, min(top + 256, image.height))))
            low, high = min(low, int(band.min())), max(high, int(band.max()))
    elif rawmode.startswith(("RGB", "LA")) and ";16" in rawmode:  # of which Pillow keeps the first 8 bits
        high = 256 * max(most for _, most in image.getextrema()[:3])
    if is_known:
        return low, high
    if low < 0 or high > 65535:
        raise ValueError(f"has numbers from {low} to {high}, whose white is not known; {ADVICE}")
    if 0 < high < MIN_WHITE:
        raise ValueError(f"has fewer than the 16 bits it claims; {ADVICE}")
    return (low, high) if image.mode in DEEP_GREYS else (0, 0)

"""A picture file as a person sees it, 8-bit sRGB, by Pillow; what Pillow reads wrong is put right or refused."""

import hashlib
import os
import re
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError, features

from utils.batching import return_freed_memory
from utils.colours import adobe_rgb_profile, declared_profile, srgb_transform
from utils.errors import InputError
from utils.files import check_unchanged, open_regular

FORMATS = ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"]  # few: some of Pillow's readers start programs
FORMATS += [name for name, codec in (("JPEG2000", "jpg_2000"), ("AVIF", "avif")) if codec in features.get_supported()]
HUGE = 64  # megapixels: a larger JPEG is decoded no finer than is needed
FINEST = 4  # pixels of the shorter side for each that it is resized to
MAX_WEBP_BYTES = 4 * 2**28  # four bytes for each of the most pixels that the format has, 2^14 on a side
MAX_PIXEL_BYTES, MAX_OTHER_BYTES = 8, 2**26  # of a file: for each pixel allowed (four channels of 16 bits), and beside

DEEP_GREYS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of more than 8 bits
MIN_WHITE = 2**14  # a picture whose 16-bit numbers are all smaller has 12 bits, say, and its white is not known
TURNED = (5, 6, 7, 8)  # EXIF's orientations that turn height into width
BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
ADVICE = "save it with 8 bits, or with 16 of which white takes the largest number, or as .npy and give value_range"

ValueRange = tuple[float, float]  # the values that mean -1 and 1, the lower first

Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is one for all; here each picture is measured before it is decoded
PngImagePlugin.MAX_TEXT_CHUNK = 2**26  # bytes unpacked, also of a colour profile


@dataclass(frozen=True)
class Reading:
    """How the files of references are read.

    Attributes:
        channels: C of the images: 3 for colour, 1 for grey, and any number for arrays.
        value_range: the values that mean -1 and 1; None for a picture's black and white.
        channels_first: whether an array whose shape can be both is [C, H, W] rather than [H, W, C].
        max_megapixels: the largest file to decode.
        allow_truncated: whether to read a picture whose pixels are cut short; the missing ones are black.
    """

    channels: int = 3
    value_range: ValueRange | None = None
    channels_first: bool | None = None
    max_megapixels: float = 512
    allow_truncated: bool = False


class PictureFile:
    """An open picture file; `open_picture` makes one.

    Attributes:
        sha256: of the file, 64 hexadecimal digits.
        megapixels: its size.
        shape: height and width in pixels; after `load`, as the picture is seen.
        height, width: of what is stored; after `load`, of what was decoded.
        orientation: EXIF's, 1 … 8; known after `load`.
        notes: remarks on how it was read, a few words each.
        axes: HW if grey is wanted, else HWC.
        value_range: the values that mean -1 and 1: as given, or after `load` black and white, 0 and 255 or 65535.
        extremes: the least value and the greatest that it may have; known after `load`.

    Raises:
        OSError: it is too large, or Pillow would read its numbers wrong.
    """

    extremes: tuple[float, float] = (0, 255)

    def __init__(self, file: BufferedReader, reading: Reading) -> None:
        self.file, self.reading, self.notes, self.orientation = file, reading, list[str](), 1
        self.value_range = value_range = reading.value_range
        self.axes = "HW" if reading.channels == 1 else "HWC"
        self._status = os.fstat(file.fileno())
        if file.read(12)[8:] == b"WEBP" and self._status.st_size > MAX_WEBP_BYTES:
            raise OSError(f"is larger than any WebP, {MAX_WEBP_BYTES >> 20} MB")  # Pillow would read all of it
        file.seek(0)
        self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        image: Any = Image.open(file, formats=FORMATS)
        self.image, self.shape = image, image.size[::-1]
        self.megapixels = image.width * image.height / 1e6
        if self.megapixels > reading.max_megapixels:
            raise OSError(f"has {self.megapixels:.1f} megapixels; the limit is {reading.max_megapixels:g}")
        codec, _, _, arguments = image.tile[0] if getattr(image, "tile", None) else ("", None, 0, "")
        self._rawmode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
        tags = getattr(image, "tag_v2", {})
        bits = np.max(tags.get(BITS, 1))
        is_odd = tags.get(PLANES) == 2 or tags.get(PHOTOMETRIC) == 0
        is_scaled = codec.startswith("ppm") and arguments[1] not in (255, 65535)
        is_clear = image.format == "PNG" and image.mode != "P" and "transparency" in image.info
        faults = {
            "numbers of 32 bits in big-endian order": "I;32B" in self._rawmode,
            "more than 8 bits, in planes of their own or of which the smallest number is white": bits > 8 and is_odd,
            "signed numbers": 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)) and "32" not in self._rawmode,
            "floating-point numbers": image.mode == "F",
            "a transparent colour, and not 8 bits": is_clear and ";" in self._rawmode,
            "a largest number of its own": value_range is not None and is_scaled,
            "16 bits of each colour, of which 8 are read": value_range is not None
            and re.match("(RGB|LA).*16", self._rawmode) is not None,
        }
        for fault, is_so in faults.items():
            if is_so:
                raise OSError(f"has {fault}; {ADVICE}")
        try:
            is_animated = getattr(image, "is_animated", False)
        except Exception:  # of any kind, in a frame after the first
            image.seek(0)
            is_animated = True
        self.notes += ["several frames, of which the first is used"] if is_animated else []

    def load(self, size: int | None = None) -> None:
        """Decode the pixels, and find how their colours become sRGB.

        Args:
            size: the shorter side will be resized to this; a huge JPEG is decoded no finer than that needs.

        Raises:
            OSError: they are damaged or of unknown meaning, or the file has been changed meanwhile.
        """
        profile = declared_profile(self.image, self.file)
        if size and self.megapixels > HUGE:
            self.image.draft(None, (FINEST * size, FINEST * size))
        try:
            self.image.load()
        except OSError:
            self.image.tile = []  # what was decoded stays; without any left to decode, it is a picture
            if not self.reading.allow_truncated or self.image.getbbox(alpha_only=False) is None:
                raise
            self.notes.append("pixels cut short; the missing ones are black")
        check_unchanged(self.file, self._status)
        low = high = 0
        if self.image.mode in DEEP_GREYS:
            for top in range(0, self.image.height, 256):  # in bands, for the picture may be huge
                band = np.asarray(self.image.crop((0, top, self.image.width, min(top + 256, self.image.height))))
                low, high = min(low, int(band.min())), max(high, int(band.max()))
        elif self._rawmode.startswith(("RGB", "LA")) and ";16" in self._rawmode:  # Pillow keeps the first 8 bits
            high = 256 * max(most for _, most in self.image.getextrema()[:3])
        if (low < 0 or high > 65535) and self.value_range is None:
            raise OSError(f"has numbers from {low} to {high}, whose white is not known; {ADVICE}")
        if 0 < high < MIN_WHITE and self.value_range is None:
            raise OSError(f"has fewer than the 16 bits it claims; {ADVICE}")
        if self.image.format == "BMP" and self.image.mode == "RGBA" and self.image.getextrema()[3] == (0, 0):
            self.image = self.image.convert("RGB")  # programs leave the fourth byte empty
        self.width, self.height = self.image.size
        mode = self.image.mode
        try:
            exif = self.image.getexif()
            camera = exif.get_ifd(ExifTags.IFD.Exif)
            interop = exif.get_ifd(ExifTags.IFD.Interop) if ExifTags.IFD.Interop in camera else {}
            self.orientation = exif.get(ExifTags.Base.Orientation, 1)
            # Design rule for Camera File system, 2.0
            if camera.get(ExifTags.Base.ColorSpace) == 2 or interop.get(ExifTags.Interop.InteropIndex) == "R03":
                profile = profile or adobe_rgb_profile()
        except Exception:  # of any kind, in what is not the picture
            self.notes.append("damaged metadata")
        self.shape = self.shape[::-1] if self.orientation in TURNED else self.shape
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
        # a colour profile gives numbers of 8 bits, unless they are not those of a picture
        self._is_deep = mode in DEEP_GREYS and (self._transform is None or self.value_range is not None)
        white = 65535 if self._is_deep else 255
        self.value_range = self.value_range or (0, white)
        self.extremes = (min(0, low), max(white, high)) if self._is_deep else (0, 255)

    def pixels(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a part of the decoded picture as stored; both slices have a start and a stop.

        Returns:
            [h, w, C] uint8, sRGB, on white where transparent; of greys of more than 8 bits, numbers as float64.

        Raises:
            OSError: fewer pixels were decoded than the file says.
        """
        part = self.image.crop((columns.start, rows.start, columns.stop, rows.stop))
        if part.mode in DEEP_GREYS and not self._is_deep:
            part = Image.fromarray((np.asarray(part) * (255 / 65535)).round().astype(np.uint8))
        alpha = None
        if part.has_transparency_data:
            part = part.convert("LA" if self._mode == "L" else "RGBA")
            alpha = part.getchannel("A")
        if not self._is_deep:
            part = part if part.mode == self._mode else part.convert(self._mode)
            part = part if self._transform is None else self._transform.apply(part)
            part = part.convert("L" if self.axes == "HW" else "RGB")
        if alpha is not None:
            part = Image.composite(part, Image.new(part.mode, part.size, "white"), alpha)
        pixels = np.asarray(part).reshape(part.height, part.width, -1)
        pixels = pixels.astype(np.float64).repeat(self.reading.channels, 2) if self._is_deep else pixels
        if pixels.shape[:2] != (rows.stop - rows.start, columns.stop - columns.start):
            raise OSError("is damaged: it has not the size that it says")
        return pixels

    def opacity(self, rows: slice, columns: slice) -> np.ndarray:
        """Return how opaque a part of the decoded picture is, as stored: [h, w, 1] uint8, 255 for opaque."""
        part = self.image.crop((columns.start, rows.start, columns.stop, rows.stop))
        if not part.has_transparency_data:
            return np.full((part.height, part.width, 1), 255, np.uint8)
        return np.asarray(part.convert("RGBA").getchannel("A"))[..., None]


@contextmanager
def open_picture(path: Path, reading: Reading = Reading()) -> Iterator[PictureFile]:
    """Open a picture file and see how large it is; nothing is decoded yet.

    Args:
        path: JPEG, PNG, BMP, TIFF, WebP, GIF, PBM/PGM/PPM, JPEG 2000 or AVIF.
        reading: how it is read.

    Raises:
        InputError: whatever Pillow or the system raises, also within the `with` block.
    """
    try:
        with open_regular(path, MAX_OTHER_BYTES + int(MAX_PIXEL_BYTES * 1e6 * reading.max_megapixels)) as file:
            picture = PictureFile(file, reading)
            try:
                yield picture
            finally:
                picture.image.close()
                if picture.megapixels > HUGE:
                    return_freed_memory()
    except InputError:
        raise
    except Exception as error:  # a decoder may fail on a broken file in any way
        modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
        if not isinstance(error, OSError) and not any(name.startswith("PIL.") for name in modules):
            raise  # a fault of the program
        raise refusal(path, error) from None


def refusal(path: Path, error: Exception) -> InputError:
    """Return what stands in a reader's way, in a line."""
    problem = getattr(error, "strerror", None) or textwrap.shorten(str(error), 300) or repr(error)
    if isinstance(error, UnidentifiedImageError):
        problem = f"is damaged, of a kind that Pillow does not read, or not one of {', '.join(FORMATS)}"
    elif not isinstance(error, (OSError, ValueError)):
        problem = f"is damaged ({problem})"
    return InputError(f"{path}: cannot be read as an image: {problem}")

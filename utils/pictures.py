"""Any picture file as a person sees it: 8-bit sRGB, whatever the file keeps its pixels in."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from utils.errors import InputError
from utils.icc_profiles import ADOBE_GAMMA, ADOBE_RGB, rgb_profile
from utils.memory import return_freed_memory
from utils.picture_colours import Colours, in_mode
from utils.picture_headers import DAMAGED, exif_is_whole, read_header
from utils.picture_values import layout_of, values_of

FORMATS = ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"]  # and few others: some of Pillow's readers start programs
FORMATS += [name for name, codec in (("JPEG2000", "jpg_2000"), ("AVIF", "avif")) if codec in features.get_supported()]
HUGE = 64  # megapixels: a larger JPEG is decoded no finer than is needed
FINEST = 4  # pixels of its shorter side for each that it is resized to
TURNS = {  # EXIF orientation: whether to swap rows with columns, then to mirror the rows, and the columns
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is one for all; here each picture is measured before it is decoded


@dataclass(frozen=True)
class Tolerance:
    """What a picture may cost, and what it may lack.

    Attributes:
        max_megapixels: the largest picture to decode.
        truncated: whether to read one whose pixels are cut short; what is missing is black.
    """

    max_megapixels: float = 512
    truncated: bool = False


class Picture:
    """An open picture file; `open_picture` makes one.

    Attributes:
        sha256: of the file, 64 hexadecimal digits.
        megapixels: its size.
        stored: height and width in pixels.
        height, width: the same; after `load`, of what was decoded.
        notes: what there is to be said of how it was read, a few words each.
    """

    def __init__(self, file: BufferedReader, tolerance: Tolerance) -> None:
        self.state = _state(file)
        self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        header = read_header(file)
        self.file, self.tolerance, self.profile = file, tolerance, header.profile
        self.notes = [*header.notes]
        self.image = Image.open(header.file, formats=FORMATS)
        self.width, self.height = self.image.size
        self.megapixels = self.width * self.height / 1e6
        self.stored = self.height, self.width
        self.orientation = 1
        if self.megapixels > tolerance.max_megapixels:
            raise ValueError(f"has {self.megapixels:.1f} megapixels; the limit is {tolerance.max_megapixels:g}")
        self.layout = layout_of(self.image)
        if header.frames > 1 or self._has_more_frames():
            self.notes.append("several frames, of which the first is used")
        if not isinstance(self.image.info.get("xmp", b""), bytes):  # of a TIFF, where Pillow would stumble over it
            del self.image.info["xmp"]
            self.notes.append(DAMAGED)

    def _has_more_frames(self) -> bool:
        try:
            return getattr(self.image, "is_animated", False)
        except Exception:  # of whatever kind, in what is not the first frame
            self.image.seek(0)
            return True

    def load(self, size: int | None = None) -> None:
        """Decode the pixels.

        Args:
            size: that the shorter side will be resized to; a huge JPEG is decoded no finer than that needs.

        Raises:
            ValueError, OSError: they are damaged or of unknown meaning, or the file has been changed meanwhile.
        """
        if size and self.megapixels > HUGE:
            self.image.draft(None, (FINEST * size, FINEST * size))
        try:
            self.image.load()
        except OSError:
            if not self.tolerance.truncated:
                raise
            self.image.tile = []  # what was decoded stays; without any left to decode, it is a picture
            if getattr(self.image, "_im", None) is None or self.image.getbbox(alpha_only=False) is None:
                raise
            self.notes.append("pixels cut short; the missing ones are black")
        if _state(self.file) != self.state:
            raise ValueError("was changed while it was read")
        self.width, self.height = self.image.size
        self.values = values_of(self.image, self.layout)
        self.orientation, profile = self._exif()
        profile = self.profile or self.image.info.get("icc_profile", profile)
        if "icc_profile" in self.image.info and not isinstance(profile, bytes):  # parts of it are missing
            profile = b""
        self.colours = Colours(self.image.mode, profile)
        self.notes += [self.colours.note] if self.colours.note else []

    def _exif(self) -> tuple[int, bytes | None]:
        """The orientation, and the profile of the colours that cameras note there."""
        try:
            exif = self.image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            camera = exif.get_ifd(ExifTags.IFD.Exif)
            colours = camera.get(ExifTags.Base.ColorSpace)
            further = exif.get_ifd(ExifTags.IFD.Interop) if ExifTags.IFD.Interop in camera else {}
            interop = further.get(ExifTags.Interop.InteropIndex)
            is_whole = exif_is_whole(self.image.info.get("exif", b""))
        except Exception:  # of whatever kind, in what is not the picture
            orientation, colours, interop, is_whole = 1, None, None, False
        self.notes += [] if is_whole else [DAMAGED]
        is_adobe = colours == 2 or interop == "R03"  # Design rule for Camera File system, 2.0
        return orientation, rgb_profile(ADOBE_RGB, ADOBE_GAMMA) if is_adobe else None

    def pixels(self, rows: slice, columns: slice, channels: int) -> np.ndarray:
        """A part of the decoded picture, as stored: [h, w, channels] uint8, sRGB, on white where it is transparent."""
        part = self.values.to_8_bits(self.image.crop((columns.start, rows.start, columns.stop, rows.stop)))
        alpha = None
        if part.has_transparency_data:
            part = part.convert("LA" if self.colours.mode == "L" else "RGBA")
            alpha = part.getchannel("A")
        part = in_mode(self.colours.to_srgb(part), "RGB" if channels == 3 else "L")
        if alpha is not None:
            part = Image.composite(part, Image.new(part.mode, part.size, "white"), alpha)
        return np.asarray(part).reshape(part.height, part.width, channels)

    def swap(self, shape: tuple[int, int]) -> tuple[int, int]:
        """A height and width as stored → as it is to be seen, and back. Known after `load`."""
        return shape[::-1] if self.orientation in TURNS and TURNS[self.orientation][0] else shape

    def turn(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W, …] as stored → as it is to be seen."""
        swap, rows, columns = TURNS.get(self.orientation, (False, False, False))
        pixels = pixels.swapaxes(0, 1) if swap else pixels
        return pixels[:: -1 if rows else 1, :: -1 if columns else 1]

    def close(self) -> None:
        """Let go of the pixels."""
        self.image.close()
        if self.megapixels > HUGE:
            return_freed_memory()


@contextmanager
def open_picture(path: Path, tolerance: Tolerance | None = None) -> Iterator[Picture]:
    """Open a picture file and see how large it is; nothing is decoded yet.

    Raises:
        InputError: of whatever goes wrong with the picture, also within the `with` block.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise ValueError("is not a file")
        with path.open("rb") as file, closing(Picture(file, tolerance or Tolerance())) as picture:
            yield picture
    except InputError:
        raise
    except Exception as error:  # a decoder may fail on a broken file in any way
        raise InputError(f"{path}: cannot be read as an image: {_problem(error)}") from None


def decode(path: Path, channels: int = 3, tolerance: Tolerance | None = None) -> np.ndarray:
    """Read a picture file as a person sees it.

    EXIF orientation is honoured, transparency is composited on white, and colours are converted to sRGB by what the
    file says of them.

    Args:
        path: the file: JPEG, PNG, BMP, TIFF, WebP, GIF, JPEG 2000 or AVIF.
        channels: 3 for colour, 1 for grey.
        tolerance: what the picture may cost and lack.

    Returns:
        [H, W, channels], uint8.

    Raises:
        InputError: it cannot be read as a picture.
    """
    with open_picture(path, tolerance) as picture:
        picture.load()
        return picture.turn(picture.pixels(slice(0, picture.height), slice(0, picture.width), channels))


def _state(file: BufferedReader) -> tuple[int, int]:
    """What changes of an open file that is written to; one put into its place is another file."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _problem(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return f"is none of {', '.join(FORMATS)}, or damaged, or of a kind that Pillow does not read"
    return " ".join(str(error).split()) or repr(error)

"""Arrays of numbers: .npy, .npz and TIFFs that are no pictures are read like pictures; samples are written as .npy."""

import hashlib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torch import Tensor

from utils.errors import InputError
from utils.files import check_unchanged, open_regular, write_atomically
from utils.pictures import (
    BITS,
    MAX_OTHER_BYTES,
    PHOTOMETRIC,
    PLANES,
    SAMPLE_FORMAT,
    PictureFile,
    Reading,
    ValueRange,
    open_picture,
    refusal,
)

NPY, NPZ, TIFF = b"\x93NUMPY", b"PK\3\4", (b"II*\0", b"MM\0*")
WIDTH, HEIGHT, PACKING, OFFSETS, ORIENTATION, SAMPLES, LENGTHS = 256, 257, 259, 273, 274, 277, 279  # tags of TIFF
PREDICTOR, TILES, EXTRA_SAMPLES = 317, 322, 338
DEFLATED = 8, 32946


class ArrayForm(NamedTuple):
    """How a file holds an image: its axes, HW, HWC or CHW, and the values that mean -1 and 1."""

    axes: str
    value_range: ValueRange


class Stored(NamedTuple):
    """What a file says of its numbers, and what reads so many bytes of them."""

    dtype: np.dtype
    shape: tuple[int, ...]
    order: Any
    axes: str | None
    read: Callable[[int], bytes]


class ArrayFile:
    """An open file of numbers, read like a `PictureFile`; `open_reference` makes one.

    Attributes:
        sha256, megapixels, shape, height, width, orientation, notes: as a `PictureFile` has them.
        axes: their order in the file: HW, HWC or CHW.
        value_range: the values that mean -1 and 1; None if unknown.
        extremes: the least value and the greatest; known after `load`.
    """

    orientation = 1

    def __init__(
        self, path: Path, file: BufferedReader, numbers: Stored, axes: str, value_range: ValueRange | None
    ) -> None:
        self.axes, self.value_range, self.notes = axes, value_range, list[str]()
        self._path, self._file, self._numbers, self._status = path, file, numbers, os.fstat(file.fileno())
        sides = dict(zip(axes, numbers.shape, strict=True))
        self.shape = self.height, self.width = sides["H"], sides["W"]
        self.megapixels = self.height * self.width / 1e6
        position = file.tell()
        file.seek(0)
        self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(position)

    def load(self, size: int | None = None) -> None:
        """Read the numbers, whatever the `size`; raise InputError if one is missing or not finite, or has changed."""
        dtype, shape, order, _, read = self._numbers
        with _refusing(self._path):
            content = read(length := math.prod(shape) * dtype.itemsize)
            if len(content) < length:
                raise ValueError(f"is cut short: {len(content)} of {length} bytes are there")
            check_unchanged(self._file, self._status)
            values = np.frombuffer(content, dtype).reshape(shape, order=order).astype(np.float64)
            values = values[..., None] if self.axes == "HW" else values
            values = values.transpose(1, 2, 0) if self.axes == "CHW" else values
            for row, column, channel in np.argwhere(~np.isfinite(values))[:1].tolist():
                value = values[row, column, channel]
                raise ValueError(f"contains {value} in row {row}, column {column}, channel {channel}, counted from 0")
        self._values, self.extremes = values, (float(values.min()), float(values.max()))

    def pixels(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a part of it, [h, w, C] float64."""
        return self._values[rows, columns]

    def opacity(self, rows: slice, columns: slice) -> np.ndarray:
        """Return how opaque a part is: [h, w, 1] uint8, 255 everywhere."""
        return np.full((rows.stop - rows.start, columns.stop - columns.start, 1), 255, np.uint8)


@contextmanager
def open_reference(path: Path, reading: Reading) -> Iterator[PictureFile | ArrayFile]:
    """Open a picture or an array.

    Args:
        path: a picture (see `open_picture`); .npy, or .npz of one array, of bool, integer or float type; a TIFF of
            signed or floating-point numbers, or of 16 bits in several channels, unpacked or deflated, in strips.
        reading: how it is read. An array has the shape [H, W, C], [C, H, W] or, where C is 1, [H, W].

    Raises:
        InputError: it cannot be read.
    """
    channels, most = reading.channels, reading.max_megapixels
    with ExitStack() as stack:
        with _refusing(path):
            file = stack.enter_context(open_regular(path, MAX_OTHER_BYTES + int(8 * channels * 1e6 * most)))
            if numbers := _find_numbers(file, reading.value_range):
                axes = _name_axes(numbers, channels, reading.channels_first)
                array = ArrayFile(path, file, numbers, axes, reading.value_range)
                if array.megapixels > most:
                    raise OSError(f"has {array.megapixels:.1f} megapixels; the limit is {most:g}")
        if numbers:
            yield array
            return
    if channels not in (1, 3):
        raise InputError(f"{path}: is a picture, of 1 or 3 channels; this model's images have {channels}: give arrays")
    with open_picture(path, reading) as picture:
        yield picture


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Raise InputError for whatever a damaged or hostile file makes its readers raise."""
    try:
        yield
    except Exception as error:
        raise refusal(path, error) from None


def _find_numbers(file: BufferedReader, value_range: ValueRange | None) -> Stored | None:
    """Return what a file says of its numbers; None if it is, or may be, a picture."""
    begin = file.read(8)
    file.seek(0)
    if begin.startswith(NPY):
        return _read_npy_header(file)
    if begin.startswith(NPZ):
        members = (archive := zipfile.ZipFile(file)).infolist()
        if len(members) != 1 or not members[0].filename.endswith(".npy"):
            raise ValueError(f"must contain one array, not {len(members)} entries")
        return _read_npy_header(archive.open(members[0]))
    if not begin.startswith(TIFF):
        return None
    try:
        head = ImageFileDirectory_v2(begin)
        file.seek(head.next)
        head.load(file)
        return _read_tiff_header(file, {tag: np.atleast_1d(head[tag]).tolist() for tag in head}, value_range)
    except (KeyError, SyntaxError, TypeError):  # as a picture, it is refused in Pillow's words
        return None


def _read_npy_header(stream: IO[bytes]) -> Stored:
    """Read what numpy's own format says before the numbers; raise ValueError if these are none, or it is damaged."""
    major, _ = np.lib.format.read_magic(stream)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(major)
    if read is None:
        raise ValueError("is of a version of the format that only names of fields need")
    shape, is_fortran, dtype = read(stream)
    if dtype.kind not in "biuf":
        raise ValueError(f"is of type {dtype}; only bool, integers and floating-point numbers can be read")
    return Stored(dtype, shape, "F" if is_fortran else "C", None, stream.read)


def _read_tiff_header(
    file: BufferedReader, tags: dict[int, list[Any]], value_range: ValueRange | None
) -> Stored | None:
    """Read what a TIFF's tags say of its numbers; None if they are a picture's.

    Raises ValueError for numbers that are packed or laid out in a way that is not read.
    """
    (samples,), bits = tags.get(SAMPLES, [1]), tags.get(BITS, [1])[0]
    kind = {1: "u", 2: "i", 3: "f"}[tags.get(SAMPLE_FORMAT, [1])[0]]
    is_seen = tags.get(PHOTOMETRIC) not in ([0], [1]) or tags.get(EXTRA_SAMPLES) in ([1], [2])  # in colour, or clear
    if kind == "u" and (bits <= 8 or samples == 1 or (is_seen and value_range is None)):
        return None
    if kind == "i" and bits == 32 and samples == 1 and value_range is None:  # as Pillow writes greys
        return None
    packing, planar = tags.get(PACKING, [1])[0], tags.get(PLANES, [1]) == [2]
    faults = {
        "in tiles": TILES in tags,
        f"packed by method {packing}": packing not in (1, *DEFLATED),
        "stored as differences": tags.get(PREDICTOR, [1]) != [1],
        "of several types": len({*tags.get(BITS, ())}) > 1 or len({*tags.get(SAMPLE_FORMAT, ())}) > 1,
        "of which the smallest is white": tags.get(PHOTOMETRIC) == [0],
        "turned by a tag": tags.get(ORIENTATION, [1]) != [1],
    }
    for fault, is_so in faults.items():
        if is_so:
            raise ValueError(f"has numbers {fault}: save it plain, or as .npy")
    (width,), (height,) = tags[WIDTH], tags[HEIGHT]
    strips = list(zip(tags[OFFSETS], tags[LENGTHS], strict=True))

    def read(length: int) -> bytes:
        content = bytearray()
        for offset, size in strips:
            if len(content) >= length:
                break
            file.seek(offset)
            strip = file.read(min(size, length))
            content += zlib.decompressobj().decompress(strip, length) if packing in DEFLATED else strip
        return bytes(content[:length])

    file.seek(0)
    order = {b"I": "<", b"M": ">"}[file.read(1)]
    shape = (height, width) if samples == 1 else (samples, height, width) if planar else (height, width, samples)
    axes = "HW" if samples == 1 else "CHW" if planar else "HWC"
    return Stored(np.dtype(f"{order}{kind}{bits // 8}"), shape, "C", axes, read)


def _name_axes(numbers: Stored, channels: int, channels_first: bool | None) -> str:
    """Return which axis is which: HW, HWC or CHW.

    Raises ValueError if the shape is not that of an image of so many channels, or can be either.
    """
    shape = numbers.shape
    if min(shape, default=0) < 1:
        raise ValueError(f"has shape {list(shape)}, which no image has")
    if len(shape) == 2 and channels == 1:
        return "HW"
    fits = [axes for axes in ("CHW", "HWC") if len(shape) == 3 and shape[axes.index("C")] == channels]
    if numbers.axes:
        fits = [axes for axes in fits if axes == numbers.axes]
    elif channels_first is not None:
        fits = [axes for axes in fits if axes == ("CHW" if channels_first else "HWC")]
    if not fits:
        wanted = f"{'[H, W], ' if channels == 1 else ''}[H, W, {channels}] or [{channels}, H, W]"
        said = "" if channels_first is None else f" with channels {'first' if channels_first else 'last'}"
        raise ValueError(f"has shape {list(shape)}, but the model takes {wanted}{said}")
    if len(fits) > 1:
        raise ValueError(f"has shape {list(shape)}, whose channels may be first or last: say channels_first or _last")
    return fits[0]


def save_array(image: Tensor, path: Path, form: ArrayForm) -> str:
    """Write an image [C, H, W] as .npy, float32, in a form's axes and units, not clipped; return the file's SHA-256."""
    low, high = form.value_range
    values = low + (image.double().cpu().numpy() + 1) * ((high - low) / 2)
    values, content = values if form.axes == "CHW" else values.transpose(1, 2, 0), io.BytesIO()
    values = values[..., 0] if form.axes == "HW" else values
    np.save(content, values.astype(np.float32, order="C"), allow_pickle=False)
    write_atomically(path, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()

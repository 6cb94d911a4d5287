"""What a picture file says that Pillow does not tell; and PNG without the parts that Pillow would stumble over."""

import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from utils.icc_profiles import BT709, coded_profile, rgb_profile
from utils.pieces import without
from utils.png import LARGEST, SIGNATURE, chunks_of, read_chunk

PNG_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
PNG_COLOURS = {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"acTL"}  # and how many frames there are
DAMAGED = "damaged metadata"
NO_SEGMENTS = {0xDA, 0xFF}  # the start of the pixels; a byte that fills up, behind which nothing is looked for
SEGMENTS = {0xE0: (b"JFIF", 7), 0xE2: (b"ICC_PROFILE\0", 14), 0xEE: (b"Adobe", 7)}  # of JPEG; bytes they have at least
MOST_TEXT = 2**20  # bytes, Pillow's own limit
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0\0", b"Raw profile type exif\0")  # where programs keep an EXIF orientation
EXIF_SIGNATURE, EXIF_ORDERS, CAMERA_DIRECTORY = b"Exif\0\0", {b"II*\0": "<", b"MM\0*": ">"}, 0x8769
SRGB_GAMMA = 45455  # of a gAMA chunk
AVIF_BRANDS = (b"ftypavif", b"ftypavis", b"ftypmif1", b"ftypmsf1")
EXIF_ITEM = re.compile(rb"(infe.{8})Exif", re.DOTALL)
BOXES = {b"jp2h": 0, b"meta": 4, b"iprp": 0, b"ipco": 0}  # lead to a colour box; bytes before the boxes inside


@dataclass(frozen=True)
class Header:
    """`file` is for Pillow to read; `profile` (ICC), `frames` and `notes` are what it would not tell."""

    file: BinaryIO
    profile: bytes | None = None
    frames: int = 1
    notes: tuple[str, ...] = ()


def read_header(file: BinaryIO) -> Header:
    """Look through a picture file of whatever format.

    Raises:
        ValueError: its colours are of a kind that cannot be shown.
    """
    file.seek(0)
    beginning = file.read(12)
    if beginning.startswith(SIGNATURE):
        return _read_png(file)
    if beginning.startswith(b"\xff\xd8"):
        return _read_jpeg(file)
    if beginning[:4] == b"RIFF" and beginning[8:] == b"WEBP":
        return _read_webp(file)
    profile = None
    if beginning[4:8] in (b"jP  ", b"ftyp"):
        end = file.seek(0, io.SEEK_END)
        profile = next(filter(None, map(_box_profile, _colour_boxes(file, 0, end))), None)
    file.seek(0)
    if beginning[4:] in AVIF_BRANDS:  # of an AVIF, EXIF data would tell nothing that counts, but stop it if damaged
        file = io.BytesIO(EXIF_ITEM.sub(rb"\1free", file.read()))
    return Header(file, profile)


def _read_webp(file: BinaryIO) -> Header:
    """Leave out metadata that are cut short: they come last."""
    file.seek(0)
    content = file.read()
    end = 12
    while end + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, end + 4)
        if end + 8 + length > len(content):
            break
        end += 8 + length + length % 2
    if content[end : end + 4] not in (b"EXIF", b"XMP "):
        return Header(io.BytesIO(content))
    return Header(io.BytesIO(b"RIFF" + struct.pack("<I", end - 8) + content[8:end]), notes=(DAMAGED,))


def _read_jpeg(file: BinaryIO) -> Header:
    """Leave out the segments that are shorter than what Pillow reads of them."""
    position, left_out = 2, []
    file.seek(position)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] not in NO_SEGMENTS:
        length = 2 + struct.unpack(">H", head[2:])[0]
        signature, shortest = SEGMENTS.get(head[1], (b"", 0))
        if length < 4 + shortest and file.read(len(signature)) == signature:
            left_out.append((position, length))
        position += length
        file.seek(position)
    return Header(without(file, left_out), notes=(DAMAGED,) if left_out else ())


def _read_png(file: BinaryIO) -> Header:
    """Leave to Pillow the chunks of pixels, transparency and orientation; read those of colour here."""
    chunks, left_out, damaged = dict[bytes, bytes](), [], False
    for chunk in chunks_of(file):
        keep = chunk.name in PNG_PIXELS
        if not keep and chunk.name not in (b"fcTL", b"fdAT"):  # of an animation's later frames
            data = read_chunk(file, chunk)
            if data is None:
                damaged = True
            else:
                chunks.setdefault(chunk.name, data if chunk.name in PNG_COLOURS else b"")
                keep = chunk.name in (b"tRNS", b"eXIf") or _tells_orientation(chunk.name, data)
        if not keep:
            left_out.append((chunk.position, chunk.length + 12))
    frames = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big")
    try:
        profile = _png_profile(chunks)
    except (struct.error, zlib.error):
        profile, damaged = None, True
    return Header(without(file, left_out), profile, frames, (DAMAGED,) if damaged else ())


def _tells_orientation(name: bytes, data: bytes) -> bool:
    """Whether this is a text that Pillow shall read."""
    if name not in (b"tEXt", b"iTXt", b"zTXt") or not data.startswith(ORIENTATION_TEXTS):
        return False
    try:
        return len(_unpack(data, MOST_TEXT) if name == b"zTXt" else data) < MOST_TEXT
    except zlib.error:
        return False


def _unpack(data: bytes, most: int = LARGEST) -> bytes:
    """The packed part of a chunk (name, zero, method, packed), at most so many bytes of it."""
    return zlib.decompressobj().decompress(data.partition(b"\0")[2][1:], most)


def _png_profile(chunks: Mapping[bytes, bytes]) -> bytes | None:
    """The colours of a PNG, by the first of the chunks that counts (PNG, third edition, 4.3).

    Raises:
        ValueError: they cannot be shown.
        struct.error, zlib.error: the chunk is damaged.
    """
    if b"cICP" in chunks:
        primaries, transfer, *_ = struct.unpack(">4B", chunks[b"cICP"])
        return coded_profile(primaries, transfer)
    if b"iCCP" in chunks:
        return _unpack(chunks[b"iCCP"])
    if b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return None
    value, chromaticities = SRGB_GAMMA, BT709
    if b"gAMA" in chunks:
        (value,) = struct.unpack(">I", chunks[b"gAMA"])
    if b"cHRM" in chunks:
        chromaticities = tuple(x / 100_000 for x in struct.unpack(">8I", chunks[b"cHRM"]))
    is_srgb = abs(value - SRGB_GAMMA) <= 0.05 * SRGB_GAMMA  # by libpng's tolerance
    try:
        return rgb_profile(chromaticities, None if is_srgb else 100_000 / value)
    except (ArithmeticError, ValueError):
        raise struct.error("no colours") from None


def _colour_boxes(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The content of each box of colours of a JPEG 2000 or AVIF file (ISO/IEC 14496-12)."""
    while start + 8 <= end:
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            (length,), header = struct.unpack(">Q", file.read(8).rjust(8, b"\0")), 16
        stop = min(end, start + length) if length else end
        if name == b"colr":
            yield file.read(min(stop - start - header, LARGEST))
        elif name in BOXES:
            yield from _colour_boxes(file, start + header + BOXES[name], stop)
        if stop < start + header:
            return  # damaged
        start = stop


def _box_profile(box: bytes) -> bytes | None:
    """The profile in a box of colours, or the one that its numbers mean.

    Raises:
        ValueError: colours that cannot be shown.
    """
    if box[:4] in (b"prof", b"rICC"):
        return box[4:]
    if box[:4] == b"nclx" and len(box) >= 8:
        return coded_profile(*struct.unpack(">HH", box[4:8]))
    if box[:1] == b"\2":  # JPEG 2000: a profile after three bytes
        return box[3:]
    return None


def exif_is_whole(exif: bytes) -> bool:
    """Whether the directories of EXIF data are all there, the picture's and the camera's; Pillow only warns of it.

    Raises:
        struct.error: they are not.
    """
    while exif.startswith(EXIF_SIGNATURE):
        exif = exif.removeprefix(EXIF_SIGNATURE)
    if not exif:
        return True
    order = EXIF_ORDERS.get(exif[:4])
    if order is None:
        return False
    directories = list(struct.unpack_from(order + "I", exif, 4))
    for start in directories:
        (count,) = struct.unpack_from(order + "H", exif, start)
        for i in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHII", exif, start + 2 + 12 * i)
            directories += [value] if tag == CAMERA_DIRECTORY and len(directories) == 1 else []
    return True

"""Picture files, and parts of them, that Pillow does not write: made byte by byte."""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from utils.images import read_reference, to_pixels
from utils.pictures import Reading, open_picture


def icc(space: bytes, tags: Mapping[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2, of a display or (CMYK) a printer."""
    table, content, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(
        ">II4s4s4s4s12s4s", start + len(content), 0, b"\2\x10\0\0", kind, space, connection, b"", b"acsp"
    )
    return header.ljust(68, b"\0") + fixed([0.9642, 1, 0.8249]) + bytes(48) + table + content


def fixed(values: Sequence[float]) -> bytes:
    return b"".join(struct.pack(">i", round(65536 * value)) for value in values)


def curve(gamma: float) -> bytes:
    """A tone curve that is a power."""
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def matrix_icc(colorants: Sequence[Sequence[float]], gamma: float) -> bytes:
    """The profile of an RGB space, by the XYZ (of D50) of its red, green and blue."""
    tags = {
        name: b"XYZ " + bytes(4) + fixed(xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)
    }
    return icc(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def cmyk_icc(lab_of: Mapping[tuple[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """The profile of a printer, by the Lab of the sixteen corners: no ink or all of it; linear between them."""
    corners = [lab_of[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    grid = bytes(round(L * 2.55) if i == 0 else L + 128 for corner in corners for i, L in enumerate(corner))
    identity = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed([1, 0, 0, 0, 1, 0, 0, 0, 1])
    return icc(b"CMYK", {b"A2B0": lut + identity * 4 + grid + identity * 3}, b"Lab ")


def chunk(name: bytes, data: bytes, wrong: bool = False) -> bytes:
    """A chunk of a PNG, if so wished with a wrong checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ wrong)


def png(image: Image.Image, *chunks: bytes, last: bytes = b"") -> bytes:
    """A PNG with these chunks before its pixels, and `last` after them."""
    file = io.BytesIO()
    image.save(file, "PNG")
    content = file.getvalue()
    return content[:33] + b"".join(chunks) + content[33:-12] + last + content[-12:]


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """A JPEG with one more segment at its beginning."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture file of this kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(
    pixels: np.ndarray, photometric: int = 1, bits: int | None = None, sign: int = 1, order: str = "<",
    separate: bool = False, packed: bool = False, tags: Mapping[int, int] | None = None, width: int | None = None,
) -> bytes:  # fmt: skip
    """A TIFF of [H, W] or [H, W, C] numbers, or of [H, bytes of a row] (`bits` and `width` given) as they are."""
    bits = bits or 8 * pixels.itemsize
    height, width, channels = pixels.shape[0], width or pixels.shape[1], pixels.shape[2] if pixels.ndim == 3 else 1
    planes = [pixels[..., i] for i in range(channels)] if separate else [pixels]
    strips = [plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    fields: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits] * channels), 259: ("H", [8 if packed else 1]),
        262: ("H", [photometric]), 277: ("H", [channels]), 278: ("I", [height]), 279: ("I", [*map(len, strips)]),
        284: ("H", [2 if separate else 1]), 339: ("H", [sign] * channels),
    } | {tag: ("H", [value]) for tag, value in (tags or {}).items()}  # fmt: skip

    def head(offsets: list[int]) -> bytes:
        table, values = struct.pack(order + "H", len(fields) + 1), b""
        for tag, (letter, numbers) in sorted((fields | {273: ("I", offsets)}).items()):
            raw = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
            if len(raw) > 4:
                values, raw = values + raw, struct.pack(order + "I", 10 + 12 * (len(fields) + 1) + 4 + len(values))
            table += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[letter], len(numbers)) + raw.ljust(4, b"\0")
        return ({"<": b"II*\0", ">": b"MM\0*"}[order]) + struct.pack(order + "I", 8) + table + bytes(4) + values

    start = len(head([0] * len(strips)))
    return head([start + sum(map(len, strips[:i])) for i in range(len(strips))]) + b"".join(strips)


def decode(path: Path, reading: Reading = Reading()) -> np.ndarray:
    """A picture file as a person sees it, [H, W, channels] uint8."""
    with open_picture(path, reading) as picture:
        picture.load()
    return to_pixels(read_reference(path, picture.shape, reading))[..., : reading.channels]

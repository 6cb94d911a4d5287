"""The chunks of PNG files, and the text in them; the pixels are not decoded."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from utils.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 2**26  # bytes of a chunk that is read


class Chunk(NamedTuple):
    """Where in the file a chunk begins, its name, and how many bytes of data follow."""

    position: int
    name: bytes
    length: int


@dataclass(frozen=True)
class PngText:
    """The text in a file, none if it is no PNG; and whether it is a PNG from its beginning to its end."""

    text: Mapping[str, str]
    is_whole: bool


def chunks_of(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a PNG, as far as they go: the last of a whole one is IEND."""
    position = len(SIGNATURE)
    file.seek(position)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        yield Chunk(position, name, length)
        if name == b"IEND":
            return
        position += length + 12
        file.seek(position)


def read_chunk(file: BinaryIO, chunk: Chunk) -> bytes | None:
    """The data of a chunk; None where the checksum denies them, or they are too many to read."""
    if chunk.length > LARGEST:
        return None
    file.seek(chunk.position + 8)
    data = file.read(chunk.length)
    return data if file.read(4) == struct.pack(">I", zlib.crc32(chunk.name + data)) else None


def read_text(path: Path) -> PngText | None:
    """What a PNG says in text chunks of the kind that `save_png` writes.

    Returns:
        None where there is no file, or an empty one.

    Raises:
        InputError: what is there is no file, or cannot be read, so that it may be anything.
    """
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is in the way: a link that leads nowhere")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is in the way, and not a file")
    try:
        with path.open("rb") as file:
            if not (beginning := file.read(len(SIGNATURE))):
                return None
            return _text_of(file) if beginning == SIGNATURE else PngText({}, False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def _text_of(file: BinaryIO) -> PngText:
    text, is_whole, name = dict[str, str](), True, b""
    for chunk in chunks_of(file):
        data, name = read_chunk(file, chunk), chunk.name
        is_whole = is_whole and data is not None
        if data and name == b"iTXt":
            key, _, rest = data.partition(b"\0\0\0")  # packed texts, which are not ours, have a one in there
            text[key.decode("latin-1")] = rest.split(b"\0", 2)[-1].decode("utf-8", "replace")
    return PngText(text, is_whole and name == b"IEND")

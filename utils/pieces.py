"""Parts of a file, read as if they were a file of their own."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO

BUFFER = 2**16  # bytes


def without(file: BinaryIO, spans: Sequence[tuple[int, int]]) -> BinaryIO:
    """A file less some (start, length) of it, which are in order; at its beginning, to be read."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not spans:
        return file
    starts = [0, *(start + length for start, length in spans)]
    stops = [*(start for start, _ in spans), end]
    pieces = [(start, stop - start) for start, stop in zip(starts, stops, strict=True) if start < stop]
    return io.BufferedReader(Pieces(file, pieces), BUFFER)


class Pieces(io.RawIOBase):
    """Pieces of a file, read as one.

    Args:
        pieces: (where it begins, its length) of each.
    """

    def __init__(self, file: BinaryIO, pieces: Sequence[tuple[int, int]]) -> None:
        self.file, self.pieces, self.position = file, pieces, 0
        self.starts = list(accumulate((length for _, length in pieces), initial=0))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.starts[-1]}[whence]
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = bisect_right(self.starts, self.position) - 1
        if piece == len(self.pieces):
            return 0
        inside = self.position - self.starts[piece]
        start, length = self.pieces[piece]
        self.file.seek(start + inside)
        data = self.file.read(min(len(buffer), length - inside))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

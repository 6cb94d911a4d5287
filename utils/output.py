"""What a run says, which never ends it: images are what counts, and words that cannot be shown are left out."""

import os
import sys
from typing import Any, TextIO


class Unfailing:
    """A text stream to which anything can be written: what its encoding lacks becomes an escape.

    A pipe's reader may have gone, a disk be full: the first failure sends all that follows to the null device.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError):
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, if that can be done."""
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self.stream.fileno())
            self.stream.flush()
        except (OSError, ValueError):  # it has been closed
            self.stream = open(os.devnull, "w")  # noqa: SIM115
        finally:
            os.close(null)


def make_output_unfailing() -> None:
    """Let nothing that is written to standard output or error end this process.

    Where one is closed, the null device takes its place: the next file opened would otherwise get its number, and what
    libraries write to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = Unfailing(sys.stdout or open(1, "w", closefd=False))  # noqa: SIM115
    sys.stderr = Unfailing(sys.stderr or open(2, "w", closefd=False))  # noqa: SIM115

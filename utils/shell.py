"""Command lines that people can copy."""

import os
import shlex
from collections.abc import Iterable


def command_line(words: Iterable[str]) -> str:
    """Words as one line for a shell; what does not print, such as bytes that are no text, as bash writes it."""
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    r"""A word as $'…', its bytes that do not print as \xff."""
    plain = {byte: chr(byte) for byte in range(0x20, 0x7F) if chr(byte) not in "'\\"}
    return "$'" + "".join(plain.get(byte, f"\\x{byte:02x}") for byte in os.fsencode(word)) + "'"

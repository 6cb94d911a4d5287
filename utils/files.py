"""Files that are whole or not there, and nothing but files."""

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path

from utils.errors import InputError, RunError

# a temporary file's name: the file's own, and random digits or, of older versions, a process's number
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.tmp", re.DOTALL)


def temporary_name(name: str = "") -> str:
    """A hidden name that no other process chooses; not even one of another machine or container."""
    return f".{name}.{secrets.token_hex(8)}.tmp"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that no partial file ever bears its name.

    Raises:
        RunError: it cannot be written (disk full, folder gone, …); nothing of it is left behind.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        try:
            with temporary.open("xb") as file:  # x: never through a link that lies there
                file.write(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror or error}; what is finished is kept, and the same command "
            "goes on with the rest"
        ) from None


def remove_leftovers(folders: Iterable[Path], is_output: Callable[[Path], bool]) -> None:
    """Remove the temporary files of runs that were killed while writing; nobody else's.

    Args:
        is_output: whether a run writes a file of this path.
    """
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            match = TEMPORARY.fullmatch(path.name)
            if match and is_output(path.with_name(match["name"])):
                path.unlink(missing_ok=True)


def make_save_dir(folder: Path, dry_run: bool = False) -> None:
    """Make an output folder and see that files can be written there; in a dry run, only see whether they could.

    Raises:
        InputError: they cannot.
    """
    if dry_run:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"save_dir {folder}: cannot be written to")
        return
    probe = folder / temporary_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"save_dir {folder}: cannot be written to: {error.strerror or error}") from None


def check_access(path: Path) -> None:
    """See that a folder, and those in it, can be looked into; of a file, nothing.

    Raises:
        InputError: one cannot.
    """
    if not os.path.isdir(path):
        return
    try:
        with os.scandir(path) as entries:
            for entry in entries:  # asking what they are already needs the permission
                if entry.is_dir():
                    os.stat(os.path.join(entry.path, "."))
        os.stat(os.path.join(path, "."))
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}") from None


def check_replaceable(path: Path) -> None:
    """See that an output file may be written there: nothing is there, or a file, or a link, which is not followed.

    Raises:
        InputError: something else is.
    """
    if os.path.lexists(path) and not os.path.islink(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "something that is no file"
        raise InputError(f"{path}: is in the way: {kind} where a file is to be written")


def open_regular(path: Path, most_bytes: int | None = None) -> BufferedReader:
    """Open a file for reading; a pipe or a device, which may never end or never answer, is not opened.

    Args:
        path: the file, or a link to it.
        most_bytes: the largest that is wanted.

    Raises:
        OSError: it cannot be opened, is no regular file, or is larger.
    """
    _check_regular(os.stat(path), most_bytes)
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    try:
        _check_regular(os.fstat(file.fileno()), most_bytes)  # it may have been replaced
    except OSError:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result, most_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a file" if not stat.S_ISDIR(status.st_mode) else "is a folder")
    if most_bytes is not None and status.st_size > most_bytes:
        raise OSError(errno.EFBIG, f"is larger than {most_bytes // 2**10} KB")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe waits for its other end

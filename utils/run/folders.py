"""The folders that a run writes to: their names, whether they can be written, and what keeps a second run out."""

import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from utils.errors import InputError
from utils.run.arguments import factor_words
from utils.run.settings import Settings

PREVIEWS = "index_files"  # the folder beside index.html
# a temporary file's name: the file's own, and random digits or, in older versions, a process's number
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.tmp", re.DOTALL)


def factor_folder(downsample_factor: float | str) -> str:
    """Return the folder of a factor's images, where there are several factors: N8, N2.5 or N32-4."""
    return f"N{factor_words(downsample_factor)}".replace(":", "-")


def binds_folder(downsample_factor: float | str) -> str:
    """Return the folder of the previews of what binds at a factor."""
    return f"{PREVIEWS}/{factor_folder(downsample_factor)}"


def output_folders(settings: Settings) -> list[str]:
    """Return all folders that a run writes to, relative to save_dir; those of previews are last."""
    previews = [PREVIEWS, *map(binds_folder, settings.downsample_factor)]
    return list(dict.fromkeys(["", *(binding.folder for binding in settings.bindings), *previews]))


def make_save_dir(folder: Path, dry_run: bool = False) -> None:
    """Make an output folder and check that files can be written there; in a dry run, only check that they could.

    Raises:
        InputError: they cannot.
    """
    if dry_run:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"--save_dir {folder}: cannot be written to")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--save_dir {folder}: cannot be written to: {error.strerror or error}") from None


def remove_leftovers(folders: Iterable[Path], is_output: Callable[[Path], bool]) -> None:
    """Remove the temporary files of runs that were killed while writing, and no others.

    Args:
        folders: where to look.
        is_output: returns whether a run writes a file of this path.
    """
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            match = TEMPORARY.fullmatch(path.name)
            if match and is_output(path.with_name(match["name"])):
                path.unlink(missing_ok=True)


def take_lock(folder: Path) -> IO[bytes]:
    """Lock a folder for this run alone; closing the file, or the end of the process, unlocks it.

    The lock is a flock on `.lock`, which holds between machines too where their shared file system has locks; where it
    has none, nothing keeps two runs apart.

    Raises:
        InputError: a process of another run has the lock, or its file cannot be opened.
    """
    path = folder / ".lock"
    try:  # NFS wants it open for both reading and writing
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    except OSError as error:
        reason = "is a link" if error.errno == errno.ELOOP else error.strerror or error
        raise InputError(f"{path}: cannot be opened: {reason}; remove it or choose another --save_dir") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: is not a file; remove it or choose another --save_dir")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InputError(f"--save_dir {folder}: another run is writing to it; wait for it or stop it") from None
    except OSError:  # this file system has no locks
        pass
    return file

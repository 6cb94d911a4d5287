"""Files that are whole or not there, and the lock that keeps a second run out of a folder."""

import errno
import fcntl
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from utils.errors import InputError, RunError

# what file systems answer that have no locks: there, nothing keeps two runs apart
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that no partial file ever bears its name.

    Raises:
        RunError: it cannot be written (disk full, folder gone, …); nothing of it is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.unlink(missing_ok=True)
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


def remove_leftovers(files: Iterable[Path]) -> None:
    """Remove the temporary files of runs that were killed while writing one of these files; nobody else's."""
    names = defaultdict[Path, set[str]](set)
    for path in files:
        names[path.parent].add(path.name)
    for folder, its_names in names.items():
        for path in folder.glob(".*.tmp"):
            name, _, number = path.stem[1:].rpartition(".")
            if name in its_names and number.isdecimal():
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
    probe = folder / f".{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"save_dir {folder}: cannot be written to: {error.strerror or error}") from None


class FolderLock:
    """Keeps two runs out of one folder; it ends with the process that holds it, however that ends.

    The processes of one run share it: the main one takes it alone (`take`), which shows that no other run has it,
    and then shares it with the others (`share`). The last to finish finds itself alone again (`is_last`). It is a
    flock on `folder/.lock`, which holds between machines too where their shared file system has locks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.file = (folder / ".lock").open("ab")
        except OSError as error:
            raise InputError(f"save_dir {folder}: cannot be written to: {error.strerror or error}") from None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def take(self) -> None:
        """Take the lock for this process alone.

        Raises:
            InputError: a process of another run has it.
        """
        if not self._try(fcntl.LOCK_EX):
            raise InputError(f"save_dir {self.folder}: another run is writing to it; wait for it or stop it")

    def share(self) -> None:
        """Hold the lock together with the other processes of this run.

        Raises:
            InputError: another run came first.
        """
        if not self._try(fcntl.LOCK_SH):
            raise InputError(f"save_dir {self.folder}: another run has started to write to it")

    def is_last(self) -> bool:
        """Let go, and say whether no other process of the run still holds the lock."""
        self._try(fcntl.LOCK_UN)  # or two that finish together would each find the other's
        return self._try(fcntl.LOCK_EX)

    def _try(self, operation: int) -> bool:
        try:
            fcntl.flock(self.file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise RunError(f"{self.folder / '.lock'}: cannot be locked: {error.strerror or error}") from None
        return True

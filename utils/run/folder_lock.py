"""What keeps a second run out of save_dir."""

import errno
import fcntl
import os
import stat
from pathlib import Path

from utils.errors import InputError


class FolderLock:
    """Keeps a second run out of a folder for as long as a process of the first one lives.

    It is a flock on `folder/.lock`, which holds between machines too where their shared file system has locks; where
    it has none, nothing keeps two runs apart. The main process takes the lock alone, which shows that no other run has
    it, and then shares it with the other processes of the run.
    """

    def __init__(self) -> None:
        self._file: int | None = None

    def close(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            os.close(self._file)

    def take(self, folder: Path) -> None:
        """Take the lock for this process alone.

        Raises:
            InputError: a process of another run has it, or its file cannot be opened.
        """
        self._lock(folder, fcntl.LOCK_EX, "another run is writing to it; wait for it or stop it")

    def share(self, folder: Path) -> None:
        """Hold the lock together with the other processes of this run.

        Raises:
            InputError: another run came first.
        """
        self._lock(folder, fcntl.LOCK_SH, "another run has started to write to it")

    def _lock(self, folder: Path, operation: int, problem: str) -> None:
        path = folder / ".lock"
        try:
            if self._file is None:  # NFS wants it open for both reading and writing
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                self._file = os.open(path, flags, 0o666)
        except OSError as error:
            reason = "is a link" if error.errno == errno.ELOOP else error.strerror or error
            raise InputError(f"{path}: cannot be opened: {reason}; remove it or choose another --save_dir") from None
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise InputError(f"{path}: is not a file; remove it or choose another --save_dir")
        try:
            fcntl.flock(self._file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"--save_dir {folder}: {problem}") from None
        except OSError:  # this file system has no locks
            pass

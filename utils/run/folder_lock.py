"""What keeps a second run out of a folder, and tells which of a run's processes is the last."""

import errno
import fcntl
import os
import stat
from pathlib import Path

from utils.errors import InputError, RunError

# What file systems answer that have no locks: there, nothing keeps two runs apart. A stale handle is what is left of a
# file whose server was restarted; NFS clients call a file bad that is not open for what a lock needs.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.ESTALE}


class FolderLock:
    """Keeps two runs out of one folder; it ends with the process that holds it, however that ends.

    The processes of one run share it: the main one takes it alone (`take`), which shows that no other run has it,
    and then shares it with the others (`share`). The last to finish finds itself alone again (`is_last`). It is a
    flock on `folder/.lock`, which holds between machines too where their shared file system has locks.

    Where it has none, the last process is told by marks: each leaves a file once its share is done, and then looks for
    the others'. By name, not in the folder's list: a network file system may show an old list for a while, but asks
    its server for a name that it has never met. Of two that finish together, the first to claim the end has it.

    Args:
        folder: that the run writes to.
        rank, num_processes: of this process and of the run.

    Raises:
        InputError: the lock's file cannot be opened.
    """

    def __init__(self, folder: Path, rank: int = 0, num_processes: int = 1) -> None:
        self.folder = folder
        self.marks = [folder / f".{each}.done" for each in range(num_processes)]
        self.own_mark = self.marks[rank]
        self.claim = folder / ".last.done"
        self.has_locks = True
        path = folder / ".lock"
        # NFS lets only a file open for writing be locked alone, and only one open for reading be shared.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self.file = os.open(path, flags, 0o666)
        except OSError as error:
            reason = "is a link" if error.errno == errno.ELOOP else error.strerror or error
            raise InputError(f"{path}: cannot be opened: {reason}; remove it, or choose another save_dir") from None
        if not stat.S_ISREG(os.fstat(self.file).st_mode):
            os.close(self.file)
            raise InputError(f"{path}: is not a file; remove it, or choose another save_dir")

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)

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
        """Let go, and say whether no other process of the run is still at work.

        Raises:
            RunError: the folder cannot be written to.
        """
        if len(self.marks) == 1:
            return True
        try:
            self.own_mark.touch()
        except OSError as error:
            raise RunError(f"{self.own_mark}: cannot be written: {error.strerror or error}") from None
        self._try(fcntl.LOCK_UN)  # or two that finish together would each find the other's
        alone = self._try(fcntl.LOCK_EX) and self.has_locks
        return (alone or all(map(os.path.lexists, self.marks))) and self._claims_the_end()

    def remove_marks(self) -> None:
        """Remove what processes of this run, or of an earlier one, left to tell that they were done."""
        for mark in (*self.folder.glob(".*.done"), self.claim):
            if mark == self.claim or mark.name.split(".")[1].isdecimal():
                mark.unlink(missing_ok=True)

    def _claims_the_end(self) -> bool:
        try:
            self.claim.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _try(self, operation: int) -> bool:
        try:
            fcntl.flock(self.file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise RunError(f"{self.folder / '.lock'}: cannot be locked: {error.strerror or error}") from None
            self.has_locks = False
        return True

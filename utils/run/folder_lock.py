"""What keeps a second run out of save_dir.

It is a flock on `save_dir/.lock`, held by the main process. It holds between machines too where their shared file
system has locks; where it has none, nothing keeps two runs apart.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import IO

from utils.errors import InputError


def take_lock(folder: Path) -> IO[bytes]:
    """Lock a folder for this run alone; closing the file, or the end of the process, unlocks it.

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

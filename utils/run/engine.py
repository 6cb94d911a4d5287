"""One run: arguments → settings → plan → every process its share of the samples → grid and page."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import IO, Any

import torch

from models import Checkpoint
from utils.errors import InputError, ReportedByOtherRankError, RunError, one_line
from utils.files import PROJECT
from utils.run.check import check_model, write_config
from utils.run.figures import finish
from utils.run.interrupts import Interrupts
from utils.run.job import make_job
from utils.run.outputs import PACKAGES, name_differences
from utils.run.page import Page
from utils.run.plan import Plan, make_plan
from utils.run.processes import Processes
from utils.run.resolve import resolve
from utils.run.sampling import sample_share


def run(args: Mapping[str, Any], interrupts: Interrupts) -> None:
    """Carry out the arguments, alone in the output folder; a dry run only says what would be done.

    Args:
        args: those that were given, see `parse_args`.
        interrupts: prints the progress if a signal ends the run.

    Raises:
        InputError: something given cannot be used.
        RunError: the machine gave out.
    """
    with ExitStack() as stack:
        # another program that calls `main` may have set them, and is to find them again
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        processes = stack.enter_context(closing(Processes()))
        given = {"arguments": {name: value for name, value in args.items() if name != "command"}}
        if processes.count > 1:
            paths = (
                path for room in ("diffusions", "models", "utils") for path in sorted((PROJECT / room).rglob("*.py"))
            )
            code = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]
            given["code or packages"] = {"code": code} | {name: version(name) for name in PACKAGES}
        everyones = processes.gather(given)
        for rank, kind in product(range(processes.count), given):
            its, ours = everyones[rank][kind], everyones[0][kind]
            if its != ours:
                fault = InputError(
                    f"rank {rank} was started with other {kind} than rank 0 ({name_differences(ours, its)})"
                )
                raise fault if processes.is_main else ReportedByOtherRankError(fault.exit_code)
        if args.get("write_config"):
            processes.in_main(lambda: write_config(args))
            return
        if args.get("check_model"):
            processes.in_main(lambda: check_model(*resolve(args), processes.device))
            return
        prepared = processes.in_main(lambda: prepare(args, processes.count, stack))
        plan: Plan = processes.gather(prepared and prepared[0])[0]
        job = processes.each(lambda: make_job(plan, prepared and prepared[1], processes.device))
        if processes.is_main:
            notes = map(one_line, (*job.notes, *plan.notes))
            print(*notes, *([plan.summary()] if plan.settings.dry_run else []), sep="\n")
        if plan.settings.dry_run:
            return
        processes.in_main(lambda: plan.outputs.begin(plan.todo, plan.previews, processes.count))
        page = Page(plan, live=processes.is_main)
        page.refresh()
        processes.close()
        interrupts.last_words = page.last_words
        try:
            sample_share(job, page, processes.rank)
            if plan.is_complete():
                finish(job, page)
            elif processes.count == 1:
                raise RunError(f"images were removed during the run: {plan.progress()}")
        except Exception:
            if processes.is_main:
                page.last_words()
            raise


def prepare(args: Mapping[str, Any], num_processes: int, stack: ExitStack) -> tuple[Plan, Checkpoint]:
    """Resolve the arguments, see that all folders can be written to, and plan the run; the stack keeps the lock.

    Raises InputError if something given cannot be used.
    """
    settings, checkpoint = resolve(args)
    for name in settings.folders:
        folder = settings.save_dir / name
        there = (path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
        try:
            if not settings.dry_run:
                folder.mkdir(parents=True, exist_ok=True)
            if not os.access(next(there), os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise InputError(f"--save_dir {folder}: cannot be written to: {error.strerror or error}") from None
    if not settings.dry_run:
        stack.enter_context(take_lock(settings.save_dir))
    return make_plan(settings, checkpoint, num_processes), checkpoint


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
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InputError(f"--save_dir {folder}: another run is writing to it; wait for it or stop it") from None
    except OSError:  # this file system has no locks
        pass
    return file

"""What comes before a run is planned, and how it is planned alone."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from utils.errors import InputError
from utils.files import make_save_dir
from utils.run.differences import name_differences
from utils.run.folder_lock import FolderLock
from utils.run.pictures import output_folders
from utils.run.plan import Plan, make_plan
from utils.run.processes import Processes
from utils.run.resolve import resolve
from utils.run.settings import Settings


def check_arguments(args: Mapping[str, Any], processes: Processes) -> None:
    """See that all processes were started with the same.

    Raises:
        InputError: one was not.
    """
    given = processes.gather({name: value for name, value in args.items() if name != "command"})

    def check() -> None:
        for rank, its in enumerate(given):
            if its != given[0]:
                differences = name_differences(given[0], its)
                raise InputError(f"rank {rank} was started with other arguments than rank 0 ({differences})")

    processes.each(check)


def prepare(args: Mapping[str, Any]) -> Settings:
    """The settings, and the folders that they write to made.

    Raises:
        InputError: an argument that cannot be used.
    """
    settings = resolve(args)
    for folder in output_folders(settings):
        make_save_dir(settings.save_dir / folder, settings.dry_run)
    return settings


def lock_folder(settings: Settings, processes: Processes) -> AbstractContextManager[FolderLock | None]:
    """The lock of the output folder, in a context; of a dry run none."""
    if settings.dry_run:
        return nullcontext()
    return FolderLock(settings.save_dir, processes.rank, processes.count)


def plan_alone(settings: Settings, lock: FolderLock | None, num_processes: int) -> Plan:
    """The plan, made while no other run can write to the folder; at its end the run's other processes can join."""
    if lock:
        lock.take()
    plan = make_plan(settings, num_processes)
    if lock:
        lock.share()
    return plan

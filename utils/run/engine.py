"""One run: arguments → settings → plan → every process its share of the samples → grid and page."""

import hashlib
import sys
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from itertools import product
from typing import Any

import torch

from models import Checkpoint
from utils.errors import InputError, ReportedByOtherRankError, RunError, one_line
from utils.files import PROJECT
from utils.run.check import check_model, write_config
from utils.run.figures import draw_grid, draw_progress, save_missing_previews
from utils.run.folders import make_save_dir, output_folders, take_lock
from utils.run.interrupts import Interrupts
from utils.run.job import Job, make_job
from utils.run.outputs import FILM, GRID, PACKAGES, name_differences
from utils.run.page import Page
from utils.run.plan import Plan, make_plan
from utils.run.processes import Processes
from utils.run.resolve import resolve
from utils.run.sampling import sample_share


def run(args: Mapping[str, Any], interrupts: Interrupts) -> None:
    """Do what the arguments say, alone in the output folder; or, in a dry run, say it.

    Args:
        args: those that were given, see `parse_args`.
        interrupts: the signal handler; it prints the progress on exit.

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
        prepared = processes.in_main(lambda: _prepare(args, processes.count, stack))
        plan: Plan = processes.gather(prepared and prepared[0])[0]
        job = processes.each(lambda: make_job(plan, prepared and prepared[1], processes.device))
        if processes.is_main:
            print(
                *map(one_line, (*job.notes, *plan.notes)),
                *([plan.summary()] if plan.settings.dry_run else []),
                sep="\n",
            )
        if plan.settings.dry_run:
            return
        processes.in_main(plan.begin)
        page = Page(plan, live=processes.is_main)
        page.refresh()
        processes.close()
        interrupts.last_words = page.last_words if processes.is_main else None
        try:
            sample_share(job, page, processes.rank)
            if plan.is_complete():
                _finish(job, page)
            elif processes.count == 1:
                raise RunError(f"images were removed during the run: {plan.progress()}")
        except Exception:
            if processes.is_main:
                page.last_words()
            raise


def _prepare(args: Mapping[str, Any], num_processes: int, stack: ExitStack) -> tuple[Plan, Checkpoint]:
    """Resolve the arguments, and plan the run; the stack keeps the folder's lock."""
    settings, checkpoint = resolve(args)
    for folder in output_folders(settings):
        make_save_dir(settings.save_dir / folder, settings.dry_run)
    if not settings.dry_run:
        stack.enter_context(take_lock(settings.save_dir))
    return make_plan(settings, checkpoint, num_processes), checkpoint


def _finish(job: Job, page: Page) -> None:
    """Draw the grid, one sample's progress if that is asked for, and the page of the finished run.

    Raises:
        RunError: a reference has been replaced. What cannot be drawn is said in a line: the images are what counts.
    """
    settings, samples = job.plan.settings, job.plan.samples
    save_missing_previews(job)
    figures: dict[str, Callable[[], None]] = {GRID: partial(draw_grid, job.plan)}
    for shown in samples.numbered(settings.progress_grid) if settings.progress_grid is not None else ():
        figures[f"{shown.binding.folder}/{FILM}".strip("/")] = partial(draw_progress, job, shown)
    figures["index.html"] = partial(page.write, running=False)
    done = f"{len(samples)} images and index.html"
    for name, draw in figures.items():
        try:
            draw()
        except Exception as error:  # of any kind: meanwhile, what was finished may have become anything
            print(f"sample_ilvr: {name} could not be drawn: {one_line(error)}", file=sys.stderr)
            done = f"{len(samples)} images"
    print(one_line(f"{done} are in {settings.save_dir}"))
    if settings.open and not webbrowser.open((settings.save_dir / "index.html").resolve().as_uri()):
        print("no browser was found to open index.html")

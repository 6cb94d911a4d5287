"""One run: arguments → settings → plan → every process its share of the samples → grid and page."""

import webbrowser
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from models import Checkpoint
from utils.batching import keep_freed_memory
from utils.errors import InputError, ReportedByOtherRankError, RunError, one_line
from utils.files import make_save_dir
from utils.images import save_png
from utils.run.check import check_model, write_config
from utils.run.figures import draw_grid, draw_progress
from utils.run.folder_lock import take_lock
from utils.run.interrupts import Interrupts
from utils.run.job import Job, make_job
from utils.run.outputs import GRID, name_differences, output_folders, signed
from utils.run.page import Page
from utils.run.plan import Plan, make_plan
from utils.run.processes import Processes
from utils.run.sampling import sample_share, save_missing_previews
from utils.run.settings import resolve


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
        processes = stack.enter_context(closing(Processes()))
        given = processes.gather({name: value for name, value in args.items() if name != "command"})
        for rank, its in enumerate(given):
            if its != given[0]:
                differences = name_differences(given[0], its)
                fault = InputError(f"rank {rank} was started with other arguments than rank 0 ({differences})")
                raise fault if processes.is_main else ReportedByOtherRankError(fault.exit_code)
        if args.get("write_config"):
            processes.agree(lambda: write_config(args))
            return
        if args.get("check_model"):
            processes.agree(lambda: check_model(*resolve(args), processes.device))
            return
        keep_freed_memory()
        prepared = processes.each(lambda: _prepare(args, processes.count, stack) if processes.is_main else None)
        plan: Plan = processes.broadcast(prepared and prepared[0])
        job = processes.each(lambda: make_job(plan, prepared and prepared[1], processes))
        for note in plan.notes:
            processes.print(one_line(note))
        if plan.settings.dry_run:
            processes.print(plan.summary())
            return
        processes.agree(plan.begin)
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
    """Draw the grid, one sample's progress if that is asked for, and the page of the finished run."""
    settings = job.plan.settings
    save_missing_previews(job)
    save_png(draw_grid(job.plan), settings.save_dir / GRID, signed({"figure": "grid"}))
    if settings.progress_grid is not None:
        for shown in job.plan.samples.numbered(settings.progress_grid):
            draw_progress(job, shown)
    page.write(running=False)
    print(one_line(f"{len(job.plan.samples)} images and index.html are in {settings.save_dir}"))
    if settings.open and not webbrowser.open((settings.save_dir / "index.html").resolve().as_uri()):
        print("no browser was found to open index.html")

"""One run: settings → plan, model, sampler → every process its share of the samples → grid and page."""

import warnings
import webbrowser
from collections.abc import Mapping
from typing import Any

from utils.batching import keep_freed_memory
from utils.errors import RunError, one_line
from utils.images import save_png
from utils.run.batch import make_guide
from utils.run.figures import Progress
from utils.run.folder_lock import FolderLock
from utils.run.gallery import FILM, Gallery, save_pictures, without_pictures
from utils.run.grid import grid_of
from utils.run.inspection import check_model, write_config
from utils.run.interrupts import Interrupts
from utils.run.job import Job, make_job
from utils.run.ownership import signed
from utils.run.plan import Plan, begin
from utils.run.processes import Processes
from utils.run.resolve import resolve
from utils.run.samples import Sample
from utils.run.shapes import crop
from utils.run.share import sample, sample_share
from utils.run.start import check_arguments, lock_folder, plan_alone, prepare


def run(args: Mapping[str, Any], interrupts: Interrupts) -> None:
    """Do what the arguments say, alone in the output folder; or, in a dry run, say it.

    Args:
        args: as `sample_ilvr.py -h` lists them; None where one was left out.
        interrupts: told how far the run has come.

    Raises:
        InputError: something given cannot be used.
        RunError: the machine gave out.
    """
    with Processes() as processes:
        check_arguments(args, processes)
        if args["write_config"]:
            processes.agree(lambda: write_config(args))
            return
        if args["check_model"]:
            processes.agree(lambda: check_model(resolve(args), processes.device))
            return
        settings = processes.each(lambda: prepare(args))
        warnings.filterwarnings("ignore", module="PIL")  # once, for all threads; the plan has notes of its own
        keep_freed_memory()
        with processes.each(lambda: lock_folder(settings, processes)) as lock:
            plan = processes.agree(lambda: plan_alone(settings, lock, processes.count))
            job = processes.each(lambda: _join(plan, lock, processes))
            for note in plan.notes:
                processes.print(one_line(note))
            if lock is None:
                processes.print(plan.summary())
                return
            processes.agree(lambda: begin(plan, lock))
            gallery = Gallery(plan, keeps=processes.is_main)
            gallery.refresh()
            processes.part()
            interrupts.last_words = gallery.last_words if processes.is_main else None
            with gallery:
                sample_share(job, gallery, processes.rank, processes.count)
                if lock.is_last():
                    _finish(job, gallery)
                    lock.remove_marks()


def _join(plan: Plan, lock: FolderLock | None, processes: Processes) -> Job:
    """Take part in a run that the main process has planned."""
    if lock and not processes.is_main:
        lock.share()
    return make_job(plan, processes)


def _finish(job: Job, gallery: Gallery) -> None:
    """Draw the grid and write the page, all images being there; and one sample's progress, if that is asked for.

    Raises:
        RunError: some are not: a process has died, or they were removed.
    """
    plan, settings = job.plan, job.plan.settings
    if plan.left():
        raise RunError(f"{plan.how_to_go_on()}: a process of this run has ended before its share was done")
    for first in without_pictures(plan):
        reference = plan.read(first.reference)
        guide = make_guide(job.model, reference[None].to(job.device), first.binding, settings)
        save_pictures(plan, [first], [reference], job.model.decode(guide.low_frequencies))
    save_png(grid_of(settings), settings.save_dir / "grid.png", signed({"figure": "grid"}))
    for shown in settings.samples.numbered(settings.progress_grid):
        _draw_progress(job, shown)
    gallery.write(running=False)
    print(one_line(f"{len(settings.samples)} images, index.html and grid.png are in {settings.save_dir}"))
    if settings.open and not webbrowser.open((settings.save_dir / "index.html").resolve().as_uri()):
        print("no browser can be found to open index.html with")


def _draw_progress(job: Job, shown: Sample) -> None:
    """Sample one image once more, by itself, and show it over its steps."""
    settings = job.plan.settings
    shape = settings.shape_of(shown.reference)
    progress = Progress(settings.walk_steps, lambda latents: crop(job.model.decode(latents), shape))
    reference = job.plan.read(shown.reference)
    sample(job, [shown], [reference], lambda step: progress.add(step.sample[0], step.pred_x0[0]))
    progress.save(settings.save_dir / shown.binding.folder / FILM)

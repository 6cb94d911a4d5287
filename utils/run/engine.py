"""One run: settings → plan, model, sampler → every process its share of the samples → grid."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from diffusions import Sampler, Step, make_sampler
from diffusions.process import Denoiser
from models import Compiled, Model, Network, advise, choose_class, load_model, make_ready
from utils.errors import InputError, NotFiniteError, RunError, one_line
from utils.finite import FiniteWatch
from utils.images import read_reference, save_png, to_pixels
from utils.memory import is_out_of_memory, keep_freed_memory
from utils.micro_batches import for_each_batch
from utils.overlap import Background, ahead
from utils.run.batch import make_guide, sample_batch
from utils.run.batches import largest_batch
from utils.run.figures import Progress
from utils.run.folder_lock import FolderLock
from utils.run.grid import grid_of
from utils.run.interrupts import Interrupts
from utils.run.plan import Plan, begin
from utils.run.processes import Processes
from utils.run.settings import Sample, Settings
from utils.run.start import check_arguments, lock_folder, plan_alone, prepare


@dataclass(frozen=True)
class Job:
    """What a process needs to make any of the run's samples."""

    plan: Plan
    network: Denoiser
    sampler: Sampler
    device: torch.device


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
        settings = processes.each(lambda: prepare(args))
        warnings.filterwarnings("ignore", module="PIL")  # once, for all threads; what matters is told in our words
        keep_freed_memory()
        with processes.each(lambda: lock_folder(settings, processes)) as lock:
            plan = processes.agree(lambda: plan_alone(settings, lock, processes.count))
            job = processes.each(lambda: _join(plan, lock, processes))
            if lock is None:
                processes.print(plan.summary())
                return
            processes.agree(lambda: begin(plan, lock))
            processes.part()
            interrupts.last_words = plan.how_to_go_on if processes.is_main else None
            _sample_share(job, processes.rank, processes.count)
            if lock.is_last():
                _finish(job)
                lock.remove_marks()


def _join(plan: Plan, lock: FolderLock | None, processes: Processes) -> Job:
    """Take part in a run that the main process has planned."""
    if lock and not processes.is_main:
        lock.share()
    return _make_job(plan, processes)


def _make_job(plan: Plan, processes: Processes) -> Job:
    """The model and the sampler that the settings name, seen to fit each other, ready on the device."""
    settings, device = plan.settings, processes.device
    model = load_model(settings.weights, settings.config)
    sampler = _make_sampler(settings, model)
    network = _make_ready(choose_class(model.network, settings.class_id), device, settings.mixed_precision)
    if advice := advise(device, settings.mixed_precision):
        processes.print(advice)
    if not settings.compile or settings.dry_run:
        return Job(plan, network, sampler, device)
    start = time.perf_counter()
    compiled = _compile(network, plan, device)
    processes.print(f"compiled the network in {time.perf_counter() - start:.0f} s")
    return Job(plan, compiled, sampler, device)


def _make_ready(network: Network, device: torch.device, precision: str) -> Network:
    try:
        return make_ready(network, device, precision)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory with the network alone on {device}; choose a larger device") from None
        raise


def _make_sampler(settings: Settings, model: Model) -> Sampler:
    options = {**settings.diffusion, **settings.sampler_options}
    try:
        sampler = make_sampler(settings.sampler, model.process, **options)
        sampler.check_variance(model.network.out_channels - model.channels)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None
    return sampler


def _compile(network: Network, plan: Plan, device: torch.device) -> Compiled:
    """The network compiled for the largest of the run's micro-batches.

    Raises:
        RunError: a micro-batch does not fit into memory. Halving it later would not help: the compiled network takes
            whole ones.
    """
    size, channels = plan.settings.config.image_size, plan.settings.config.image_channels
    batch = largest_batch(plan.settings.samples, plan.settings.micro_batch, plan.num_processes)
    try:
        return Compiled(network, (batch, channels, size, size), device)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory with {batch} samples at a time; give a smaller micro_batch") from None
        raise


def _sample_share(job: Job, rank: int, num_processes: int) -> None:
    """Make and write this process's share of the samples."""
    plan = job.plan
    share = plan.batches[rank::num_processes]
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    bar = tqdm(
        desc=f"{plan.todo.sum()} images",
        total=share.num_samples * plan.settings.walk_steps,
        unit="step",
        disable=rank > 0 or not share,
    )
    with bar, Background() as writer:

        def work(read: Sequence[tuple[Sample, Future[Tensor]]]) -> None:
            batch = [sample for sample, _ in read]
            try:
                references = [reference.result() for _, reference in read]
            except InputError as error:  # a reference that was readable has gone, and only this process knows
                raise RunError(str(error)) from None
            sampled = _sample(job, batch, references, lambda _: bar.update(len(batch)))
            writer.submit(_save, batch, *sampled, plan)

        for_each_batch(ahead(partial(_read, plan.settings), share), work, may_halve=not plan.settings.compile)


def _read(settings: Settings, sample: Sample) -> Tensor:
    """A sample's reference, [C, H, W] in [-1, 1]."""
    return read_reference(sample.reference.path, settings.config.image_size, settings.config.image_channels)


def _sample(
    job: Job, batch: Sequence[Sample], references: Sequence[Tensor], on_step: Callable[[Step], object]
) -> tuple[Tensor, FiniteWatch]:
    """Noise to images, for one micro-batch.

    Args:
        batch: of one binding.
        on_step: told of every step.

    Returns:
        [B, C, H, W] in about [-1, 1], and who knows of each image whether all numbers on its way were finite. The
        device may still be at work on them.
    """
    settings = job.plan.settings
    guide = make_guide(torch.stack(list(references)).to(job.device), batch[0].binding, settings)
    numbers = [sample.number for sample in batch]
    watch = FiniteWatch(job.network)
    for step in sample_batch(watch, job.sampler, guide, settings.seed, numbers, settings.walk_steps):
        images = step.sample
        on_step(step)
    watch.add(images)
    return images, watch


def _save(batch: Sequence[Sample], images: Tensor, watch: FiniteWatch, plan: Plan) -> None:
    """Write those images of a batch that are wanted and finite.

    Raises:
        NotFiniteError: values that are not finite; the batch's other images are written.
        RunError: an image cannot be written.
    """
    finite = watch.is_finite()
    for sample, pixels, good in zip(batch, to_pixels(images), finite, strict=True):
        if good and plan.is_todo(sample):
            save_png(pixels, plan.path(sample), plan.text(sample))
    if not all(finite):
        numbers = ", ".join(str(sample.number) for sample, good in zip(batch, finite, strict=True) if not good)
        advice = {"fp16": "try mixed_precision bf16 or no", "bf16": "try mixed_precision no"}
        raise NotFiniteError(
            f"sample {numbers}: the network returned values that are not finite, and no image was written; "
            + advice.get(plan.settings.mixed_precision, "the weights may be damaged, or not fit the config")
        )


def _finish(job: Job) -> None:
    """Draw the grid, all images being there; and one sample's progress, if that is asked for.

    Raises:
        RunError: some are not: a process has died, or they were removed.
    """
    plan, settings = job.plan, job.plan.settings
    if plan.left():
        raise RunError(f"{plan.how_to_go_on()}: a process of this run has ended before its share was done")
    save_png(grid_of(settings), settings.save_dir / "grid.png")
    print(one_line(f"{len(settings.samples)} images and grid.png are in {settings.save_dir}"))
    for sample in settings.samples.numbered(settings.progress_grid):
        _draw_progress(job, sample)


def _draw_progress(job: Job, sample: Sample) -> None:
    """Sample one image once more, by itself, and show it over its steps."""
    settings = job.plan.settings
    progress = Progress(settings.walk_steps)
    _sample(job, [sample], [_read(settings, sample)], lambda step: progress.add(step.sample[0], step.pred_x0[0]))
    progress.save(settings.save_dir / sample.binding.folder / "progress_grid")

"""One run: settings → plan, model, sampler → every process its share of the samples → grid."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from diffusions import Sampler, Step, make_sampler
from diffusions.process import Denoiser
from models import Compiled, Model, Network, advise, choose_class, load_model, make_ready
from utils.errors import InputError, NotFiniteError, RunError, one_line
from utils.files import FolderLock, make_save_dir
from utils.finite import FiniteWatch
from utils.images import read_reference, save_png, to_pixels
from utils.memory import keep_freed_memory
from utils.micro_batches import for_each_batch
from utils.overlap import Background, ahead
from utils.run.batch import make_guide, sample_batch
from utils.run.figures import Progress
from utils.run.grid import grid_of
from utils.run.inspection import check_model, write_config
from utils.run.interrupts import Interrupts
from utils.run.plan import Plan, begin, make_plan
from utils.run.processes import agree, connect, part
from utils.run.resolve import resolve
from utils.run.settings import Sample, Settings


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
    if args["write_config"]:
        write_config(args)
        return
    settings = resolve(args)
    if args["check_model"]:
        check_model(settings, connect().device)
        return
    for binding in settings.bindings:
        make_save_dir(settings.save_dir / binding.folder, settings.dry_run)
    keep_freed_memory()
    accelerator = connect()
    with nullcontext() if settings.dry_run else FolderLock(settings.save_dir) as lock:
        plan = agree(accelerator, lambda: _plan_alone(settings, lock, accelerator.num_processes))
        if lock and not accelerator.is_main_process:
            lock.share()
        job = _make_job(plan, accelerator)
        if lock is None:
            accelerator.print(plan.summary(accelerator.num_processes))
            return
        if accelerator.is_main_process:
            begin(plan, accelerator.num_processes)
        part(accelerator)
        interrupts.last_words = plan.how_to_go_on if accelerator.is_main_process else None
        _sample_share(job, accelerator.process_index, accelerator.num_processes)
        if lock.is_last():
            _finish(job)


def _plan_alone(settings: Settings, lock: FolderLock | None, num_processes: int) -> Plan:
    """The plan, made while no other run can write to the folder; at its end the run's other processes can join."""
    if lock:
        lock.take()
    plan = make_plan(settings, num_processes)
    if lock:
        lock.share()
    return plan


def _make_job(plan: Plan, accelerator: Accelerator) -> Job:
    """The model and the sampler that the settings name, seen to fit each other, ready on the device."""
    settings, device = plan.settings, accelerator.device
    model = load_model(settings.weights, settings.config, settings.raw_weights)
    for note in model.notes:
        accelerator.print(note)
    sampler = _make_sampler(settings, model)
    network = make_ready(choose_class(model.network, settings.class_id), device, settings.mixed_precision)
    if advice := advise(device, settings.mixed_precision):
        accelerator.print(advice)
    if not settings.compile or settings.dry_run:
        return Job(plan, network, sampler, device)
    start = time.perf_counter()
    compiled = _compile(network, sampler, settings, device)
    accelerator.print(f"compiled the network in {time.perf_counter() - start:.0f} s")
    return Job(plan, compiled, sampler, device)


def _make_sampler(settings: Settings, model: Model) -> Sampler:
    options = {**settings.diffusion, **settings.sampler_options}
    try:
        sampler = make_sampler(settings.sampler, model.process, **options)
        sampler.check_variance(model.network.out_channels - model.channels)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None
    return sampler


def _compile(network: Network, sampler: Sampler, settings: Settings, device: torch.device) -> Compiled:
    """The network compiled for the run's micro-batches.

    Raises:
        RunError: a micro-batch does not fit into memory. Halving it later would not help: the compiled network takes
            whole ones.
    """
    size, channels = settings.config.image_size, settings.config.image_channels
    batch = min(settings.micro_batch, len(settings.samples))
    try:
        return Compiled(network, (batch, channels, size, size), device, sampler.transitions[0].told)
    except torch.OutOfMemoryError:
        raise RunError(f"out of memory with {batch} samples at a time; give a smaller micro_batch") from None


def _sample_share(job: Job, rank: int, num_processes: int) -> None:
    """Make and write this process's share of the samples."""
    plan = job.plan
    share = plan.batches[rank::num_processes]
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    bar = tqdm(
        desc=f"{len(plan.todo)} images",
        total=sum(map(len, share)) * plan.settings.walk_steps,
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

        for_each_batch(ahead(partial(_read, plan.settings), share), work)


def _read(settings: Settings, sample: Sample) -> Tensor:
    """A sample's reference, [C, H, W] in [-1, 1]."""
    return read_reference(sample.reference.path, settings.config.image_size, settings.config.image_channels)


def _sample(
    job: Job, batch: Sequence[Sample], references: Sequence[Tensor], on_step: Callable[[Step], object]
) -> tuple[Tensor, list[bool]]:
    """Noise to images, for one micro-batch.

    Args:
        batch: of one binding.
        on_step: told of every step.

    Returns:
        [B, C, H, W] in about [-1, 1], and of each image whether all numbers on its way were finite.
    """
    settings = job.plan.settings
    guide = make_guide(torch.stack(list(references)).to(job.device), batch[0].binding, settings)
    numbers = [sample.number for sample in batch]
    watch = FiniteWatch(job.network)
    for step in sample_batch(watch, job.sampler, guide, settings.seed, numbers, settings.walk_steps):
        images = step.sample
        on_step(step)
    watch.add(images)
    return images, watch.is_finite()


def _save(batch: Sequence[Sample], images: Tensor, finite: Sequence[bool], plan: Plan) -> None:
    """Write those images of a batch that are wanted and finite.

    Raises:
        NotFiniteError: values that are not finite; the batch's other images are written.
        RunError: an image cannot be written.
    """
    for sample, pixels, good in zip(batch, to_pixels(images), finite, strict=True):
        if good and sample in plan.todo:
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
    for sample in settings.samples:
        if sample.number == settings.progress_grid:
            _draw_progress(job, sample)


def _draw_progress(job: Job, sample: Sample) -> None:
    """Sample one image once more, by itself, and show it over its steps."""
    settings = job.plan.settings
    progress = Progress(settings.walk_steps)
    _sample(job, [sample], [_read(settings, sample)], lambda step: progress.add(step.sample[0], step.pred_x0[0]))
    progress.save(settings.save_dir / sample.binding.folder / "progress_grid")

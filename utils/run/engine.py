"""One run: settings → plan, model, sampler → every process its share of the samples → grid."""

import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
from utils.run.gallery import FILM, Gallery, save_pictures, without_pictures
from utils.run.grid import grid_of
from utils.run.interrupts import Interrupts
from utils.run.pictures import picture_folders
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


class Sampled(NamedTuple):
    """What a micro-batch has come to.

    Attributes:
        images: [B, C, H, W] in about [-1, 1].
        finite: of each image, whether all numbers on its way were.
        low_frequencies: what of each reference bound, [B, C, H, W].
    """

    images: Tensor
    finite: list[bool]
    low_frequencies: Tensor


def run(args: Mapping[str, Any], interrupts: Interrupts) -> None:
    """Do what the arguments say, alone in the output folder; or, in a dry run, say it.

    Args:
        args: as `sample_ilvr.py -h` lists them; None where one was left out.
        interrupts: told how far the run has come.

    Raises:
        InputError: something given cannot be used.
        RunError: the machine gave out.
    """
    settings = resolve(args)
    for folder in (*(binding.folder for binding in settings.bindings), *picture_folders(settings)):
        make_save_dir(settings.save_dir / folder, settings.dry_run)
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
        gallery = Gallery(plan, keeps=accelerator.is_main_process)
        if accelerator.is_main_process:
            begin(plan, accelerator.num_processes)
            gallery.refresh()
        part(accelerator)
        interrupts.last_words = gallery.last_words if accelerator.is_main_process else None
        with gallery:
            _sample_share(job, gallery, accelerator.process_index, accelerator.num_processes)
            if lock.is_last():
                _finish(job, gallery)


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
    model = load_model(settings.weights, settings.config)
    sampler = _make_sampler(settings, model)
    network = make_ready(choose_class(model.network, settings.class_id), device, settings.mixed_precision)
    if advice := advise(device, settings.mixed_precision):
        accelerator.print(advice)
    if not settings.compile or settings.dry_run:
        return Job(plan, network, sampler, device)
    start = time.perf_counter()
    compiled = _compile(network, settings, device)
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


def _compile(network: Network, settings: Settings, device: torch.device) -> Compiled:
    """The network compiled for the run's micro-batches.

    Raises:
        RunError: a micro-batch does not fit into memory. Halving it later would not help: the compiled network takes
            whole ones.
    """
    size, channels = settings.config.image_size, settings.config.image_channels
    batch = min(settings.micro_batch, len(settings.samples))
    try:
        return Compiled(network, (batch, channels, size, size), device)
    except torch.OutOfMemoryError:
        raise RunError(f"out of memory with {batch} samples at a time; give a smaller micro_batch") from None


def _sample_share(job: Job, gallery: Gallery, rank: int, num_processes: int) -> None:
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
            writer.submit(_save, batch, references, sampled, gallery)

        for_each_batch(ahead(partial(_read, plan.settings), share), work)


def _read(settings: Settings, sample: Sample) -> Tensor:
    """A sample's reference, [C, H, W] in [-1, 1]."""
    return read_reference(sample.reference.path, settings.config.image_size, settings.config.image_channels)


def _sample(
    job: Job, batch: Sequence[Sample], references: Sequence[Tensor], on_step: Callable[[Step], object]
) -> Sampled:
    """Noise to images, for one micro-batch.

    Args:
        batch: of one binding.
        on_step: told of every step.
    """
    settings = job.plan.settings
    guide = make_guide(torch.stack(list(references)).to(job.device), batch[0].binding, settings)
    numbers = [sample.number for sample in batch]
    watch = FiniteWatch(job.network)
    for step in sample_batch(watch, job.sampler, guide, settings.seed, numbers, settings.walk_steps):
        images = step.sample
        on_step(step)
    watch.add(images)
    return Sampled(images, watch.is_finite(), guide.low_frequencies)


def _save(batch: Sequence[Sample], references: Sequence[Tensor], sampled: Sampled, gallery: Gallery) -> None:
    """Write those images of a batch that are wanted and finite, and what the page shows beside them.

    Raises:
        NotFiniteError: values that are not finite; the batch's other images are written.
        RunError: an image cannot be written.
    """
    plan = gallery.plan
    for sample, pixels, good in zip(batch, to_pixels(sampled.images), sampled.finite, strict=True):
        if good and sample in plan.todo:
            save_png(pixels, plan.path(sample), plan.text(sample))
    save_pictures(plan, batch, references, sampled.low_frequencies)
    gallery.refresh()
    if not all(sampled.finite):
        numbers = ", ".join(str(sample.number) for sample, good in zip(batch, sampled.finite, strict=True) if not good)
        advice = {"fp16": "try mixed_precision bf16 or no", "bf16": "try mixed_precision no"}
        raise NotFiniteError(
            f"sample {numbers}: the network returned values that are not finite, and no image was written; "
            + advice.get(plan.settings.mixed_precision, "the weights may be damaged, or not fit the config")
        )


def _finish(job: Job, gallery: Gallery) -> None:
    """Draw the grid, all images being there; one sample's progress, if that is asked for; and write the page.

    Raises:
        RunError: some are not: a process has died, or they were removed.
    """
    plan, settings = job.plan, job.plan.settings
    if plan.left():
        raise RunError(f"{plan.how_to_go_on()}: a process of this run has ended before its share was done")
    for sample in without_pictures(plan):
        reference = _read(settings, sample)
        guide = make_guide(reference[None].to(job.device), sample.binding, settings)
        save_pictures(plan, [sample], [reference], guide.low_frequencies)
    save_png(grid_of(settings), settings.save_dir / "grid.png")
    for sample in settings.samples:
        if sample.number == settings.progress_grid:
            _draw_progress(job, sample)
    gallery.write(running=False)
    print(one_line(f"{len(settings.samples)} images, index.html and grid.png are in {settings.save_dir}"))
    if settings.open and not webbrowser.open((settings.save_dir / "index.html").resolve().as_uri()):
        print("no browser can be found to open index.html with")


def _draw_progress(job: Job, sample: Sample) -> None:
    """Sample one image once more, by itself, and show it over its steps."""
    settings = job.plan.settings
    progress = Progress(settings.walk_steps)
    _sample(job, [sample], [_read(settings, sample)], lambda step: progress.add(step.sample[0], step.pred_x0[0]))
    progress.save(settings.save_dir / sample.binding.folder / FILM)

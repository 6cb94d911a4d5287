"""One process's share of the samples: read, sampled and written, all three at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from diffusions import Step
from utils.batching import BackgroundWriter, FiniteWatch, for_each_batch, read_ahead
from utils.errors import NotFiniteError
from utils.images import save_png, to_pixels
from utils.run.batch import make_guide, sample_batch
from utils.run.gallery import Gallery, save_pictures
from utils.run.job import Job
from utils.run.samples import Sample
from utils.run.shapes import crop
from utils.run.veil import Veil


class Sampled(NamedTuple):
    """What a micro-batch has come to. The device may still be at work on it.

    Attributes:
        images: [B, C, H, W] in about [-1, 1], of the canvas the middle.
        watch: knows of each image whether all numbers on its way were finite.
        low_frequencies: what of each reference bound, all of its canvas, in about [-1, 1]; None where no sample is
            its reference's first, with which that is shown.
    """

    images: Tensor
    watch: FiniteWatch
    low_frequencies: Tensor | None


def sample_share(job: Job, gallery: Gallery, rank: int, num_processes: int) -> None:
    """Make and write this process's share of the samples.

    Raises:
        NotFiniteError: the network returned values that are not finite.
        RunError: the machine gave out.
    """
    plan = job.plan
    share = plan.batches[rank::num_processes]
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    bar = tqdm(
        desc=f"{plan.todo.sum()} images",
        total=share.num_samples * plan.settings.walk_steps,
        unit="step",
        disable=rank > 0 or not share,
    )
    veil = Veil(job)
    with bar, BackgroundWriter() as writer:

        def work(read: Sequence[tuple[Sample, Future[Tensor]]]) -> None:
            batch = [sample for sample, _ in read]
            references = [reference.result() for _, reference in read]

            def on_step(step: Step) -> None:
                bar.update(len(batch))
                if rank == 0:
                    veil.see(step, batch, references)

            sampled = sample(job, batch, references, on_step)
            writer.submit(_save, batch, references, sampled, gallery)

        read = read_ahead(lambda sample: plan.read(sample.reference), share)
        for_each_batch(read, work, may_halve=not plan.settings.compile)


def sample(
    job: Job, batch: Sequence[Sample], references: Sequence[Tensor], on_step: Callable[[Step], object]
) -> Sampled:
    """Noise to images, for one micro-batch.

    Args:
        batch: of one binding and one shape.
        references: one per sample, [C, H, W] in [-1, 1], on the canvas of its images.
        on_step: told of every step.
    """
    settings = job.plan.settings
    guide = make_guide(job.model, torch.stack(list(references)).to(job.device), batch[0].binding, settings)
    numbers = [sample.number for sample in batch]
    watch = FiniteWatch(job.network)
    for step in sample_batch(watch, job.sampler, guide, settings.seed, numbers, settings.walk_steps):
        latents = step.sample
        on_step(step)
    images = job.model.decode(latents)
    watch.add(latents)  # a codebook makes an image even of what is not finite
    if images is not latents:
        watch.add(images)
    is_shown = any(sample.variation == 0 for sample in batch)
    images = crop(images, settings.shape_of(batch[0].reference))
    return Sampled(images, watch, job.model.decode(guide.low_frequencies) if is_shown else None)


def _save(batch: Sequence[Sample], references: Sequence[Tensor], sampled: Sampled, gallery: Gallery) -> None:
    """Write those images of a batch that are wanted and finite, and what the page shows beside them.

    Raises:
        NotFiniteError: values that are not finite; the batch's other images are written.
        RunError: an image cannot be written.
    """
    plan, finite = gallery.plan, sampled.watch.is_finite()
    for sample, pixels, good in zip(batch, to_pixels(sampled.images), finite, strict=True):
        if good and plan.is_todo(sample):
            save_png(pixels, plan.path(sample), plan.text(sample))
    if sampled.low_frequencies is not None:
        save_pictures(plan, batch, references, sampled.low_frequencies)
    gallery.refresh()
    if not all(finite):
        numbers = ", ".join(str(sample.number) for sample, good in zip(batch, finite, strict=True) if not good)
        advice = {"fp16": "try mixed_precision bf16 or no", "bf16": "try mixed_precision no"}
        raise NotFiniteError(
            f"sample {numbers}: the network returned values that are not finite, and no image was written; "
            + advice.get(plan.settings.mixed_precision, "the weights may be damaged, or not fit the config")
        )

"""One process's share of the samples: references read, samples drawn and images written, all three at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from diffusions import Step
from diffusions.low_pass import LowPass
from diffusions.schedule import Transition
from utils.arrays import save_array
from utils.batching import BackgroundWriter, FiniteWatch, for_each_batch, read_ahead
from utils.errors import NotFiniteError
from utils.images import save_png, to_pixels
from utils.run.job import Job, make_guide, sample_batch
from utils.run.outputs import ARRAY_HASH, Preview
from utils.run.page import Page
from utils.run.plan import Plan
from utils.run.samples import Binding, Sample
from utils.run.settings import Settings
from utils.run.sizes import crop

CLEAR = 0.3, 0.7  # ᾱ between which the network expects colours, and can still be led to others
VEILED = 18  # grey levels; benchmarks/veil.py shows what is below and above


class Sampled(NamedTuple):
    """What a micro-batch has come to. The device may still be at work on it.

    Attributes:
        images: [B, C, H, W] in about [-1, 1], the middle of the canvas.
        watch: knows of each image whether all numbers on its way were finite.
        low_frequencies: what of each reference bound, on the whole canvas, in about [-1, 1]; None where no sample is
            its reference's first, with which that is shown.
    """

    images: Tensor
    watch: FiniteWatch
    low_frequencies: Tensor | None


def sample(
    job: Job, batch: Sequence[Sample], references: Sequence[Tensor], on_step: Callable[[Step], object]
) -> Sampled:
    """Draw one micro-batch, from noise to images.

    Args:
        job: the process's.
        batch: samples of one binding and one shape.
        references: one per sample, [C, H, W] in [-1, 1], on the canvas of its images.
        on_step: called with every step.
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
    images = crop(images, settings.shapes[batch[0].reference.name])
    return Sampled(images, watch, job.model.decode(guide.low_frequencies) if is_shown else None)


def sample_share(job: Job, page: Page, rank: int) -> None:
    """Make and write this process's share of the samples: reading, sampling and writing at the same time.

    Raises:
        NotFiniteError: the network returned values that are not finite.
        RunError: the machine gave out.
    """
    plan, settings = job.plan, job.plan.settings
    batches = plan.batches[rank :: plan.num_processes]
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    bar = tqdm(
        desc=f"{plan.todo.sum()} images",
        total=sum(map(len, batches)) * settings.walk_steps,
        unit="step",
        disable=rank > 0 or not batches,
    )
    # Only the paper's refinement of every step, of pixels, can veil the samples; one look at the first batch tells.
    may_veil = rank == 0 and settings.refine == "sample" and not any(settings.range_t) and not job.model.autoencoder
    look_at = {clear_timestep(job.sampler.last_transitions(settings.walk_steps))} if may_veil else set()
    with bar, BackgroundWriter() as writer:

        def work(read: Sequence[tuple[Sample, Future[Tensor]]]) -> None:
            batch = [sample for sample, _ in read]
            references = [reference.result() for _, reference in read]

            def on_step(step: Step) -> None:
                bar.update(len(batch))
                if step.t in look_at:
                    look_at.clear()
                    advise_on_veil(settings, batch[0].binding, references, step.pred_x0)

            sampled = sample(job, batch, references, on_step)
            writer.submit(_save, batch, references, sampled, page)

        samples = ([plan.samples[index] for index in batch.tolist()] for batch in batches)
        read = read_ahead(lambda sample: plan.read(sample.reference), samples)
        for_each_batch(read, work, may_halve=not settings.compile)


def _save(batch: Sequence[Sample], references: Sequence[Tensor], sampled: Sampled, page: Page) -> None:
    """Write those images of a batch that are to be made and are finite, and the previews beside them.

    Raises:
        NotFiniteError: values that are not finite; the batch's other images are written.
        RunError: an image cannot be written.
    """
    plan, finite = page.plan, sampled.watch.is_finite()
    settings = plan.settings
    all_pixels = to_pixels(sampled.images, settings.show_channels, 65535 if settings.save_as == "png16" else 255)
    for sample, image, pixels, good in zip(batch, sampled.images, all_pixels, finite, strict=True):
        if good and plan.is_todo(sample):
            path, text = plan.outputs.path(sample), plan.outputs.text(sample)
            if settings.save_as == "npy":  # first, so that the picture says that both are there
                form = settings.forms[sample.reference.name]
                text[ARRAY_HASH] = save_array(image, path.with_suffix(".npy"), form)
            save_png(pixels, path, text)
    if sampled.low_frequencies is not None:
        _save_previews(plan, batch, references, sampled.low_frequencies)
    page.refresh()
    if not all(finite):
        numbers = ", ".join(str(sample.number) for sample, good in zip(batch, finite, strict=True) if not good)
        advice = {"fp16": "try --mixed_precision bf16 or no", "bf16": "try --mixed_precision no"}
        raise NotFiniteError(
            f"sample {numbers}: the network returned values that are not finite, and no image was written; "
            + advice.get(settings.mixed_precision, "the weights may be damaged, or may not fit the config")
        )


def _save_previews(
    plan: Plan, samples: Sequence[Sample], references: Sequence[Tensor], low_frequencies: Tensor
) -> None:
    """Write the previews of some samples' references that are not there yet.

    Each is written with the reference's first sample, by whichever process makes that one, and so by one only.

    Args:
        plan: the run's.
        samples: which may be first ones.
        references: one per sample, [C, H, W] in [-1, 1], on the canvas of its images.
        low_frequencies: what of each binds, [B, C, H, W] in about [-1, 1].

    Raises:
        RunError: one cannot be written.
    """
    for sample, *images in zip(samples, references, low_frequencies, strict=True):
        if sample.variation == 0:
            shape = plan.settings.shapes[sample.reference.name]
            previews = Preview(sample.reference), Preview(sample.reference, sample.binding.downsample_factor)
            for preview, image in zip(previews, images, strict=True):
                if not plan.outputs.path(preview).exists():
                    pixels = to_pixels(crop(image, shape), plan.settings.show_channels)
                    save_png(pixels, plan.outputs.path(preview), plan.outputs.text(preview))


def save_missing_previews(job: Job) -> None:
    """Write the previews of references whose samples had all been made before.

    Raises:
        RunError: a reference has been replaced, or a preview cannot be written.
    """
    plan, settings = job.plan, job.plan.settings
    for binding in settings.bindings:
        for first in plan.samples.variations(binding, 1):
            previews = Preview(first.reference), Preview(first.reference, binding.downsample_factor)
            if not all(plan.outputs.path(preview).exists() for preview in previews):
                reference = plan.read(first.reference)
                guide = make_guide(job.model, reference[None].to(job.device), binding, settings)
                _save_previews(plan, [first], [reference], job.model.decode(guide.low_frequencies))


def clear_timestep(walk: Sequence[Transition]) -> int | None:
    """Return the middle one of a walk's timesteps at which the veil can be seen, if there is any."""
    clear = [step.t for step in walk if CLEAR[0] <= step.alphas_cumprod <= CLEAR[1]]
    return clear[len(clear) // 2] if clear else None


def veil(low_pass: LowPass, reference: Tensor, pred_x0: Tensor) -> Tensor:
    """Return the RMS of φ_N(y_0 - x̂0) of each image, in grey levels. [B, C, H, W] twice → [B]."""
    return 127.5 * low_pass(reference - pred_x0).square().mean((1, 2, 3)).sqrt()


def advise_on_veil(settings: Settings, binding: Binding, references: Sequence[Tensor], pred_x0: Tensor) -> None:
    """Say so if the references' colours will tint the samples; the host waits for the device once.

    Refined at every step, a sample has the reference's low frequencies whatever the network makes of them. Where the
    network could not have drawn the reference, it expects others: then they stay a veil over its drawing.
    """
    reference = torch.stack(list(references)).to(pred_x0)
    low_pass = LowPass(reference, binding.downsample_factor, settings.interp_method, low_pass=settings.low_pass)
    apart = veil(low_pass, reference, pred_x0).mean().item()
    if apart > VEILED:
        tqdm.write(
            f"At N = {binding.downsample_factor:g} the references' colours differ from what the model would draw (by "
            f"{apart:.0f}/255 on average) and will tint the samples. For cleaner images add --range_t 20% or "
            "--refine regions."
        )

"""One process's share of the samples: references read, samples drawn and images written, all three at once."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from diffusions import GUIDES, Guide, SampleNoise, Step, noised_start
from diffusions.schedule import Transition
from models import ClassConditional, Model
from utils.arrays import save_array
from utils.batching import BackgroundWriter, FiniteWatch, for_each_batch, keep_freed_memory, read_ahead
from utils.errors import NotFiniteError
from utils.images import crop, save_png, to_pixels
from utils.run.job import Job
from utils.run.outputs import ARRAY_HASH, Preview
from utils.run.page import Page
from utils.run.plan import Plan
from utils.run.samples import Binding, Sample, make_batches
from utils.run.settings import Settings

CLEAR = 0.3, 0.7  # ᾱ between which the network expects colours, and can still be led to others
VEILED = 18  # grey levels; benchmarks/veil.py shows what is below and above
VEIL_ADVICE = (
    "At N = {:g} the references' colours differ from what the model would draw (by {:.0f}/255 on average) and will "
    "tint the samples. For cleaner images add --range_t 20% or --refine regions."
)


def make_guide(model: Model, reference: Tensor, mask: Tensor | None, binding: Binding, settings: Settings) -> Guide:
    """Make the guide that the settings name. It binds what the model works on: pixels, or latents.

    Args:
        model, settings: the run's.
        reference: [B, C, H, W] in [-1, 1], one image per sample, on the device to sample on.
        mask: [B, 1, H, W] in 0 … 1, where each binds; None for everywhere.
        binding: its N are in pixels of the image.
    """
    return GUIDES[settings.refine](
        model.encode(reference),
        (binding.ends[0] / model.factor, binding.ends[1] / model.factor),
        settings.interp_method,
        range_t=binding.range_t,
        low_pass=settings.low_pass,
        mask=None if mask is None else F.avg_pool2d(mask, model.factor),
        weight=settings.refine_weight,
    )


def sample(
    job: Job,
    batch: Sequence[Sample],
    references: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    on_step: Callable[[Step, Guide], object],
) -> tuple[Tensor, FiniteWatch, Tensor | None]:
    """Draw one micro-batch, from noise to images.

    Args:
        job: this process's.
        batch: samples of one binding and one shape.
        references: one per sample, [C, H, W] in [-1, 1], on the canvas of its images.
        masks: where each binds, [1, H, W] in 0 … 1; or each is None.
        on_step: called with every step and the guide.

    Returns:
        The images on their canvas, [B, C, H, W] in about [-1, 1]; what knows of each whether all numbers on
        its way were finite; and what of each reference bound, on the whole canvas, or None where no sample is its
        reference's first, with which that is shown. The device may still be at work on them.
    """
    settings = job.plan.settings
    reference = torch.stack(list(references)).to(job.device)
    mask = torch.stack([mask for mask in masks if mask is not None]).to(job.device) if masks[0] is not None else None
    guide = make_guide(job.model, reference, mask, batch[0].binding, settings)
    network = job.network
    if settings.class_id:
        classes = torch.tensor([sample.class_id for sample in batch])
        network = ClassConditional(network, classes.to(job.device), settings.guidance_scale)
    watch = FiniteWatch(network)
    noise = SampleNoise(settings.seed, [sample.number for sample in batch], job.device)
    start = noise.randn(*guide.reference.shape[1:])
    start = noised_start(job.sampler, guide.low_frequencies, start, settings.walk_steps)
    for step in job.sampler.sample_loop(watch, start, guide, noise.randn_like, settings.walk_steps):
        latents = step.sample
        on_step(step, guide)
    images = job.model.decode(latents)
    watch.add(latents)  # a codebook makes an image even of what is not finite
    if images is not latents:
        watch.add(images)
    is_shown = any(sample.variation == 0 for sample in batch)
    return images, watch, job.model.decode(guide.low_frequencies) if is_shown else None


def sample_share(job: Job, page: Page, rank: int) -> None:
    """Make and write this process's share of the samples: reading, sampling and writing at the same time.

    Raises NotFiniteError if the network returned values that are not finite, RunError if the machine gave out.
    """
    plan, settings = job.plan, job.plan.settings
    batches = make_batches(plan.samples, plan.todo, settings.micro_batch, plan.num_processes, settings.shapes)
    batches = batches[rank :: plan.num_processes]
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    bar = tqdm(
        desc=f"{plan.todo.sum()} images",
        total=sum(map(len, batches)) * settings.walk_steps,
        unit="step",
        disable=rank > 0 or not batches,
    )
    # Only the paper's refinement of every step, of pixels, can veil the samples; a look at the first batch shows it.
    is_paper = settings.refine == "sample" and settings.refine_weight == 1 and not settings.masks
    may_veil = rank == 0 and is_paper and not any(settings.range_t) and not job.model.autoencoder
    look_at = {clear_timestep(job.sampler.last_transitions(settings.walk_steps))} if may_veil else set()
    with bar, BackgroundWriter() as writer:

        def work(read: Sequence[tuple[Sample, Future[tuple[Tensor, Tensor | None]]]]) -> None:
            batch = [sample for sample, _ in read]
            references, masks = zip(*(pair.result() for _, pair in read), strict=True)

            def on_step(step: Step, guide: Guide) -> None:
                bar.update(len(batch))
                if step.t in look_at:
                    look_at.clear()
                    apart = guide.veil(step.pred_x0).mean().item()  # the host waits for the device once
                    if apart > VEILED:
                        tqdm.write(VEIL_ADVICE.format(guide.low_pass.factor, apart))

            writer.submit(_save, page, batch, references, masks, *sample(job, batch, references, masks, on_step))

        samples = ([plan.samples[index] for index in batch.tolist()] for batch in batches)
        read = read_ahead(lambda sample: plan.read(sample.reference), samples)
        keep_freed_memory()
        for_each_batch(read, work, may_halve=not settings.compile)


def _save(
    page: Page,
    batch: Sequence[Sample],
    references: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    images: Tensor,
    watch: FiniteWatch,
    low_frequencies: Tensor | None,
) -> None:
    """Write those images of a batch that are to be made and are finite, and the previews beside them.

    Raises NotFiniteError if others are not finite, RunError if an image cannot be written.
    """
    plan, settings = page.plan, page.plan.settings
    is_todo = [plan.todo[sample.index] for sample in batch]
    finite, images = watch.is_finite(), crop(images, settings.shapes[batch[0].reference.name])
    all_pixels = to_pixels(images, settings.show_channels, 65535 if settings.save_as == "png16" else 255)
    for sample, image, pixels, good, wanted in zip(batch, images, all_pixels, finite, is_todo, strict=True):
        if good and wanted:
            path, text = plan.outputs.path(sample), plan.outputs.text(sample)
            if settings.save_as == "npy":  # first, so that the picture says that both are there
                text[ARRAY_HASH] = save_array(image, path.with_suffix(".npy"), settings.forms[sample.reference.name])
            save_png(pixels, path, text)
    if low_frequencies is not None:
        save_previews(plan, batch, references, masks, low_frequencies)
    page.refresh()
    if not all(finite):
        numbers = ", ".join(str(sample.number) for sample, good in zip(batch, finite, strict=True) if not good)
        advice = {"fp16": "try --mixed_precision bf16 or no", "bf16": "try --mixed_precision no"}
        raise NotFiniteError(
            f"sample {numbers}: the network returned values that are not finite, and no image was written; "
            + advice.get(settings.mixed_precision, "the weights may be damaged, or may not fit the config")
        )


def save_previews(
    plan: Plan,
    samples: Sequence[Sample],
    references: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    low_frequencies: Tensor,
) -> None:
    """Write the previews of some samples' references that are not there yet.

    Each is written with the reference's first sample, by whichever process makes that one, and so by one only.
    References and what of them binds are on their canvas, in about [-1, 1]; where nothing binds, the preview is grey.
    """
    for sample, reference, mask, binds in zip(samples, references, masks, low_frequencies, strict=True):
        if sample.variation == 0:
            images = reference, binds if mask is None else mask * binds.cpu()
            shape = plan.settings.shapes[sample.reference.name]
            previews = Preview(sample.reference), Preview(sample.reference, sample.binding)
            for preview, image in zip(previews, images, strict=True):
                if not os.path.exists(plan.outputs.path(preview)):  # Path.exists raises where it may not look
                    pixels = to_pixels(crop(image, shape), plan.settings.show_channels)
                    save_png(pixels, plan.outputs.path(preview), plan.outputs.text(preview))


def clear_timestep(walk: Sequence[Transition]) -> int | None:
    """Return the middle one of a walk's timesteps at which the veil can be seen, if there is any."""
    clear = [step.t for step in walk if CLEAR[0] <= step.alphas_cumprod <= CLEAR[1]]
    return clear[len(clear) // 2] if clear else None

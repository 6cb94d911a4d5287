"""What a process needs to draw any of the run's samples: the model and the sampler, ready on its device."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusions import Overview, Sampler, make_sampler
from models import (
    Checkpoint,
    Compiled,
    Model,
    Tiles,
    advise,
    check_class,
    load_model,
    make_ready,
    open_checkpoint,
)
from models.networks.tiles import WHOLE
from utils.batching import available_memory, is_out_of_memory
from utils.errors import InputError, RunError
from utils.images import Shape
from utils.run.plan import Plan

TENSORS = 15  # of an image's size, in float32, are held while it is sampled; 14 were measured at 1024×1024


@dataclass(frozen=True)
class Job:
    """A plan, and what a process carries it out with.

    Attributes:
        model: the checkpoint, ready on the device.
        network: the model's, compiled if that is asked for, and for larger images in windows; it takes x, t and, if
            classes are drawn, class_id [B].
        sampler: walks from noise to image.
        device: what this process computes on.
        notes: what there is to say of the model and the device, one line each.
    """

    plan: Plan
    model: Model
    network: Callable[..., Tensor]
    sampler: Sampler
    device: torch.device
    notes: tuple[str, ...]


def make_job(plan: Plan, checkpoint: Checkpoint | None, device: torch.device) -> Job:
    """Load the model and make the sampler that the settings name.

    Raises InputError if they cannot be loaded or do not fit each other, RunError if there is no memory for them.
    """
    settings, notes = plan.settings, list[str]()
    if settings.is_larger:
        batch = min(settings.micro_batch, len(plan.samples))
        notes.append(check_memory(settings.canvases.values(), batch, settings.config.image_channels, device))
    model = load_model(checkpoint or open_checkpoint(settings.weights, settings.raw_weights), settings.config)
    notes += model.notes
    process = model.process
    if settings.is_larger:
        process = Overview(process, model.latent_shape[1], model.network.size_multiple, settings.detail_steps)
    try:
        sampler = make_sampler(settings.sampler, process, **settings.diffusion, **settings.sampler_options)
        sampler.check_variance(model.network.out_channels - model.network.in_channels)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None
    check_class(model.network, settings.class_id, settings.guidance_scale)
    try:
        make_ready(model.network, device, settings.mixed_precision)
        if model.autoencoder:  # in full precision: it runs once per image, and half precision would be seen
            make_ready(model.autoencoder, device, "no")
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory with the network alone on {device}; choose a larger device") from None
        raise
    if advice := advise(device, settings.mixed_precision):
        notes.append(advice)
    call: Callable[..., Tensor] = model.network
    if settings.compile and not settings.dry_run:
        start = time.perf_counter()
        call = _compile(model, sampler, plan, device)
        notes.append(f"compiled the network in {time.perf_counter() - start:.0f} s")
    if settings.is_larger:
        size = model.latent_shape[1]
        call = Tiles(
            call, (size, size), int(settings.tile_overlap * size), settings.copies * settings.micro_batch, WHOLE
        )
    return Job(plan, model, call, sampler, device, tuple(notes))


def check_memory(shapes: Iterable[Shape], batch: int, channels: int, device: torch.device) -> str:
    """Return in words what the largest images take, without the network; raise InputError if that is not free."""
    height, width = max(shapes, key=math.prod)
    needed = TENSORS * 4 * batch * channels * height * width
    words = f"{batch} images of {height}×{width} take about {needed / 2**30:.3g} GiB"
    free = available_memory(device)
    if needed > free:
        raise InputError(
            f"{words}, and {free / 2**30:.3g} GiB are free: give a smaller --image_size, --upscale or --micro_batch"
        )
    return words


def _compile(model: Model, sampler: Sampler, plan: Plan, device: torch.device) -> Compiled:
    """Compile the network for the largest of the run's micro-batches; for larger images, of windows.

    Raises RunError if the machine cannot compile, or a micro-batch does not fit into memory: halving it would not help,
    since the compiled network takes whole ones.
    """
    settings, (channels, *window) = plan.settings, model.latent_shape
    largest = np.bincount(plan.samples.numbers % plan.num_processes).max(initial=1)
    batch = min(settings.micro_batch, int(largest))
    shape = [side // model.factor for side in settings.image_size]
    if settings.is_larger:
        batch, shape = settings.micro_batch, window
    batch_shape, model_t = (settings.copies * batch, channels, *shape), sampler.transitions[0].model_t
    try:
        return Compiled(model.network, batch_shape, device, model_t, bool(settings.class_id))
    except Exception as error:  # of any kind: a compiler that is missing, a cache that cannot be written
        if is_out_of_memory(error):
            raise RunError(f"out of memory with {batch} samples at a time; give a smaller --micro_batch") from None
        reason = next(line.strip() for line in [*str(error).splitlines(), repr(error)] if line.strip())
        raise RunError(f"--compile: torch cannot compile the network: {reason}; leave --compile out") from None

"""What a process needs to make any of the run's samples: the model and the sampler, ready on its device."""

import time
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from diffusions import Overview, Sampler, make_sampler
from diffusions.process import Denoiser
from models import Compiled, Model, Network, Tiles, advise, choose_class, load_model, make_ready
from models.networks.tiles import WHOLE
from utils.errors import InputError, RunError
from utils.memory import is_out_of_memory
from utils.run.batch import check_latents
from utils.run.batches import largest_batch
from utils.run.plan import Plan
from utils.run.processes import Processes
from utils.run.settings import Settings
from utils.run.shapes import check_memory

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Job:
    """A plan, and what it is carried out with."""

    plan: Plan
    model: Model
    network: Denoiser  # the model's, compiled if that is asked for, and for larger images in windows
    sampler: Sampler
    device: torch.device


def make_job(plan: Plan, processes: Processes) -> Job:
    """The model and the sampler that the settings name, seen to fit each other, ready on the device.

    Raises:
        InputError: they do not fit, or cannot be loaded.
        RunError: there is no memory for them.
    """
    settings, device = plan.settings, processes.device
    if settings.is_larger:
        processes.print(_check_memory(settings, device))
    model = load_model(settings.checkpoint or settings.weights, settings.config, settings.raw_weights)
    for note in model.notes:
        processes.print(note)
    check_latents(model, settings)
    sampler = _make_sampler(settings, model)
    network = _make_ready(choose_class(model.network, settings.class_id), device, settings.mixed_precision)
    if model.autoencoder:  # as precise as may be: it runs once per image, and half precision would be seen
        _make_ready(model.autoencoder, device, "no")
    if advice := advise(device, settings.mixed_precision):
        processes.print(advice)
    call: Denoiser = network
    if settings.compile and not settings.dry_run:
        start = time.perf_counter()
        call = _compile(network, model, sampler, plan, device)
        processes.print(f"compiled the network in {time.perf_counter() - start:.0f} s")
    if settings.is_larger:
        size = model.latent_shape[1]
        call = Tiles(call, (size, size), int(settings.tile_overlap * size), settings.micro_batch, WHOLE)
    return Job(plan, model, call, sampler, device)


def _check_memory(settings: Settings, device: torch.device) -> str:
    canvases = map(settings.canvas, settings.all_shapes)
    batch = min(settings.micro_batch, len(settings.samples))
    return check_memory(canvases, batch, settings.config.image_channels, device)


def _make_ready(network: M, device: torch.device, precision: str) -> M:
    try:
        return make_ready(network, device, precision)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory with the network alone on {device}; choose a larger device") from None
        raise


def _make_sampler(settings: Settings, model: Model) -> Sampler:
    options = {**settings.diffusion, **settings.sampler_options}
    process = model.process
    if settings.is_larger:
        process = Overview(process, model.latent_shape[1], model.network.size_multiple, settings.detail_steps)
    try:
        sampler = make_sampler(settings.sampler, process, **options)
        sampler.check_variance(model.network.out_channels - model.network.in_channels)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None
    return sampler


def _compile(network: Network, model: Model, sampler: Sampler, plan: Plan, device: torch.device) -> Compiled:
    """The network compiled for the largest of the run's micro-batches; for larger images, of windows.

    Raises:
        RunError: a micro-batch does not fit into memory. Halving it later would not help: the compiled network takes
            whole ones.
    """
    settings, (channels, *window) = plan.settings, model.latent_shape
    batch = largest_batch(settings.samples, settings.micro_batch, plan.num_processes)
    shape = [side // model.factor for side in settings.image_size]
    if settings.is_larger:
        batch, shape = settings.micro_batch, window
    try:
        return Compiled(network, (batch, channels, *shape), device, sampler.transitions[0].told)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory with {batch} samples at a time; give a smaller micro_batch") from None
        raise

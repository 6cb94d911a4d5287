"""What a process needs to make any of the run's samples: the model and the sampler, ready on its device."""

import time
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from diffusions import Sampler, make_sampler
from diffusions.process import Denoiser
from models import Compiled, Model, Network, advise, choose_class, load_model, make_ready
from utils.errors import InputError, RunError
from utils.memory import is_out_of_memory
from utils.run.batch import check_latents
from utils.run.batches import largest_batch
from utils.run.plan import Plan
from utils.run.processes import Processes
from utils.run.settings import Settings

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Job:
    """A plan, and what it is carried out with."""

    plan: Plan
    model: Model
    network: Denoiser  # the model's, compiled if that is asked for
    sampler: Sampler
    device: torch.device


def make_job(plan: Plan, processes: Processes) -> Job:
    """The model and the sampler that the settings name, seen to fit each other, ready on the device.

    Raises:
        InputError: they do not fit, or cannot be loaded.
        RunError: there is no memory for them.
    """
    settings, device = plan.settings, processes.device
    model = load_model(settings.weights, settings.config, settings.raw_weights)
    for note in model.notes:
        processes.print(note)
    check_latents(model, settings)
    sampler = _make_sampler(settings, model)
    network = _make_ready(choose_class(model.network, settings.class_id), device, settings.mixed_precision)
    if model.autoencoder:  # as precise as may be: it runs once per image, and half precision would be seen
        _make_ready(model.autoencoder, device, "no")
    if advice := advise(device, settings.mixed_precision):
        processes.print(advice)
    if not settings.compile or settings.dry_run:
        return Job(plan, model, network, sampler, device)
    start = time.perf_counter()
    compiled = _compile(network, model.latent_shape, sampler, plan, device)
    processes.print(f"compiled the network in {time.perf_counter() - start:.0f} s")
    return Job(plan, model, compiled, sampler, device)


def _make_ready(network: M, device: torch.device, precision: str) -> M:
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
        sampler.check_variance(model.network.out_channels - model.network.in_channels)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None
    return sampler


def _compile(network: Network, shape: tuple[int, ...], sampler: Sampler, plan: Plan, device: torch.device) -> Compiled:
    """The network compiled for the largest of the run's micro-batches, of such a shape, [C, H, W], each.

    Raises:
        RunError: a micro-batch does not fit into memory. Halving it later would not help: the compiled network takes
            whole ones.
    """
    batch = largest_batch(plan.settings.samples, plan.settings.micro_batch, plan.num_processes)
    try:
        return Compiled(network, (batch, *shape), device, sampler.transitions[0].told)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory with {batch} samples at a time; give a smaller micro_batch") from None
        raise

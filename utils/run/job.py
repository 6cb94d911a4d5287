"""What a process needs to draw any of the run's samples: the model and the sampler, ready on its device."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusions import GUIDES, Guide, Overview, Sampler, Step, make_sampler, noised_start
from diffusions.process import Denoiser
from models import (
    Checkpoint,
    Compiled,
    Model,
    Network,
    Tiles,
    advise,
    choose_class,
    load_model,
    make_ready,
    open_checkpoint,
)
from models.networks.tiles import WHOLE
from utils.batching import is_out_of_memory
from utils.errors import InputError, RunError
from utils.noise import SampleNoise
from utils.run.plan import Plan
from utils.run.processes import Processes
from utils.run.samples import Binding, largest_batch
from utils.run.settings import Settings
from utils.run.sizes import check_memory


@dataclass(frozen=True)
class Job:
    """A plan, and what a process carries it out with.

    Attributes:
        plan: the run's.
        model: the checkpoint, ready on the device.
        network: the model's, compiled if that is asked for, and for larger images in windows.
        sampler: walks from noise to image.
        device: what this process computes on.
    """

    plan: Plan
    model: Model
    network: Denoiser
    sampler: Sampler
    device: torch.device


def make_job(plan: Plan, checkpoint: Checkpoint | None, processes: Processes) -> Job:
    """Load the model and make the sampler that the settings name, and see that they fit each other.

    Args:
        plan: the run's.
        checkpoint: the one that the settings name, where this process has it open.
        processes: the run's.

    Raises:
        InputError: they do not fit, or cannot be loaded.
        RunError: there is no memory for them.
    """
    settings, device = plan.settings, processes.device
    if settings.is_larger:
        batch = min(settings.micro_batch, len(plan.samples))
        canvases = map(settings.canvas, settings.shapes.values())
        processes.print(check_memory(canvases, batch, settings.config.image_channels, device))
    model = load_model(checkpoint or open_checkpoint(settings.weights, settings.raw_weights), settings.config)
    for note in model.notes:
        processes.print(note)
    check_latents(model, settings)
    process = model.process
    if settings.is_larger:
        process = Overview(process, model.latent_shape[1], model.network.size_multiple, settings.detail_steps)
    try:
        sampler = make_sampler(settings.sampler, process, **settings.diffusion, **settings.sampler_options)
        sampler.check_variance(model.network.out_channels - model.network.in_channels)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None
    network = choose_class(model.network, settings.class_id)
    try:
        make_ready(network, device, settings.mixed_precision)
        if model.autoencoder:  # in full precision: it runs once per image, and half precision would be seen
            make_ready(model.autoencoder, device, "no")
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory with the network alone on {device}; choose a larger device") from None
        raise
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


def check_latents(model: Model, settings: Settings) -> None:
    """Raise if what the model draws cannot be decoded, or references cannot bind in it.

    Raises:
        InputError: an autoencoder that the config does not describe, or a factor below the autoencoder's own.
    """
    if model.autoencoder_not_configured:
        raise InputError(
            f"weights {settings.weights} contain an autoencoder, which {settings.config.source} does not describe: add "
            "autoencoder, with dialect and params, as configs/ldm_*.yaml have it"
        )
    if min(settings.downsample_factor) < model.factor:
        raise InputError(
            f"--downsample_factor must be at least {model.factor} for this model: one latent covers "
            f"{model.factor}×{model.factor} pixels"
        )


def _compile(network: Network, model: Model, sampler: Sampler, plan: Plan, device: torch.device) -> Denoiser:
    """Compile the network for the largest of the run's micro-batches; for larger images, of windows.

    Raises:
        RunError: the machine cannot compile, or a micro-batch does not fit into memory. Halving it later would not
            help: the compiled network takes whole ones.
    """
    settings, (channels, *window) = plan.settings, model.latent_shape
    batch = largest_batch(plan.samples, settings.micro_batch, plan.num_processes)
    shape = [side // model.factor for side in settings.image_size]
    if settings.is_larger:
        batch, shape = settings.micro_batch, window
    try:
        return Compiled(network, (batch, channels, *shape), device, sampler.transitions[0].model_t)
    except Exception as error:  # of any kind: a compiler that is missing, a cache that cannot be written
        if is_out_of_memory(error):
            raise RunError(f"out of memory with {batch} samples at a time; give a smaller --micro_batch") from None
        reason = next(line.strip() for line in [*str(error).splitlines(), repr(error)] if line.strip())
        raise RunError(f"--compile: torch cannot compile the network: {reason}; leave --compile out") from None


def make_guide(model: Model, reference: Tensor, binding: Binding, settings: Settings) -> Guide:
    """Make the guide that the settings name. It binds what the model works on: pixels, or latents.

    Args:
        model: encodes the references.
        reference: [B, C, H, W] in [-1, 1], one image per sample, on the device to sample on.
        binding: how much of it binds, its N in pixels of the image.
        settings: the run's.
    """
    return GUIDES[settings.refine](
        model.encode(reference),
        binding.downsample_factor / model.factor,
        settings.interp_method,
        range_t=binding.range_t,
        low_pass=settings.low_pass,
    )


def sample_batch(
    model: Denoiser, sampler: Sampler, guide: Guide, seed: int, numbers: Sequence[int], walk_steps: int
) -> Iterator[Step]:
    """Walk from noise to images that follow the guide's references; each sample's noise is its own.

    Args:
        model: the network's call.
        sampler: how to walk.
        guide: of one reference per sample, on the device to sample on.
        seed: of the run.
        numbers: the samples' own, as many as there are references.
        walk_steps: how many of the sampler's last steps are walked; all of them begin with pure noise.

    Returns:
        The steps, as `Sampler.sample_loop` yields them.
    """
    reference = guide.reference
    noise = SampleNoise(seed, numbers, reference.device)
    x = noised_start(sampler, guide.low_frequencies, noise.randn(*reference.shape[1:]), walk_steps)
    return sampler.sample_loop(model, x, guide, noise.randn_like, walk_steps)

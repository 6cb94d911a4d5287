"""Sample images that follow reference pictures, from a diffusion model never trained for it.

ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models (Choi et al., ICCV 2021).
"""

import argparse
import os
import sys
import time
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from utils.config import PROJECT
from utils.errors import InputError
from utils.settings import PRECISIONS, Sample, Settings, make_save_dir, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from accelerate import Accelerator
    from numpy import ndarray
    from torch import Tensor

    from diffusions import DDPM, Step
    from diffusions.ddpm import Model
    from models import ClassConditional, Compiled, UNet

DEMO_CONFIG = PROJECT / "configs" / "openpeeps64.yaml"
DEMO_INPUTS = PROJECT / "assets" / "references"


def main() -> None:
    try:
        settings = resolve(vars(parse_args()))
        for binding in settings.bindings:
            make_save_dir(settings.save_dir / binding.folder)
        run(settings)
    except InputError as error:
        if int(os.environ.get("RANK", 0)) == 0:
            print(f"sample_ilvr: error: {error}", file=sys.stderr)
        sys.exit(2)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("-c", "--config", type=Path, help="YAML of the model; without --weights too, the embedded model's")
    add("--weights", help="checkpoint file; or diffusers folder or hub id owner/name[@revision], which need no config")
    add("--class_id", type=int, help="the class to draw, of a class-conditional model")
    add("--n_samples", type=int, help="images in all, shared out over the references; one a reference if left out")
    add("--input_dir", type=Path, default=DEMO_INPUTS, help="folder of reference images")
    add("--save_dir", type=Path, default=Path("results"), help="folder for the images, grid.png and run.yaml")
    add("--seed", type=int, default=2022, help="every sample's noise follows from this and the sample's number")
    add("--var_type", choices=["fixed_small", "fixed_large", "learned_range"], help="the config's if left out")
    add("--respace_type", choices=["uniform", "uniform-leading", "uniform-trailing", "uniform-linspace", "quad"])
    add("--respace_steps", type=int, help="network calls a sample; the config's, else all of training, if left out")
    add(
        "--downsample_factor",
        type=float,
        nargs="+",
        default=[8],
        help="N: 1 copies the reference, more leaves more freedom; several are a sweep, each into a folder N…",
    )
    add("--interp_method", choices=["cubic", "lanczos2", "lanczos3", "linear", "box"], default="cubic")
    add("--low_pass", choices=["resize", "projection"], default="resize", help="the paper's filter, or the exact one")
    add("--ddim", action="store_true", help="sample with DDIM rather than DDPM")
    add("--ddim_eta", type=float, default=0.0, help="0 draws no noise, 1 as much as DDPM")
    add("--micro_batch", type=int, default=8, help="samples at a time in each process")
    add("--range_t", type=int, nargs="+", default=[0], help="leave the last so many steps unrefined; or a sweep")
    add("--strength", type=float, default=1.0, help="walk only this share of the steps, from the noised reference")
    add("--progress_grid", type=int, nargs="?", const=0, help="show this sample over its steps: a strip, an animation")
    add("--mixed_precision", choices=PRECISIONS, help="of the network; accelerate's own setting if left out, else no")
    add("--compile", action="store_true", help="compile the network first, a minute or so: for GPUs, no gain on a CPU")
    args = parser.parse_args()
    if args.config is None and args.weights is None:
        args.config = DEMO_CONFIG
    return args


def run(settings: Settings) -> None:
    """Settings → model, diffuser, references → shards → batches → files."""
    from accelerate import Accelerator
    from tqdm import tqdm

    from models import choose_class, has_fast_bf16, load_model
    from utils.figures import draw_grid
    from utils.images import check_readable, save_png, to_pixels
    from utils.memory import keep_freed_memory
    from utils.overlap import Background, ahead
    from utils.run_record import hash_weights, write_run_record

    keep_freed_memory()
    accelerator = Accelerator(mixed_precision="no")  # it only shards: make_ready sees to the precision
    check_readable([reference.path for reference in settings.references])
    unet = load_model(settings.weights, settings.config)
    diffuser = build_diffuser(settings, unet)
    model = ready_model(choose_class(unet, settings.class_id), settings, accelerator)
    weights_hash = hash_weights(settings.weights)
    if accelerator.is_main_process:
        write_run_record(settings, weights_hash, accelerator.num_processes)

    here, processes = accelerator.process_index, accelerator.num_processes
    batches = make_batches([s for s in settings.samples if s.number % processes == here], settings.micro_batch)
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    bar = tqdm(
        desc=f"{len(settings.samples)} images",
        total=len(batches) * settings.steps,
        unit="step",
        disable=not accelerator.is_main_process,
    )
    with bar, Background() as writer:
        for batch, references in zip(batches, ahead(partial(read_batch, settings=settings), batches), strict=True):
            images = sample_batch(batch, references, settings, model, diffuser, accelerator, lambda step: bar.update())
            writer.submit(save_batch, batch, to_pixels(images), settings, weights_hash)
    accelerator.wait_for_everyone()

    if accelerator.is_main_process:
        save_png(draw_grid(settings), settings.save_dir / "grid.png")
        if settings.progress_grid is not None:
            draw_progress(settings, model, diffuser, accelerator)
        print(f"{len(settings.samples)} images and grid.png are in {settings.save_dir}")
        if settings.mixed_precision == "no" and has_fast_bf16(accelerator.device):
            print("With --mixed_precision bf16 this machine takes about half as long, for images that hardly differ.")


def make_batches(samples: "Sequence[Sample]", size: int) -> "list[Sequence[Sample]]":
    """Micro-batches, each of one binding, since a batch has one filter: the same as if each had a run of its own."""
    groups = (list(group) for _, group in groupby(samples, attrgetter("binding")))
    return [group[i : i + size] for group in groups for i in range(0, len(group), size)]


def ready_model(
    model: "UNet | ClassConditional", settings: Settings, accelerator: "Accelerator"
) -> "UNet | ClassConditional | Compiled":
    """The network on its device, in its precision, compiled if wished."""
    from models import Compiled, make_ready

    model = make_ready(model, accelerator.device, settings.mixed_precision)
    if not settings.compile:
        return model
    start = time.perf_counter()
    size, channels = settings.config.image_size, settings.config.image_channels
    batch = min(settings.micro_batch, len(settings.samples))
    compiled = Compiled(model, (batch, channels, size, size), accelerator.device)
    accelerator.print(f"compiled the network in {time.perf_counter() - start:.0f} s")
    return compiled


def build_diffuser(settings: Settings, unet: "UNet") -> "DDPM":
    """The sampler that the settings name, seen to fit the network."""
    from diffusions import DDIM, DDPM

    try:
        if settings.ddim:
            diffuser: DDPM = DDIM(eta=settings.ddim_eta, **settings.diffusion)
        else:
            diffuser = DDPM(**settings.diffusion)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None

    channels, out_channels = settings.config.image_channels, unet.conv_out.out_channels
    if unet.conv_in.in_channels != channels or out_channels not in (channels, 2 * channels):
        shape = f"{unet.conv_in.in_channels} to {out_channels}"
        raise InputError(f"{settings.config.source}: image_channels is {channels}, but the model maps {shape} channels")
    if diffuser.var_type == "learned_range" and out_channels == channels and not settings.ddim:
        raise InputError("var_type learned_range needs a model that learned its variance; this one did not")
    return diffuser


def read_batch(batch: "Sequence[Sample]", settings: Settings) -> "Tensor":
    """The references of one micro-batch, [B, C, H, W] in [-1, 1]."""
    import torch

    from utils.images import read_reference

    size, channels = settings.config.image_size, settings.config.image_channels
    return torch.stack([read_reference(sample.reference.path, size, channels) for sample in batch])


def save_batch(batch: "Sequence[Sample]", pixels: "ndarray", settings: Settings, weights_hash: str) -> None:
    """Write a micro-batch's images, [B, H, W, 3] uint8."""
    from utils.images import save_png
    from utils.run_record import png_text

    for sample, picture in zip(batch, pixels, strict=True):
        save_png(picture, settings.save_dir / sample.file_name, png_text(settings, sample, weights_hash))


def sample_batch(
    batch: "Sequence[Sample]",
    references: "Tensor",
    settings: Settings,
    model: "Model",
    diffuser: "DDPM",
    accelerator: "Accelerator",
    on_step: "Callable[[Step], object]",
) -> "Tensor":
    """Noise to images, [B, C, H, W] in [-1, 1], for one micro-batch; `on_step` is told of every step."""
    from diffusions import ILVR, start
    from utils.noise import SampleNoise

    refine = ILVR(
        references.to(accelerator.device),
        batch[0].binding.downsample_factor,
        settings.interp_method,
        range_t=batch[0].binding.range_t,
        low_pass=settings.low_pass,
    )
    noise = SampleNoise(settings.seed, [sample.number for sample in batch], accelerator.device)
    x = start(diffuser, refine.low_pass(refine.reference), noise.randn(*references.shape[1:]), settings.steps)
    for step in diffuser.sample_loop(model, x, refine, noise.randn_like, settings.steps):
        images = step.sample
        on_step(step)
    return images


def draw_progress(settings: Settings, model: "Model", diffuser: "DDPM", accelerator: "Accelerator") -> None:
    """Sample one image once more, by itself, and show it over its steps; of a sweep in each folder."""
    from utils.figures import Progress

    for sample in settings.samples:
        if sample.number == settings.progress_grid:
            progress = Progress(settings.steps)
            sample_batch([sample], read_batch([sample], settings), settings, model, diffuser, accelerator, progress)
            progress.save(settings.save_dir / sample.binding.folder / "progress_grid")


if __name__ == "__main__":
    main()

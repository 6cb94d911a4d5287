"""Sample images that follow reference pictures, from a diffusion model never trained for it.

ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models (Choi et al., ICCV 2021).
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from utils.config import PROJECT
from utils.errors import InputError
from utils.settings import Sample, Settings, make_save_dir, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from accelerate import Accelerator
    from numpy import ndarray
    from torch import Tensor
    from tqdm import tqdm

    from diffusions import DDPM
    from models import UNet

DEMO_CONFIG = PROJECT / "configs" / "openpeeps64.yaml"
DEMO_INPUTS = PROJECT / "assets" / "references"
GRID_ROWS, GRID_VARIATIONS = 64, 8  # what grid.png shows of a large run


def main() -> None:
    try:
        settings = resolve(vars(parse_args()))
        make_save_dir(settings.save_dir)
        run(settings)
    except InputError as error:
        if int(os.environ.get("RANK", 0)) == 0:
            print(f"sample_ilvr: error: {error}", file=sys.stderr)
        sys.exit(2)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("-c", "--config", type=Path, help="YAML of the model; without --weights too, the embedded model's")
    add("--weights", help="checkpoint, or a diffusers folder, which needs no config; the config's if left out")
    add("--n_samples", type=int, help="images in all, shared out over the references; one a reference if left out")
    add("--input_dir", type=Path, default=DEMO_INPUTS, help="folder of reference images")
    add("--save_dir", type=Path, default=Path("results"), help="folder for the images, grid.png and run.yaml")
    add("--seed", type=int, default=2022, help="every sample's noise follows from this and the sample's number")
    add("--var_type", choices=["fixed_small", "fixed_large", "learned_range"], help="the config's if left out")
    add("--respace_type", choices=["uniform", "uniform-leading", "uniform-trailing", "uniform-linspace", "quad"])
    add("--respace_steps", type=int, help="network calls a sample; the config's, else all of training, if left out")
    add("--downsample_factor", type=float, default=8, help="N: 1 copies the reference, more leaves more freedom")
    add("--interp_method", choices=["cubic", "lanczos2", "lanczos3", "linear", "box"], default="cubic")
    add("--ddim", action="store_true", help="sample with DDIM rather than DDPM")
    add("--ddim_eta", type=float, default=0.0, help="0 draws no noise, 1 as much as DDPM")
    add("--micro_batch", type=int, default=8, help="samples at a time in each process")
    add("--range_t", type=int, default=0, help="leave the last so many steps unrefined")
    add("--mixed_precision", choices=["no", "fp16", "bf16"], default="no")
    args = parser.parse_args()
    if args.config is None and args.weights is None:
        args.config = DEMO_CONFIG
    return args


def run(settings: Settings) -> None:
    """Settings → model, diffuser, references → shards → batches → files."""
    from accelerate import Accelerator
    from tqdm import tqdm

    from models import load_model
    from utils.images import check_readable, save_png, to_pixels
    from utils.run_record import hash_weights, png_text, write_run_record

    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    check_readable([reference.path for reference in settings.references])
    model = load_model(settings.weights, settings.config).to(accelerator.device)
    diffuser = build_diffuser(settings, model)
    weights_hash = hash_weights(settings.weights)
    if accelerator.is_main_process:
        write_run_record(settings, weights_hash, accelerator.num_processes)

    shard = settings.samples[accelerator.process_index :: accelerator.num_processes]
    batches = [shard[i : i + settings.micro_batch] for i in range(0, len(shard), settings.micro_batch)]
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    with tqdm(
        desc=f"{settings.n_samples} images",
        total=len(batches) * settings.steps,
        unit="step",
        disable=not accelerator.is_main_process,
    ) as bar:
        for batch in batches:
            images = sample_batch(batch, settings, model, diffuser, accelerator, bar)
            for sample, pixels in zip(batch, to_pixels(images), strict=True):
                save_png(pixels, settings.save_dir / sample.file_name, png_text(settings, sample, weights_hash))
    accelerator.wait_for_everyone()

    if accelerator.is_main_process:
        save_png(draw_grid(settings), settings.save_dir / "grid.png")
        print(f"{settings.n_samples} images and grid.png are in {settings.save_dir}")


def build_diffuser(settings: Settings, model: "UNet") -> "DDPM":
    """The sampler that the settings name, seen to fit the network."""
    from diffusions import DDIM, DDPM

    try:
        if settings.ddim:
            diffuser: DDPM = DDIM(eta=settings.ddim_eta, **settings.diffusion)
        else:
            diffuser = DDPM(**settings.diffusion)
    except ValueError as error:
        raise InputError(f"{settings.config.source}: {error}") from None

    channels, out_channels = settings.config.image_channels, model.conv_out.out_channels
    if model.conv_in.in_channels != channels or out_channels not in (channels, 2 * channels):
        shape = f"{model.conv_in.in_channels} to {out_channels}"
        raise InputError(f"{settings.config.source}: image_channels is {channels}, but the model maps {shape} channels")
    if diffuser.var_type == "learned_range" and out_channels == channels and not settings.ddim:
        raise InputError("var_type learned_range needs a model that learned its variance; this one did not")
    return diffuser


def sample_batch(
    batch: "Sequence[Sample]",
    settings: Settings,
    model: "UNet",
    diffuser: "DDPM",
    accelerator: "Accelerator",
    bar: "tqdm[NoReturn]",
) -> "Tensor":
    """Noise to images, [B, C, H, W] in [-1, 1], for one micro-batch."""
    import torch

    from diffusions import ILVR
    from utils.images import read_reference
    from utils.noise import SampleNoise

    size, channels = settings.config.image_size, settings.config.image_channels
    references = torch.stack([read_reference(sample.reference.path, size, channels) for sample in batch])
    refine = ILVR(
        references.to(accelerator.device),
        settings.downsample_factor,
        settings.interp_method,
        range_t=settings.range_t,
    )
    noise = SampleNoise(settings.seed, [sample.number for sample in batch], accelerator.device)
    with accelerator.autocast():
        for step in diffuser.sample_loop(model, noise.randn(channels, size, size), refine, noise.randn_like):
            images = step.sample
            bar.update()
    return images


def draw_grid(settings: Settings) -> "ndarray":
    """A row a reference: the reference, what of it binds, and its samples."""
    from diffusions import ILVR
    from utils.images import make_grid, read_pixels, read_reference, to_pixels

    rows: dict[str, list[ndarray]] = {}
    for sample in settings.samples:
        if sample.variation >= GRID_VARIATIONS or (len(rows) >= GRID_ROWS and sample.reference.name not in rows):
            continue
        if sample.reference.name not in rows:
            reference = read_reference(
                sample.reference.path, settings.config.image_size, settings.config.image_channels
            )[None]
            refine = ILVR(reference, settings.downsample_factor, settings.interp_method)
            rows[sample.reference.name] = [*to_pixels(reference), *to_pixels(refine.low_pass(reference))]
        rows[sample.reference.name].append(read_pixels(settings.save_dir / sample.file_name))
    return make_grid(list(rows.values()))


if __name__ == "__main__":
    main()

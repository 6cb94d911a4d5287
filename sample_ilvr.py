"""Sample images that follow reference pictures, from a diffusion model never trained for it.

ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models (Choi et al., ICCV 2021).
"""

import argparse
import gc
import os
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from utils import interrupts
from utils.config import PROJECT
from utils.errors import InputError, NotFiniteError, RunError, one_line
from utils.settings import PRECISIONS, Sample, Settings, make_save_dir, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from accelerate import Accelerator
    from torch import Tensor

    from diffusions import DDPM, Step
    from diffusions.ddpm import Model
    from models import ClassConditional, UNet
    from utils.files import FolderLock
    from utils.resume import Plan

DEMO_CONFIG = PROJECT / "configs" / "openpeeps64.yaml"
DEMO_INPUTS = PROJECT / "assets" / "references"


def main() -> None:
    try:
        settings = resolve(vars(parse_args()))
        for binding in settings.bindings:
            make_save_dir(settings.save_dir / binding.folder, settings.dry_run)
        run(settings)
    except InputError as error:  # every process finds the same
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:
            print(f"sample_ilvr: error: {error}", file=sys.stderr)
        sys.exit(2)
    except RunError as error:  # what befell this process
        print(f"sample_ilvr: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except interrupts.Interrupted as interrupted:
        interrupts.leave(interrupted.number)


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
    add("--skip_bad_inputs", action="store_true", help="go on without references that cannot be read")
    add("--overwrite", action="store_true", help="replace images of other settings in save_dir")
    add("--dry_run", action="store_true", help="check everything, say what would be done, and write nothing")
    args = parser.parse_args()
    if args.config is None and args.weights is None:
        args.config = DEMO_CONFIG
    return args


def run(settings: Settings) -> None:
    """Do what the settings say, alone in the output folder; or, in a dry run, say it."""
    from utils.files import FolderLock

    with nullcontext() if settings.dry_run else FolderLock(settings.save_dir) as lock:
        run_alone(settings, lock)


def run_alone(settings: Settings, lock: "FolderLock | None") -> None:
    """Settings → plan, model, diffuser → every process its share of the samples → grid."""
    gc.disable()  # it would search through torch's objects over and over, a fifth of the time that importing takes
    from models import advise, choose_class, load_model, make_ready
    from utils.memory import keep_freed_memory
    from utils.processes import agree, connect, part
    from utils.resume import begin, make_plan

    gc.freeze()  # they stay, and need no searching later
    gc.enable()
    keep_freed_memory()
    accelerator = connect()
    plan = agree(accelerator, lambda: make_plan(settings, lock, accelerator.num_processes))
    if lock:
        lock.share()
    settings = plan.settings
    unet = load_model(settings.weights, settings.config)
    diffuser = build_diffuser(settings, unet)
    network = make_ready(choose_class(unet, settings.class_id), accelerator.device, settings.mixed_precision)
    if advice := advise(accelerator.device, settings.mixed_precision):
        accelerator.print(advice)
    if lock is None:
        accelerator.print(plan.summary(accelerator.num_processes))
        return

    model = compile_network(network, settings, accelerator) if settings.compile else network
    if accelerator.is_main_process:
        begin(plan, accelerator.num_processes)
    part(accelerator)
    interrupts.last_words = plan.how_to_go_on if accelerator.is_main_process else None
    sample_share(plan, model, diffuser, accelerator)
    if lock.is_last():
        finish(plan)
        if settings.progress_grid is not None:
            draw_progress(settings, model, diffuser, accelerator)


def compile_network(network: "UNet | ClassConditional", settings: Settings, accelerator: "Accelerator") -> "Model":
    """The network compiled for the run's micro-batches, and how long that took.

    Raises:
        RunError: a micro-batch does not fit into memory. Halving it later would not help: the compiled network takes
            whole ones.
    """
    import torch

    from models import Compiled

    start = time.perf_counter()
    size, channels = settings.config.image_size, settings.config.image_channels
    batch = min(settings.micro_batch, len(settings.samples))
    try:
        compiled = Compiled(network, (batch, channels, size, size), accelerator.device)
    except torch.OutOfMemoryError:
        raise RunError(f"out of memory with {batch} samples at a time; give a smaller --micro_batch") from None
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
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # also from numbers beyond all measure
        raise InputError(f"{settings.config.source}: {error}") from None

    config, out_channels = settings.config, unet.conv_out.out_channels
    channels, halvings = config.image_channels, sum(stage.resample is not None for stage in unet.down)
    if unet.conv_in.in_channels != channels or out_channels not in (channels, 2 * channels):
        shape = f"{unet.conv_in.in_channels} to {out_channels}"
        raise InputError(f"{config.source}: image_channels is {channels}, but the model maps {shape} channels")
    if config.image_size % 2**halvings:
        raise InputError(
            f"{config.source}: image_size is {config.image_size}, but the model halves it {halvings} times"
        )
    if diffuser.var_type == "learned_range" and out_channels == channels and not settings.ddim:
        raise InputError("var_type learned_range needs a model that learned its variance; this one did not")
    return diffuser


def sample_share(plan: "Plan", model: "Model", diffuser: "DDPM", accelerator: "Accelerator") -> None:
    """Make and write this process's share of the samples."""
    from tqdm import tqdm

    from utils.micro_batches import for_each_batch
    from utils.overlap import Background, ahead

    share = plan.batches[accelerator.process_index :: accelerator.num_processes]
    # The main process has as many batches as any other, so that its own steps measure the whole job.
    bar = tqdm(
        desc=f"{len(plan.todo)} images",
        total=sum(map(len, share)) * plan.settings.steps,
        unit="step",
        disable=not (accelerator.is_main_process and share),
    )
    with bar, Background() as writer:

        def work(read: "Sequence[tuple[Sample, Future[Tensor]]]") -> None:
            batch = [sample for sample, _ in read]
            try:
                references = [reference.result() for _, reference in read]
            except InputError as error:  # a reference that was readable has gone, and only this process knows
                raise RunError(str(error)) from None
            sampled = sample_batch(
                batch, references, plan.settings, model, diffuser, accelerator, lambda _: bar.update(len(batch))
            )
            writer.submit(save_batch, batch, *sampled, plan)

        for_each_batch(ahead(partial(read_sample, plan.settings), share), work)


def read_sample(settings: Settings, sample: Sample) -> "Tensor":
    """A sample's reference, [C, H, W] in [-1, 1]."""
    from utils.images import read_reference

    return read_reference(sample.reference.path, settings.config.image_size, settings.config.image_channels)


def sample_batch(
    batch: "Sequence[Sample]",
    references: "Sequence[Tensor]",
    settings: Settings,
    model: "Model",
    diffuser: "DDPM",
    accelerator: "Accelerator",
    on_step: "Callable[[Step], object]",
) -> "tuple[Tensor, list[bool]]":
    """Noise to images, for one micro-batch.

    Args:
        on_step: told of every step.

    Returns:
        [B, C, H, W] in [-1, 1], and of each image whether all numbers on its way were finite.
    """
    import torch

    from diffusions import ILVR, start
    from utils.finite import FiniteWatch
    from utils.noise import SampleNoise

    refine = ILVR(
        torch.stack(list(references)).to(accelerator.device),
        batch[0].binding.downsample_factor,
        settings.interp_method,
        range_t=batch[0].binding.range_t,
        low_pass=settings.low_pass,
    )
    noise = SampleNoise(settings.seed, [sample.number for sample in batch], accelerator.device)
    x = start(diffuser, refine.low_pass(refine.reference), noise.randn(*refine.reference.shape[1:]), settings.steps)
    watch = FiniteWatch(model)
    for step in diffuser.sample_loop(watch, x, refine, noise.randn_like, settings.steps):
        images = step.sample
        on_step(step)
    watch.add(images)
    return images, watch.is_finite()


def save_batch(batch: "Sequence[Sample]", images: "Tensor", finite: "Sequence[bool]", plan: "Plan") -> None:
    """Write a batch's images, less those that are none.

    Raises:
        NotFiniteError: values that are not finite; the batch's other images are written.
        RunError: an image cannot be written.
    """
    from utils.images import save_png, to_pixels

    for sample, pixels, good in zip(batch, to_pixels(images), finite, strict=True):
        if good and sample in plan.todo:
            save_png(pixels, plan.path(sample), plan.text(sample))
    if not all(finite):
        numbers = ", ".join(str(sample.number) for sample, good in zip(batch, finite, strict=True) if not good)
        advice = {"fp16": "try --mixed_precision bf16 or no", "bf16": "try --mixed_precision no"}
        raise NotFiniteError(
            f"sample {numbers}: the network returned values that are not finite, and no image was written; "
            + advice.get(plan.settings.mixed_precision, "the weights may be damaged, or not fit the config")
        )


def finish(plan: "Plan") -> None:
    """Draw the grid, all images being there.

    Raises:
        RunError: some are not: a process has died, or they were removed.
    """
    from utils.figures import draw_grid
    from utils.images import save_png

    if plan.left():
        raise RunError(f"{plan.how_to_go_on()}: a process of this run has ended before its share was done")
    save_png(draw_grid(plan.settings), plan.settings.save_dir / "grid.png")
    print(one_line(f"{len(plan.settings.samples)} images and grid.png are in {plan.settings.save_dir}"))


def draw_progress(settings: Settings, model: "Model", diffuser: "DDPM", accelerator: "Accelerator") -> None:
    """Sample one image once more, by itself, and show it over its steps; of a sweep in each folder."""
    from utils.figures import Progress

    for sample in settings.samples:
        if sample.number == settings.progress_grid:
            progress = Progress(settings.steps)
            sample_batch([sample], [read_sample(settings, sample)], settings, model, diffuser, accelerator, progress)
            progress.save(settings.save_dir / sample.binding.folder / "progress_grid")


if __name__ == "__main__":
    interrupts.watch()
    main()

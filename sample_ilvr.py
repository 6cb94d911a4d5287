"""Sample images that follow reference pictures, from a diffusion model never trained for it.

ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models (Choi et al., ICCV 2021).
A config may have defaults of its own under `sampling`, as the embedded model's has; else they are the paper's.
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.errors import InputError, ReportedByOtherRankError, RunError
from utils.files import PROJECT, command_line
from utils.run.interrupts import Interrupted, Interrupts

DEMO_CONFIG = PROJECT / "configs" / "openpeeps64.yaml"
DEMO_INPUTS = PROJECT / "assets" / "references"
FOR_ONCE = {"--open", "--overwrite", "--dry_run"}  # no part of the command that makes the images again


def main(argv: Sequence[str] | None = None, interrupts: Interrupts | None = None) -> int:
    """Do what the command line says.

    Args:
        argv: the arguments, `sys.argv`'s if left out.
        interrupts: who ends the process on a signal; told how far the run has come.

    Returns:
        The exit code; what is wrong has been said on standard error.
    """
    args = parse_args(argv)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what goes wrong between processes is told in our own words
    gc.disable()  # it would search through torch's objects over and over, a fifth of the time that importing takes
    from utils.run import engine

    gc.freeze()  # they stay, and need no searching later
    gc.enable()
    try:
        engine.run(vars(args), interrupts or Interrupts())
    except (InputError, RunError) as error:
        print(f"sample_ilvr: error: {error}", file=sys.stderr)
        return error.exit_code
    except ReportedByOtherRankError as error:
        return error.exit_code
    return 0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's arguments, None where one was left out."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser("sample_ilvr.py", description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add("-c", "--config", type=Path, help="YAML of the model; without --weights too, the embedded model's")
    add("--weights", help="checkpoint file, diffusers folder or hub id owner/name[@revision]; most need no config")
    add("--raw_weights", action="store_true", help="the last weights of training rather than their average")
    add("--set", nargs="+", metavar="NAME=VALUE", help="of the model: image_size=64 num_heads=4 beta_schedule=cosine …")
    add("--write_config", type=Path, help="write the model's config to this file, and sample nothing")
    add("--check_model", action="store_true", help="see whether other settings fit better, and sample nothing")
    add("--class_id", type=int, help="the class to draw, of a class-conditional model")
    add("--n_samples", type=int, help="images in all, shared out over the references; one per reference if left out")
    add("--input_dir", type=Path, default=DEMO_INPUTS, help="folder of reference images, or one image")
    add("--save_dir", type=Path, default=Path("results"), help="folder for the images, and index.html to see them")
    add("--seed", type=int, default=2022, help="every sample's noise follows from this and the sample's number")
    add("--var_type", help="fixed_small, fixed_large or learned_range; the config's if left out")
    add(
        "--respace_type",
        help="uniform (= uniform-leading), uniform-trailing, uniform-linspace or quad; or as diffusers rounds: "
        "diffusers-leading, diffusers-leading-1, diffusers-trailing or diffusers-linspace; the config's if left out",
    )
    add("--respace_steps", type=int, help="network calls per sample; the config's, else all of training, if left out")
    add(
        "--downsample_factor",
        type=float,
        nargs="+",
        help="N, 8 if left out: 1 copies the reference, more leaves more freedom; several are a sweep, one folder each",
    )
    add("--interp_method", help="cubic, the default, lanczos2, lanczos3, linear or box")
    add("--low_pass", help="resize, the paper's filter and the default, or projection, the exact one")
    add(
        "--refine",
        help="sample, the paper's and the default; or regions: clean pictures where references are of other styles",
    )
    add("--sampler", help="ddpm, the default, ddim, or dpmpp_2m_sde: for few steps that are uniform-trailing")
    add("--ddim", action="store_true", help="short for --sampler ddim")
    add("--ddim_eta", type=float, default=0.0, help="0 draws no noise, 1 as much as DDPM")
    add("--micro_batch", type=int, default=8, help="samples at a time in each process")
    add("--image_size", type=int, nargs="+", help="height and width, or one number for both; the model's if left out")
    add("--keep_aspect", action="store_true", help="each reference keeps its shape, its short side is the image_size")
    add("--upscale", type=int, default=1, help="so many times as large, and N so many times as large with it")
    add("--tile_overlap", type=float, default=0.25, help="of the windows in larger images, as a share of a window")
    add("--detail", type=float, default=0.02, help="share of the steps, the last, that larger images take in windows")
    add("--range_t", nargs="+", help="leave the last so many steps unrefined, or such a share, 20%%; or a sweep")
    add("--strength", type=float, help="walk only this share of the steps, from the noised reference")
    add("--progress_grid", type=int, nargs="?", const=0, help="show this sample over its steps: a strip, an animation")
    add("--mixed_precision", help="no, bf16 or fp16, of the network; accelerate's own setting if left out, else no")
    add("--compile", action="store_true", help="compile the network first, a minute or so: for GPUs, no gain on a CPU")
    add("--open", action="store_true", help="when done, show the images in the browser")
    add("--skip_bad_inputs", action="store_true", help="go on without references that cannot be read")
    add("--allow_truncated", action="store_true", help="read references whose pixels are cut short; the rest is black")
    add("--max_megapixels", type=float, default=512, help="the largest reference to read; of colours, 4 MB each")
    add("--overwrite", action="store_true", help="replace images of other settings in save_dir, and files of others")
    add("--dry_run", action="store_true", help="check everything, say what would be done, and write nothing")
    args = parser.parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    args.command = command_line(["python", "sample_ilvr.py", *(word for word in words if word not in FOR_ONCE)])
    if args.config is None and args.weights is None:
        args.config = DEMO_CONFIG
    return args


if __name__ == "__main__":
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # what cannot be shown must not end a run
    if sys.platform == "win32":
        print("sample_ilvr: error: this runs on Linux and macOS; on Windows, in its Linux (WSL)", file=sys.stderr)
        sys.exit(2)
    watched = Interrupts()
    watched.watch()
    try:
        sys.exit(main(interrupts=watched))
    except Interrupted as interrupted:
        watched.leave(interrupted.number)

"""Every argument of a run, declared once. This module is read before torch is imported."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.files import PROJECT

DEMO_CONFIG, DEMO_INPUTS = PROJECT / "configs" / "atlas64.yaml", PROJECT / "assets" / "references"
ONE_OFF_FLAGS = {"--open", "--overwrite", "--dry_run"}  # not recorded in the command that reproduces a run
NEVER = object()
# what a config may write for values of a type, or for an argument that reads words of its own
TYPES: dict[type | str, tuple[type, ...]] = {float: (int, float), "range_t": (str, int)}
TYPES["downsample_factor"] = (str, int, float)

MAX_SAMPLES = 10_000_000  # planned in 11 s and 0.7 GB; more are better made in several runs


@dataclass(frozen=True)
class Argument:
    """One argument of the command line.

    Attributes:
        name: without dashes.
        group: the heading it has in the help.
        help: one line.
        type: of one value.
        default: the value where neither the command line nor the config says another.
        choices: the values it may take; empty for any.
        bounds: the least and the greatest value; None where there is no bound.
        nargs: as argparse has it.
        metavar: what stands for the value in the help.
        in_config: whether a config may give its own default, under `sampling`.
        omitted_at: of an argument that images depend on and that was added later: the value at which the record
            leaves it out, so that images made before stay valid.
    """

    name: str
    group: str
    help: str
    type: type = str
    default: Any = None
    choices: Sequence[str] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    nargs: str | int | None = None
    metavar: str | None = None
    in_config: bool = False
    omitted_at: Any = NEVER

    def check(self, given: Any, where: str) -> None:
        """Raise if a value cannot be this argument's.

        Args:
            given: one value, or several where the argument takes several.
            where: what the message calls the argument.

        Raises:
            InputError: a value of another type, outside of the bounds, or not one of the choices.
        """
        values = given if self.nargs and isinstance(given, (list, tuple)) else [given]
        types = TYPES.get(self.name) or TYPES.get(self.type) or self.type
        for value in values:
            if not isinstance(value, types) or (isinstance(value, bool) and self.type is not bool):
                raise InputError(f"{where} must be of type {self.type.__name__}, not {value!r}")
            if self.choices and value not in self.choices:
                raise InputError(f"{where} must be one of {', '.join(self.choices)}, not {value!r}")
            check_bounds(value, *self.bounds, where)


def check_bounds(value: Any, low: float | None, high: float | None, where: str) -> None:
    """Raise InputError if a number is outside of low … high, or no number; None is no bound."""
    inside = (low is None or low <= value) and (high is None or value <= high)
    if not inside:
        limits = f"at least {low}" if high is None else f"{low} … {high}"
        raise InputError(f"{where} must be {limits}, not {value}")


MODEL, REFERENCES, BINDING = "model", "references", "what binds"
IMAGES, SAMPLING, RUNNING = "images", "sampling", "running"
RESPACINGS: tuple[str, ...] = ("uniform", "uniform-leading", "uniform-trailing", "uniform-linspace", "quad")
RESPACINGS += ("diffusers-leading", "diffusers-leading-1", "diffusers-trailing", "diffusers-linspace")

ARGUMENTS = {
    argument.name: argument
    for argument in (
        Argument("config", MODEL, "the model's YAML; without --weights, the embedded one", Path),
        Argument("weights", MODEL, "checkpoint, diffusers folder, hub id owner/name[@rev]"),
        Argument("raw_weights", MODEL, "the last weights of training, not their average", bool, False,
                 omitted_at=False),
        Argument("set", MODEL, "what the weights don't say, image_size=64 …", nargs="+", metavar="K=V"),
        Argument("class_id", MODEL, "classes, or all: each variation draws the next one", nargs="+", metavar="ID"),
        Argument("guidance_scale", MODEL, "of classifier-free guidance; 1 is none", float, 1.0, bounds=(0, 100),
                 omitted_at=1.0),
        Argument("write_config", MODEL, "write the model's config to this file and stop", Path, metavar="FILE"),
        Argument("check_model", MODEL, "compare the model's settings with others and stop", bool, False),
        Argument("input_dir", REFERENCES, "folder of pictures, or one", Path, DEMO_INPUTS,
                 metavar="DIR"),
        Argument("value_range", REFERENCES, "what means -1 and 1; else config's, or black, white", float, nargs=2,
                 metavar="LOW HIGH", omitted_at=None),
        Argument("channels_first", REFERENCES, "arrays whose shape can be both are [C, H, W]", bool, False,
                 omitted_at=None),
        Argument("channels_last", REFERENCES, "arrays whose shape can be both are [H, W, C]", bool, False),
        Argument("skip_bad_inputs", REFERENCES, "go on without references that cannot be read", bool, False),
        Argument("allow_truncated", REFERENCES, "read pictures that are cut short; the rest is black", bool, False),
        Argument("max_megapixels", REFERENCES, "the largest reference to read", float, 512, bounds=(0.001, None)),
        Argument("downsample_factor", BINDING,
                 "N: 1 copies the reference, more leaves more freedom; 32:4 falls from 32 to 4; several: a sweep",
                 default=8.0, nargs="+", metavar="N", in_config=True),
        Argument("refine", BINDING, "sample, the paper's; regions, cleaner for other styles", default="sample",
                 choices=("sample", "regions"), in_config=True, omitted_at="sample"),
        Argument("range_t", BINDING, "last steps or share (20%) left unrefined", default=0, nargs="+",
                 metavar="STEPS", in_config=True),
        Argument("low_pass", BINDING, "resize is the paper's", default="resize",
                 choices=("resize", "projection", "gaussian", "dft"), in_config=True),
        Argument("interp_method", BINDING, "the filter's kernel", default="cubic",
                 choices=("cubic", "lanczos2", "lanczos3", "linear", "box"), in_config=True),
        Argument("refine_weight", BINDING, "how much of its correction a step makes", float, 1.0, bounds=(0, 1),
                 in_config=True, omitted_at=1.0),
        Argument("mask_dir", BINDING, "masks named as references, or one: white binds", Path,
                 metavar="DIR"),
        Argument("transparent", BINDING, "what is transparent in a reference is white, or free", default="white",
                 choices=("white", "free"), omitted_at="white"),
        Argument("n_samples", IMAGES, "images in all; else one per reference", int, bounds=(1, MAX_SAMPLES),
                 metavar="COUNT"),
        Argument("save_dir", IMAGES, "for the images and index.html", Path, Path("results"), metavar="DIR"),
        Argument("save_as", IMAGES, "npy adds floats in value_range; png16 is for grey", default="png",
                 choices=("png", "png16", "npy"), omitted_at="png"),
        Argument("show_channels", IMAGES, "up to three that a PNG shows; else the first", int, nargs="+",
                 bounds=(0, None), metavar="C", omitted_at=None),
        Argument("seed", IMAGES, "of the noise, with the image's number", int, 2022, bounds=(0, None)),
        Argument("image_size", IMAGES, "height and width, or one for both; else the model's", int, nargs="+",
                 metavar="PIXELS"),
        Argument("keep_aspect", IMAGES, "keep each reference's shape; image_size: short side", bool, False,
                 omitted_at=False),
        Argument("upscale", IMAGES, "this many times as large, and N with it", int, 1, bounds=(1, None)),
        Argument("detail", IMAGES, "last steps of larger images, in windows", float, 0.02,
                 bounds=(0, 1), in_config=True, omitted_at=None),
        Argument("tile_overlap", IMAGES, "of windows, as a share of one", float, 0.25, bounds=(0, 0.9),
                 omitted_at=None),
        Argument("progress_grid", IMAGES, "show this image over its steps: a strip, an animation", int, nargs="?",
                 bounds=(0, None), metavar="NUMBER"),
        Argument("overwrite", IMAGES, "replace images of other settings, and files of others", bool, False),
        Argument("open", IMAGES, "show the images in the browser when done", bool, False),
        Argument("respace_steps", SAMPLING, "network calls per image; else the config's", int, bounds=(1, None),
                 in_config=True, metavar="S"),
        Argument("respace_type", SAMPLING, "which timesteps; else the config's", choices=RESPACINGS, in_config=True,
                 metavar="TYPE"),
        Argument("var_type", SAMPLING, "DDPM's variance; else the config's",
                 choices=("fixed_small", "fixed_large", "learned_range")),
        Argument("sampler", SAMPLING, "else ddpm; dpmpp_2m_sde is best with few, uniform-trailing steps",
                 choices=("ddpm", "ddim", "dpmpp_2m_sde")),
        Argument("ddim", SAMPLING, "short for --sampler ddim", bool, False),
        Argument("ddim_eta", SAMPLING, "0 for no noise, 1 for DDPM's", float, 0.0, bounds=(0, 1)),
        Argument("strength", SAMPLING, "walk this share, from a noised reference", float, 1.0,
                 bounds=(0.001, 1), in_config=True),
        Argument("micro_batch", RUNNING, "images at a time in each process", int, 8, bounds=(1, None)),
        Argument("mixed_precision", RUNNING, "else accelerate's, else no",
                 choices=("no", "bf16", "fp16")),
        Argument("compile", RUNNING, "torch.compile the network (about a minute; GPUs only)", bool, False),
        Argument("dry_run", RUNNING, "check all, say what would be done, write nothing", bool, False),
    )
}  # fmt: skip
DEFAULTS = {name: argument.default for name, argument in ARGUMENTS.items()}
OMITTED_AT = {name: argument.omitted_at for name, argument in ARGUMENTS.items() if argument.omitted_at is not NEVER}


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line.

    Args:
        argv: the arguments; None for `sys.argv`'s.

    Returns:
        The arguments that were given, by name, each checked by itself; and `command`, which reproduces the run.

    Raises:
        InputError: a value that its argument cannot have.
        SystemExit: an unknown argument, or -h.
    """
    usage = "sample_ilvr.py [-c CONFIG] [--weights WEIGHTS] [--input_dir DIR] [--save_dir DIR] [options]"
    parser = argparse.ArgumentParser(
        usage=usage,
        description="Sample images that follow reference pictures (ILVR, Choi et al., ICCV 2021).",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=25),
        argument_default=argparse.SUPPRESS,
        add_help=False,
    )
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(a.group for a in ARGUMENTS.values())}
    for argument in ARGUMENTS.values():
        names = ["-c", "--config"] if argument.name == "config" else [f"--{argument.name}"]
        notes = [", ".join(argument.choices)] if argument.choices else []
        default: Any = argument.default
        if default is not None and argument.type is not bool:
            default = default.relative_to(PROJECT) if default == DEMO_INPUTS else default
            notes.append(f"default {default:g}" if isinstance(default, float) else f"default {default}")
        options: dict[str, Any] = {"action": "store_true"}
        if argument.type is not bool:
            metavar: Any = argument.metavar or {int: "I", float: "X", Path: "FILE"}.get(argument.type, "NAME")
            metavar = tuple(metavar.split()) if isinstance(argument.nargs, int) else metavar  # a word for each value
            options = {"type": argument.type, "metavar": metavar, "nargs": argument.nargs}
            options |= {"const": 0} if argument.nargs == "?" else {}
        text = argument.help.replace("%", "%%") + (f" ({'; '.join(notes)})" if notes else "")
        groups[argument.group].add_argument(*names, help=text, **options)
    groups[RUNNING].add_argument("-h", "--help", action="help", help="show this and stop")
    words = sys.argv[1:] if argv is None else argv
    if any(word.startswith(("--local-rank", "--local_rank")) for word in words):
        raise InputError("--local-rank: start the processes with torchrun or accelerate launch, which need no argument")
    args = vars(parser.parse_args(words))
    for name, value in args.items():
        if value is not None:
            ARGUMENTS[name].check(value, f"--{name}")
    args["command"] = shlex.join(["python", "sample_ilvr.py", *(word for word in words if word not in ONE_OFF_FLAGS)])
    if "config" not in args and "weights" not in args:
        args["config"] = DEMO_CONFIG
    return args

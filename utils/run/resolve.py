"""From the command line to settings: arguments checked against each other and against what they name."""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

from diffusions import GUIDES, SAMPLERS, taken_options
from diffusions.ddpm import VAR_TYPES
from diffusions.low_pass import WAYS_UP
from diffusions.schedule import RESPACINGS
from models import DTYPES, Checkpoint, build_network, config_for, open_checkpoint
from models.files.config import Config
from models.networks.autoencoder import Autoencoder
from utils.errors import InputError
from utils.plain_yaml import parse_yaml
from utils.resize_right import KERNELS
from utils.run.references import find_references
from utils.run.settings import Settings, share_walked
from utils.run.shapes import check_shape

MOST_SAMPLES = 10_000_000  # planned in 11 s and 0.7 GB; more are better made in several runs
DEFAULTS = {  # of what neither the command line nor the config's `sampling` says
    "downsample_factor": 8.0,
    "interp_method": "cubic",
    "low_pass": "resize",
    "refine": "sample",
    "range_t": 0,
    "strength": 1.0,
}


def resolve(args: Mapping[str, Any]) -> Settings:
    """Check the command line's arguments against each other and against what they name.

    Args:
        args: as `sample_ilvr.py -h` lists them; None where one was left out.

    Raises:
        InputError: the first argument, config or folder that cannot be used.
    """
    _check_working_folder(args)
    checkpoint, config = find_model(args)
    args = {**args, **DEFAULTS, **config.sampling, **{key: given for key, given in args.items() if given is not None}}
    diffusion = _diffusion(args, config)
    sampler, sampler_options = _sampler(args)
    for name, known in (("interp_method", KERNELS), ("low_pass", WAYS_UP), ("refine", GUIDES)):
        _one_of(name, args[name], known)
    # Accelerate's own setting, which its launcher hands on in the environment, holds where the command line is silent.
    precision = args["mixed_precision"] or os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    _one_of("mixed_precision", precision, DTYPES)
    if not 0 < args["strength"] <= 1:
        raise InputError(f"--strength must be above 0 and at most 1, not {args['strength']}")
    _within("seed", args["seed"], 0)
    _within("micro_batch", args["micro_batch"], 1)

    if not args["max_megapixels"] > 0:
        raise InputError(f"--max_megapixels must be above 0, not {args['max_megapixels']}")
    unreadable: list[OSError] = []
    on_unreadable = unreadable.append if args["skip_bad_inputs"] else None
    references, notes = find_references(args["input_dir"], args["save_dir"], on_unreadable)
    skipped = {f"{error.filename}/": f"cannot be read: {error.strerror or error}" for error in unreadable}
    n_samples = len(references) if args["n_samples"] is None else args["n_samples"]
    _within("n_samples", n_samples, 1, MOST_SAMPLES)
    if args["progress_grid"] is not None:
        _within("progress_grid", args["progress_grid"], 0, n_samples - 1)
    values = {key: args[key] for key in Settings.__dataclass_fields__ if key in args}
    values |= {
        "config": config,
        "weights": checkpoint.path,
        "checkpoint": checkpoint,
        "diffusion": diffusion,
        "mixed_precision": precision,
    }
    values |= {"sampler": sampler, "sampler_options": sampler_options}
    values |= {"references": references, "input_notes": notes, "n_samples": n_samples, "skipped": skipped}
    values |= {"strength": float(args["strength"])}
    values |= _sizes(args, config)
    return Settings(**(values | _sweeps(args, min(values["image_size"]), diffusion["respace_steps"])))


def _check_working_folder(args: Mapping[str, Any]) -> None:
    """That what is relative to the working folder is anywhere: it may have been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        for name in ("input_dir", "save_dir"):
            if not args[name].is_absolute():
                raise InputError(f"{name} {args[name]}: the working folder, which it is in, was removed") from None


def find_model(args: Mapping[str, Any]) -> tuple[Checkpoint, Config]:
    """Open the weights, and find the config they go with.

    Raises:
        InputError: weights or a config that cannot be found or used.
    """
    checkpoint = open_checkpoint(args["weights"], args["raw_weights"]) if args["weights"] else None
    found = config_for(checkpoint, args["config"], _given(args["set"] or ()))
    if checkpoint is None:
        if not found.weights:
            raise InputError(f"{found.source}: names no weights: give them with --weights")
        checkpoint = open_checkpoint(found.weights, args["raw_weights"])
    return checkpoint, found


def _given(pairs: Sequence[str]) -> dict[str, Any]:
    """The values of `--set`, each NAME=VALUE, the value as YAML has it."""
    given = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InputError(f"--set {pair!r} is not NAME=VALUE")
        given[name] = parse_yaml(value.encode("utf-8", "surrogateescape"), f"--set {name}")
    return given


def _diffusion(args: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The config's, with the command line's values in place of its own."""
    given = {key: args[key] for key in ("var_type", "respace_type", "respace_steps") if args[key] is not None}
    diffusion = {**config.diffusion, **given}
    _within("respace_steps", diffusion.setdefault("respace_steps", config.total_steps), 1, config.total_steps)
    _one_of("var_type", diffusion["var_type"], VAR_TYPES)
    _one_of("respace_type", diffusion.get("respace_type", "uniform"), RESPACINGS)
    return diffusion


def _sampler(args: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The sampler's name, and the options that it alone takes."""
    name = args["sampler"] or ("ddim" if args["ddim"] else "ddpm")
    _one_of("sampler", name, SAMPLERS)
    if args["ddim"] and name != "ddim":
        raise InputError(f"--ddim and --sampler {name} name two samplers")
    _within("ddim_eta", args["ddim_eta"], 0, 1)
    options = taken_options(name, {"eta": args["ddim_eta"]})
    if args["ddim_eta"] and "eta" not in options:
        raise InputError("--ddim_eta has a meaning only with --ddim")
    return name, options


def _sizes(args: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """How large the images are, and what their sides are multiples of."""
    _within("upscale", args["upscale"], 1)
    _within("detail", args["detail"], 0, 1)
    if not 0 <= args["tile_overlap"] < 1:
        raise InputError(f"--tile_overlap must be at least 0 and below 1, a whole window, not {args['tile_overlap']}")
    sides = args["image_size"] or [config.image_size]
    if len(sides) > 2:
        raise InputError("--image_size takes a height and a width, or one number for both")
    if args["keep_aspect"] and len(sides) == 2:
        raise InputError("--keep_aspect takes one number as --image_size, the short side")
    shape = args["upscale"] * sides[0], args["upscale"] * sides[-1]
    multiple = _size_multiple(config) if args["image_size"] or args["keep_aspect"] else 1
    check_shape(shape, multiple)
    return {"image_size": shape, "size_multiple": multiple}


def _size_multiple(config: Config) -> int:
    """What heights and widths of a model's images are multiples of."""
    autoencoder = cast(Autoencoder, build_network(config.autoencoder)) if config.autoencoder else None
    return build_network(config).size_multiple * (autoencoder.factor if autoencoder else 1)


def _sweeps(args: Mapping[str, Any], short_side: int, respace_steps: int) -> dict[str, tuple[Any, ...]]:
    """The factors, in pixels of the image, and the ranges, each value once."""
    factors = _once(list(map(_number, _once(args["downsample_factor"]))))
    for factor in factors:
        _within("downsample_factor", factor, 1, short_side // args["upscale"])
    walked = share_walked(args["strength"], respace_steps)
    ranges = _once([_steps("range_t", given, walked) for given in _once(args["range_t"])])
    for range_t in ranges:
        _within("range_t", range_t, 0, respace_steps)
    scaled = tuple(args["upscale"] * factor for factor in factors)
    return {"downsample_factor": scaled, "range_t": ranges}


def _once(values: Any) -> tuple[Any, ...]:
    """One value or several, each once."""
    return tuple(dict.fromkeys(values if isinstance(values, (list, tuple)) else [values]))


def _number(given: object) -> float:
    if not isinstance(given, (int, float)):
        raise InputError(f"--downsample_factor must be numbers, not {given!r}")
    return float(given)


def _steps(name: str, given: int | str, walked: int) -> int:
    """A number of steps; of a share, `20%`, that of the steps walked, rounded down."""
    number, share, rest = str(given).partition("%")
    try:
        return math.floor(Fraction(number) * walked / 100) if share and not rest else int(str(given))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"--{name} must be a number of steps or a share like 20%, not {given!r}") from None


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"--{name} {value!r} is none of {', '.join(known)}")


def _within(name: str, value: float, low: float, high: float | None = None) -> None:
    if not (low <= value and (high is None or value <= high)):  # not (…): a NaN is refused too
        raise InputError(
            f"--{name} must be {f'{low} … {high}' if high is not None else f'at least {low}'}, not {value}"
        )

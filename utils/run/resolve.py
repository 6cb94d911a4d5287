"""From arguments to settings: each checked against the others, and against what they name."""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

from models import Checkpoint, Config, build_network, check_value_range, config_for, open_checkpoint
from utils.errors import InputError
from utils.files import PROJECT, parse_yaml
from utils.pictures import Reading
from utils.run.arguments import ARGUMENTS, DEFAULTS, MAX_SAMPLES, check_bounds
from utils.run.references import find_masks, find_references
from utils.run.samples import PREVIEWS, Binding
from utils.run.settings import OMITTED, Settings


def resolve(args: Mapping[str, Any]) -> tuple[Settings, Checkpoint]:
    """Check the arguments that were given against each other and against what they name.

    Returns:
        The settings, and the checkpoint that they name.

    Raises:
        InputError: the first argument, config or folder that cannot be used.
    """
    checkpoint, config = find_model(args)
    if checkpoint.autoencoder and not config.autoencoder:
        raise InputError(
            f"weights {checkpoint.path} contain an autoencoder, which {config.source} does not describe: add "
            "autoencoder, with dialect and params, as configs/ldm_*.yaml have it"
        )
    for name, value in config.sampling.items():
        known = [argument.name for argument in ARGUMENTS.values() if argument.in_config]
        if name not in known:
            raise InputError(f"{config.source}: unknown key sampling.{name}; it must be one of {', '.join(known)}")
        ARGUMENTS[name].check(value, f"{config.source}: sampling.{name}")
    shown = {"input_dir": PROJECT / config.references} if config.references else {}
    args = {**DEFAULTS, **shown, **config.sampling, **args}
    # Accelerate's launcher passes its own setting on in the environment.
    precision = args["mixed_precision"] or os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    ARGUMENTS["mixed_precision"].check(precision, "ACCELERATE_MIXED_PRECISION")

    unreadable: list[OSError] = []
    on_unreadable = unreadable.append if args["skip_bad_inputs"] else None
    references, input_notes = find_references(args["input_dir"], args["save_dir"], on_unreadable)
    n_samples = len(references) if args["n_samples"] is None else args["n_samples"]
    check_bounds(n_samples, 1, MAX_SAMPLES, "--n_samples")
    if args["progress_grid"] is not None:
        check_bounds(args["progress_grid"], 0, n_samples - 1, "--progress_grid")
    resolved = {
        "config": config,
        "weights": checkpoint.path,
        "references": references,
        "masks": find_masks(args["mask_dir"], args["input_dir"], references) if args["mask_dir"] else {},
        "n_samples": n_samples,
        "mixed_precision": precision,
        "class_id": _resolve_classes(args["class_id"], config) if args["class_id"] else (),
        "input_notes": input_notes,
        "skipped": {f"{error.filename}/": f"cannot be read: {error.strerror or error}" for error in unreadable},
        **(steps := _resolve_steps(args, config)),
        **_resolve_images(args, config, steps["range_t"]),
    }
    values = {name: args[name] for name in Settings.__dataclass_fields__ if name in args}
    settings = Settings(**(values | resolved))
    return replace(settings, identity=identity_of(settings)), checkpoint


def _resolve_steps(args: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return which steps are walked, by which sampler, and which of them are refined."""
    given = {name: args[name] for name in ("var_type", "respace_type", "respace_steps") if args[name] is not None}
    diffusion = {**config.diffusion, **given}
    steps = diffusion.setdefault("respace_steps", diffusion["total_steps"])
    check_bounds(steps, 1, diffusion["total_steps"], "--respace_steps")
    for name in ("var_type", "respace_type"):  # the config's own have not been checked yet
        ARGUMENTS[name].check(diffusion.get(name, "uniform"), f"{config.source}: diffusion.{name}")

    sampler = args["sampler"] or ("ddim" if args["ddim"] else "ddpm")
    sampler_options = {"eta": args["ddim_eta"]} if sampler == "ddim" else {}
    if args["ddim"] and sampler != "ddim":
        raise InputError(f"--ddim contradicts --sampler {sampler}: give one of them")
    if args["ddim_eta"] and not sampler_options:
        raise InputError("--ddim_eta needs --ddim")

    strength = float(args["strength"])
    # a share of the steps, in whole ones, at least one
    walk_steps, detail_steps = (max(1, round(share * steps)) for share in (strength, args["detail"]))
    ranges: dict[int, None] = {}  # each once, in order
    for given in args["range_t"] if isinstance(args["range_t"], list) else [args["range_t"]]:
        match = re.fullmatch(r"(-?\d{1,9})|(-?\d{1,9}(?:\.\d{1,9})?)%", str(given))
        if not match:
            raise InputError(f"--range_t must be a number of steps or a share like 20%, not {given!r}")
        range_t = int(match[1]) if match[1] else math.floor(Fraction(match[2]) * walk_steps / 100)
        check_bounds(range_t, 0, steps, "--range_t")
        ranges[range_t] = None
    return {
        "diffusion": diffusion,
        "sampler": sampler,
        "sampler_options": sampler_options,
        "strength": strength,
        "walk_steps": walk_steps,
        "detail_steps": detail_steps if args["detail"] else 0,
        "range_t": tuple(ranges),
    }


def _resolve_classes(given: Sequence[str], config: Config) -> Sequence[int]:
    """Return the classes to draw."""
    if list(given) == ["all"]:
        if not (num_classes := build_network(config).num_classes):
            raise InputError("--class_id all: the model is unconditional, it has no classes")
        return range(num_classes)
    for each in given:
        if not re.fullmatch(r"-?\d{1,9}", each):
            raise InputError(f"--class_id must be whole numbers, or all alone, not {each!r}")
    return tuple(map(int, given))


def _resolve_images(args: Mapping[str, Any], config: Config, ranges: Sequence[int]) -> dict[str, Any]:
    """Return how large the images are, what binds them at that size, and what their values mean."""
    sides, upscale = args["image_size"] or [config.image_size], args["upscale"]
    if len(sides) > 2:
        raise InputError("--image_size takes a height and a width, or one number for both")
    if args["keep_aspect"] and len(sides) == 2:
        raise InputError("--keep_aspect takes one number as --image_size, the short side")
    shape = upscale * sides[0], upscale * sides[-1]
    autoencoder: Any = build_network(config.autoencoder) if config.autoencoder else None
    latent = autoencoder.factor if autoencoder else 1  # pixels along a side
    multiple = latent * build_network(config).size_multiple if args["image_size"] or args["keep_aspect"] else 1
    for side in shape:
        if side < 1 or side % multiple:
            below, above = side // multiple * multiple, -(-side // multiple) * multiple
            nearest = f"{below} and {above}" if below > 0 else f"{max(above, multiple)}"
            raise InputError(f"--image_size {side}: must be a multiple of {multiple} for this model, such as {nearest}")

    channels, show = config.image_channels, args["show_channels"]
    if args["channels_first"] and args["channels_last"]:
        raise InputError("--channels_first contradicts --channels_last: give one of them")
    if args["save_as"] == "png16" and channels != 1:
        raise InputError(f"--save_as png16 is for grey, not for images of {channels} channels: choose npy")
    if show is not None and (len(show) > 3 or max(show) >= channels):
        raise InputError(f"--show_channels must be one to three of 0 … {channels - 1}, not {' '.join(map(str, show))}")
    bindings = _resolve_bindings(args, ranges, min(shape), latent)
    folders = ["", *(binding.folder for binding in bindings), PREVIEWS, *(binding.previews for binding in bindings)]
    return {
        "image_size": shape,
        "is_larger": args["keep_aspect"] or max(shape) > config.image_size,
        "size_multiple": multiple,
        "bindings": bindings,
        "folders": tuple(dict.fromkeys(folders)),
        "downsample_factor": tuple(dict.fromkeys(binding.downsample_factor for binding in bindings)),
        "reading": Reading(
            channels,
            check_value_range(args["value_range"] or config.value_range, "--value_range"),
            args["channels_first"] if args["channels_first"] or args["channels_last"] else None,
            args["max_megapixels"],
            args["allow_truncated"],
        ),
    }


def _resolve_bindings(args: Mapping[str, Any], ranges: Sequence[int], side: int, latent: int) -> tuple[Binding, ...]:
    """Return each N, in pixels of the images, with each range; `side` is the images' shorter one."""
    if args["interp_method"] != "cubic" and args["low_pass"] in ("gaussian", "dft"):
        raise InputError(f"--interp_method {args['interp_method']}: --low_pass {args['low_pass']} has no kernel")
    given, upscale, walks = args["downsample_factor"], args["upscale"], dict[tuple[float, float], None]()
    for each in given if isinstance(given, list) else [given]:
        try:
            first, last = map(float, each.split(":") if ":" in str(each) else (each, each))
        except ValueError:
            raise InputError(f"--downsample_factor must be a number, or two like 32:4, not {each!r}") from None
        for factor in (first, last):
            check_bounds(factor, 1, side // upscale, "--downsample_factor")
            if upscale * factor < latent:
                raise InputError(
                    f"--downsample_factor must be at least {latent / upscale:g} for this model: one latent covers "
                    f"{latent}×{latent} pixels"
                )
        walks[upscale * first, upscale * last] = None  # each once, in order
    bindings = []
    for ends, range_t in product(walks, ranges):
        words = ":".join(str(end).removesuffix(".0") for end in dict.fromkeys(ends))
        folder = f"N{words}".replace(":", "-")
        # where there are several factors or ranges, each has a folder named after it
        names = [folder] * (len(walks) > 1) + [f"range{range_t}"] * (len(ranges) > 1)
        value = ends[0] if ends[0] == ends[1] else words
        bindings.append(Binding(value, range_t, ends, words, "/".join(names), f"{PREVIEWS}/{folder}"))
    return tuple(bindings)


def identity_of(settings: Settings) -> dict[str, Any]:
    """Return what an image depends on, apart from its number, its reference and the content of the weights."""
    config, is_larger = settings.config, settings.is_larger
    diffusion = dict(settings.diffusion)
    if "betas" in diffusion:  # every image carries this: of a whole schedule, a hash
        sha256 = hashlib.sha256(json.dumps(diffusion["betas"]).encode()).hexdigest()
        diffusion["betas"] = f"{len(diffusion['betas'])} numbers, SHA-256 {sha256}"
    classes, height, width = list(settings.class_id), *settings.image_size
    factors, ranges = list(settings.downsample_factor), list(settings.range_t)
    options = [f"{key} {value}" for key, value in settings.sampler_options.items()]
    values = {
        "model": {"dialect": config.family, "params": dict(config.params)},
        "autoencoder": config.autoencoder.words() if config.autoencoder else None,
        "raw_weights": settings.raw_weights,
        "class_id": "all" if isinstance(settings.class_id, range) else classes if classes[1:] else (*classes, None)[0],
        "guidance_scale": settings.guidance_scale,
        "image_size": height if height == width else [height, width],
        "keep_aspect": settings.keep_aspect,
        "tile_overlap": settings.tile_overlap if is_larger else None,
        "detail": settings.detail if is_larger else None,
        "image_channels": config.image_channels,
        "value_range": list(settings.reading.value_range) if settings.reading.value_range else None,
        "channels_first": settings.reading.channels_first,
        "save_as": settings.save_as.replace("npy", "png"),  # an array beside the PNG leaves it as it is
        "show_channels": settings.show_channels,
        "diffusion": diffusion,
        "sampler": ", ".join([settings.sampler.upper(), *options]),
        "downsample_factor": factors if factors[1:] else factors[0],
        "interp_method": settings.interp_method,
        "low_pass": settings.low_pass,
        "refine": settings.refine,
        "refine_weight": settings.refine_weight,
        "masked": bool(settings.masks),
        "transparent": settings.transparent,
        "range_t": ranges if ranges[1:] else ranges[0],
        "strength": settings.strength,
        "seed": settings.seed,
        "mixed_precision": settings.mixed_precision,
    }
    return {key: value for key, value in values.items() if key not in OMITTED or value != OMITTED[key]}


def find_model(args: Mapping[str, Any]) -> tuple[Checkpoint, Config]:
    """Open the weights, and find the config that they go with; raise InputError if either cannot be found or used."""
    given = {}
    for pair in args.get("set") or ():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InputError(f"--set {pair!r} must be NAME=VALUE")
        given[name] = parse_yaml(value.encode("utf-8", "surrogateescape"), f"--set {name}")
    config = config_for(None, args["config"], given) if "config" in args else None
    weights = args.get("weights") or (config and config.weights)
    if not weights:
        raise InputError(f"{args['config']}: names no weights: give them with --weights")
    checkpoint = open_checkpoint(weights, args.get("raw_weights", False))
    return checkpoint, config or config_for(checkpoint, None, given)

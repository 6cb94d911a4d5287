"""Everything a run is told, checked before torch is imported, and what of it is recorded."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from utils.config import Config, config_for, find_weights
from utils.errors import InputError
from utils.references import Reference, find_references

PRECISIONS = ("no", "fp16", "bf16")
MOST_SAMPLES = 10_000_000  # what a process can list without harm


@dataclass(frozen=True)
class Binding:
    """How much of a reference binds; `folder` is where the run puts the images it binds so."""

    downsample_factor: float
    range_t: int
    folder: str = field(default="", compare=False)


@dataclass(frozen=True)
class Sample:
    """One image to make: its number, the reference it follows, which variation of it this is, and what binds it.

    Its noise is its number's, so that the images of a sweep differ by what binds them only.
    """

    number: int
    reference: Reference
    variation: int
    binding: Binding

    @property
    def file_name(self) -> str:
        """Under which it is written in the run's folder."""
        return (PurePath(self.binding.folder) / f"{self.reference.name}_{self.variation}.png").as_posix()


@dataclass(frozen=True)
class Settings:
    """A run, whole: the command line and the config, resolved against each other.

    `diffusion` holds the diffuser's own arguments, the command line's over the config's, `respace_steps`
    among them. `skipped` are the references that cannot be read, and why.
    """

    config: Config
    weights: Path
    class_id: int | None
    input_dir: Path
    save_dir: Path
    references: tuple[Reference, ...]
    n_samples: int
    seed: int
    diffusion: Mapping[str, Any]
    downsample_factor: tuple[float, ...]
    interp_method: str
    low_pass: str
    range_t: tuple[int, ...]
    strength: float
    ddim: bool
    ddim_eta: float
    micro_batch: int
    mixed_precision: str
    compile: bool
    progress_grid: int | None
    overwrite: bool
    skip_bad_inputs: bool
    dry_run: bool
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The network calls a sample takes: S, or its share that `strength` leaves."""
        return steps_left(self.strength, self.diffusion["respace_steps"])

    @cached_property
    def bindings(self) -> tuple[Binding, ...]:
        """Every factor with every range; where there are several, each has a folder named after it."""

        def folder(factor: float, range_t: int) -> str:
            names = [f"N{factor!r}".removesuffix(".0")] if len(self.downsample_factor) > 1 else []
            names += [f"range{range_t}"] if len(self.range_t) > 1 else []
            return "/".join(names)

        return tuple(Binding(n, b, folder(n, b)) for n in self.downsample_factor for b in self.range_t)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Sample i follows reference i mod R and is its variation i div R; all of them for each binding.

        References that cannot be read are counted too, so that the others' numbers, and with them their noise,
        stay what they are when the file is mended; only their own samples are left out.
        """
        count = len(self.references)
        return tuple(
            Sample(i, self.references[i % count], i // count, binding)
            for binding in self.bindings
            for i in range(self.n_samples)
            if self.references[i % count].name not in self.skipped
        )

    @property
    def image_settings(self) -> dict[str, Any]:
        """What an image depends on, apart from its number, its reference and the weights' content."""
        return {
            "model": {"dialect": self.config.dialect, "params": dict(self.config.params)},
            "class_id": self.class_id,
            "image_size": self.config.image_size,
            "image_channels": self.config.image_channels,
            "diffusion": dict(self.diffusion),
            "sampler": f"DDIM, eta {self.ddim_eta}" if self.ddim else "DDPM",
            "downsample_factor": _one_or_all(self.downsample_factor),
            "interp_method": self.interp_method,
            "low_pass": self.low_pass,
            "range_t": _one_or_all(self.range_t),
            "strength": self.strength,
            "seed": self.seed,
            "mixed_precision": self.mixed_precision,
        }


def resolve(args: Mapping[str, Any]) -> Settings:
    """Check the command line's arguments against each other and against what they name.

    Args:
        args: as `sample_ilvr.py -h` lists them; None where one was left out.

    Raises:
        InputError: the first argument, config or folder that cannot be used.
    """
    weights = find_weights(args["weights"]) if args["weights"] else None
    config = config_for(weights, args["config"])
    if weights is None:
        if not config.weights:
            raise InputError(f"{config.source}: names no weights: give them with --weights")
        weights = find_weights(config.weights)

    diffusion = dict(config.diffusion)
    diffusion |= {key: args[key] for key in ("var_type", "respace_type", "respace_steps") if args[key] is not None}
    steps = diffusion.setdefault("respace_steps", config.total_steps)
    _within("respace_steps", steps, 1, config.total_steps)
    sweeps: dict[str, tuple[float, ...]] = {
        name: tuple(dict.fromkeys(args[name])) for name in ("downsample_factor", "range_t")
    }
    for factor in sweeps["downsample_factor"]:
        _within("downsample_factor", factor, 1, config.image_size)
    for range_t in sweeps["range_t"]:
        _within("range_t", range_t, 0, steps)
    if not 0 < args["strength"] <= 1:
        raise InputError(f"--strength must be above 0 and at most 1, not {args['strength']}")
    _within("ddim_eta", args["ddim_eta"], 0, 1)
    _within("seed", args["seed"], 0)
    _within("micro_batch", args["micro_batch"], 1)
    # Accelerate's own setting, which its launcher hands on in the environment, holds where the command line is silent.
    precision = args["mixed_precision"] or os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    if precision not in PRECISIONS:
        raise InputError(f"mixed precision {precision} is not supported (only {', '.join(PRECISIONS)})")
    if args["ddim_eta"] and not args["ddim"]:
        raise InputError("--ddim_eta has a meaning only with --ddim")

    references = tuple(find_references(args["input_dir"], exclude=args["save_dir"]))
    n_samples = len(references) if args["n_samples"] is None else args["n_samples"]
    _within("n_samples", n_samples, 1)
    if n_samples > MOST_SAMPLES:
        raise InputError(f"--n_samples must be at most {MOST_SAMPLES}, not {n_samples}")
    if args["progress_grid"] is not None:
        _within("progress_grid", args["progress_grid"], 0, n_samples - 1)
    taken = {key: args[key] for key in Settings.__dataclass_fields__ if key in args}
    taken |= {"config": config, "weights": weights, "n_samples": n_samples, "mixed_precision": precision}
    return Settings(**(taken | sweeps), diffusion=diffusion, references=references)


def steps_left(strength: float, steps: int) -> int:
    """How many of the S steps a strength s walks: s·S in whole steps, at least one."""
    return max(1, round(strength * steps))


def make_save_dir(folder: Path, dry_run: bool = False) -> None:
    """Make an output folder and see that files can be written there; in a dry run, only see whether they could.

    Raises:
        InputError: they cannot.
    """
    if dry_run:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"save_dir {folder}: cannot be written to")
        return
    probe = folder / f".{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"save_dir {folder}: cannot be written to: {error.strerror or error}") from None


def _one_or_all(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _within(name: str, value: float, low: float, high: float | None = None) -> None:
    if not (low <= value and (high is None or value <= high)):  # not (…): a NaN is refused too
        raise InputError(
            f"--{name} must be {f'{low} … {high}' if high is not None else f'at least {low}'}, not {value}"
        )

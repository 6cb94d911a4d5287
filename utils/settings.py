"""Everything a run is told, checked before torch is imported, and what of it is recorded."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from utils.config import Config, config_for, find_weights, read_config
from utils.errors import InputError
from utils.references import Reference, find_references


@dataclass(frozen=True)
class Sample:
    """One image to make: its number, the reference it follows and which variation of it this is."""

    number: int
    reference: Reference
    variation: int

    @property
    def file_name(self) -> str:
        """Under which it is written in the run's folder."""
        return f"{self.reference.name}_{self.variation}.png"


@dataclass(frozen=True)
class Settings:
    """A run, whole: the command line and the config, resolved against each other.

    `diffusion` holds the diffuser's own arguments, the command line's over the config's, `respace_steps`
    among them.
    """

    config: Config
    weights: Path
    input_dir: Path
    save_dir: Path
    references: tuple[Reference, ...]
    n_samples: int
    seed: int
    diffusion: Mapping[str, Any]
    downsample_factor: float
    interp_method: str
    range_t: int
    ddim: bool
    ddim_eta: float
    micro_batch: int
    mixed_precision: str

    @property
    def steps(self) -> int:
        """S, the network calls a sample takes."""
        return self.diffusion["respace_steps"]

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Sample i follows reference i mod R and is its variation i div R."""
        count = len(self.references)
        return tuple(Sample(i, self.references[i % count], i // count) for i in range(self.n_samples))

    @property
    def image_settings(self) -> dict[str, Any]:
        """What an image depends on, apart from its number, its reference and the weights' content."""
        return {
            "model": {"dialect": self.config.dialect, "params": dict(self.config.params)},
            "image_size": self.config.image_size,
            "image_channels": self.config.image_channels,
            "diffusion": dict(self.diffusion),
            "sampler": f"DDIM, eta {self.ddim_eta}" if self.ddim else "DDPM",
            "downsample_factor": self.downsample_factor,
            "interp_method": self.interp_method,
            "range_t": self.range_t,
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
    config_path, weights = args["config"], args["weights"]
    config = read_config(config_path) if config_path else config_for(weights)
    weights = weights or config.weights
    if not weights:
        raise InputError(f"{config.source}: names no weights: give them with --weights")

    diffusion = dict(config.diffusion)
    diffusion |= {key: args[key] for key in ("var_type", "respace_type", "respace_steps") if args[key] is not None}
    steps = diffusion.setdefault("respace_steps", config.total_steps)
    _within("respace_steps", steps, 1, config.total_steps)
    _within("downsample_factor", args["downsample_factor"], 1, config.image_size)
    _within("range_t", args["range_t"], 0, steps)
    _within("ddim_eta", args["ddim_eta"], 0, 1)
    _within("seed", args["seed"], 0)
    _within("micro_batch", args["micro_batch"], 1)
    if args["ddim_eta"] and not args["ddim"]:
        raise InputError("--ddim_eta has a meaning only with --ddim")

    references = tuple(find_references(args["input_dir"], exclude=args["save_dir"]))
    n_samples = len(references) if args["n_samples"] is None else args["n_samples"]
    _within("n_samples", n_samples, 1)
    taken = {key: args[key] for key in Settings.__dataclass_fields__ if key in args}
    taken |= {"config": config, "weights": find_weights(weights), "n_samples": n_samples}
    return Settings(**taken, diffusion=diffusion, references=references)


def make_save_dir(folder: Path) -> None:
    """Make the output folder and see that files can be written there.

    Raises:
        InputError: they cannot.
    """
    probe = folder / f".{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"save_dir {folder}: cannot be written to: {error.strerror or error}") from None


def _within(name: str, value: float, low: float, high: float | None = None) -> None:
    if not (low <= value and (high is None or value <= high)):  # not (…): a NaN is refused too
        raise InputError(
            f"--{name} must be {f'{low} … {high}' if high is not None else f'at least {low}'}, not {value}"
        )

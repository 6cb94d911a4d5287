"""What a model and its diffusion are: the YAML config, checked, or what a diffusers folder says of itself."""

import os
import reprlib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusions import Process
from models.diffusers_folder import read_diffusers_folder, read_network
from models.hub import fetch, is_hub_id
from utils.errors import InputError
from utils.paths import PROJECT
from utils.plain_yaml import read_yaml

LARGEST_IMAGE, MOST_STEPS = 8192, 100_000  # beyond any model known; a slip is told rather than computed

# key: (types, whether it must be there)
Schema = dict[str, tuple[tuple[type, ...], bool]]

TOP_KEYS: Schema = {
    "image_size": ((int,), True),
    "image_channels": ((int,), True),
    "weights": ((str,), False),
    "model": ((dict,), True),
    "diffusion": ((dict,), True),
    "sampling": ((dict,), False),
}
MODEL_KEYS: Schema = {"dialect": ((str,), True), "params": ((dict,), True)}
PROCESS_KEYS: Schema = {  # the arguments of diffusions.Process
    "total_steps": ((int,), True),
    "beta_schedule": ((str,), True),
    "beta_start": ((int, float), False),
    "beta_end": ((int, float), False),
    "objective": ((str,), True),
    "clip_denoised": ((bool,), False),
    "rescale_timesteps": ((bool,), False),
}
SAMPLING_KEYS: Schema = {  # how it is sampled, if the command line does not say
    "var_type": ((str,), True),
    "respace_type": ((str,), False),
    "respace_steps": ((int,), False),
}
DIFFUSION_KEYS = PROCESS_KEYS | SAMPLING_KEYS
RUN_KEYS: Schema = {  # defaults for arguments of a run
    "respace_type": ((str,), False),
    "respace_steps": ((int,), False),
    "downsample_factor": ((int, float, list), False),
    "interp_method": ((str,), False),
    "low_pass": ((str,), False),
    "refine": ((str,), False),
    "range_t": ((int, str, list), False),
    "strength": ((int, float), False),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network in the words of its family: the arguments of that family's own constructor."""

    family: str
    params: Mapping[str, Any]
    source: str = field(default="config", compare=False)


@dataclass(frozen=True, kw_only=True)
class Config(Architecture):
    """One checkpoint: its images, its network, its diffusion, and defaults for arguments of a run."""

    image_size: int
    image_channels: int
    diffusion: Mapping[str, Any]
    weights: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        """T, the timesteps of training."""
        return self.diffusion["total_steps"]

    def make_process(self) -> Process:
        """The diffusion that the network was trained on.

        Raises:
            InputError: values that make none.
        """
        try:
            return Process(**{key: value for key, value in self.diffusion.items() if key in PROCESS_KEYS})
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # numbers may be too large, too
            raise InputError(f"{self.source}: {error}") from None


def config_for(weights: str | Path | None, config: str | Path | Mapping[str, Any] | Config | None = None) -> Config:
    """The config of a checkpoint: the one given, or the one its diffusers folder holds.

    Args:
        weights: where the checkpoint is.
        config: a YAML file, the same as a dict, or None.

    Raises:
        InputError: a config with unknown, missing or impossible keys, or none to be found.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return parse_config(config, "config")
    if config is not None:
        return read_config(Path(config))
    if weights is not None and Path(weights).is_dir():
        return parse_config(read_diffusers_folder(Path(weights)), str(weights))
    raise InputError(f"weights {weights} do not say what model they are of: give its config with -c")


def architecture_for(
    weights: str | Path, config: str | Path | Mapping[str, Any] | Config | None = None
) -> Architecture:
    """The network of a checkpoint: like `config_for`, but a diffusers folder need not tell of its diffusion.

    Raises:
        InputError: as `config_for`.
    """
    if config is None and Path(weights).is_dir():
        return Architecture(family="diffusers", params=read_network(Path(weights)), source=str(weights))
    return config_for(weights, config)


def read_config(path: Path) -> Config:
    """Read a YAML config: it holds values only and cannot name code.

    Raises:
        InputError: no such file, no YAML, or keys that are unknown, missing or of another type.
    """
    return parse_config(read_yaml(path, "config"), f"config {path}")


def parse_config(content: object, source: str) -> Config:
    """Check a config's keys and types.

    Args:
        content: what the YAML file holds.
        source: where it is from, for messages.

    Raises:
        InputError: keys that are unknown, missing or of another type, or sizes below 1.
    """
    top = _checked(content, TOP_KEYS, source, "")
    model = _checked(top["model"], MODEL_KEYS, source, "model.")
    diffusion = _checked(top["diffusion"], DIFFUSION_KEYS, source, "diffusion.")
    for name, value, most in (
        ("image_size", top["image_size"], LARGEST_IMAGE),
        ("diffusion.total_steps", diffusion["total_steps"], MOST_STEPS),
    ):
        if not 1 <= value <= most:
            limit = "at least 1" if value < 1 else f"at most {most}"
            raise InputError(f"{source}: {name} must be {limit}, not {reprlib.repr(value)}")
    if top["image_channels"] not in (1, 3):
        raise InputError(f"{source}: image_channels must be 1 or 3, not {top['image_channels']}")
    if not all(isinstance(name, str) for name in model["params"]):
        raise InputError(f"{source}: the keys of model.params must be names")
    return Config(
        image_size=top["image_size"],
        image_channels=top["image_channels"],
        family=model["dialect"],
        params=model["params"],
        diffusion=diffusion,
        weights=top.get("weights"),
        sampling=_checked(top.get("sampling", {}), RUN_KEYS, source, "sampling."),
        source=source,
    )


def find_weights(weights: str | Path) -> Path:
    """Where the weights are: in the working folder, else in the project, else in a repository of the hub.

    Args:
        weights: a file, a folder, or a hub id `owner/name` or `owner/name@revision`, which is downloaded. Where
            there is a folder of the owner's name, a file or folder in it was meant.

    Raises:
        InputError: nowhere.
    """
    places = (Path(weights), PROJECT / weights)
    for path in places:
        if os.path.exists(path):  # Path.exists raises on names too long
            return path
    if is_hub_id(str(weights)) and not any(path.parent.is_dir() for path in places):
        return fetch(str(weights))
    raise InputError(f"weights {weights}: no such file or folder; weights/README.md says where to get them")


def _checked(content: object, schema: Schema, source: str, prefix: str) -> dict[str, Any]:
    """`content` if it is a mapping with just the schema's keys and types."""
    if not isinstance(content, Mapping):
        raise InputError(f"{source}: {prefix.rstrip('.') or 'the file'} must be a mapping of keys to values")
    unknown = [str(key) for key in content if key not in schema]
    missing = [key for key, (_, required) in schema.items() if required and key not in content]
    if unknown:
        key = textwrap.shorten(unknown[0], 60)
        raise InputError(f"{source}: unknown key {prefix}{key}; known are {', '.join(schema)}")
    if missing:
        raise InputError(f"{source}: key {prefix}{missing[0]} is missing")
    for key, value in content.items():
        types = schema[key][0]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            names = " or ".join(t.__name__ for t in types)
            raise InputError(f"{source}: {prefix}{key} must be of type {names}, not {reprlib.repr(value)}")
    return dict(content)

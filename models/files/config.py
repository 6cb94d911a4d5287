"""The config of a model and its diffusion: its keys, checked, from YAML or from what a file says about itself."""

import math
import reprlib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from diffusions.continuous import ContinuousProcess
from diffusions.process import Process
from models.families import FAMILIES
from models.files.research_yaml import read_research_yaml
from utils.errors import InputError
from utils.files import read_yaml

# more than any known model has; a typo is reported rather than computed
MAX_IMAGE_SIZE, MAX_CHANNELS, MAX_STEPS = 8192, 1024, 100_000

# key: (types, whether it must be there)
Schema = dict[str, tuple[tuple[type, ...], bool]]

TOP_KEYS: Schema = {
    "image_size": ((int,), True),
    "image_channels": ((int,), True),
    "value_range": ((list,), False),
    "weights": ((str,), False),
    "model": ((dict,), True),
    "autoencoder": ((dict,), False),
    "diffusion": ((dict,), True),
    "sampling": ((dict,), False),
    "references": ((str,), False),
    "p_uncond": ((int, float), False),
}
NETWORK_KEYS: Schema = {"dialect": ((str,), True), "params": ((dict,), True)}
PROCESS_KEYS: Schema = {  # the arguments of diffusions.Process
    "total_steps": ((int,), True),
    "beta_schedule": ((str,), True),
    "beta_start": ((int, float), False),
    "beta_end": ((int, float), False),
    "objective": ((str,), True),
    "clip_denoised": ((bool,), False),
    "rescale_timesteps": ((bool,), False),
    "betas": ((list,), False),
    "zero_terminal_snr": ((bool,), False),
    "clip_range": ((int, float), False),
    "dynamic_threshold": ((int, float), False),
}
CONTINUOUS_KEYS: Schema = {  # the arguments of diffusions.ContinuousProcess, where there is a preconditioning
    "preconditioning": ((str,), True),
    "total_steps": ((int,), True),
    "sigma_min": ((int, float), False),
    "sigma_max": ((int, float), False),
    "sigma_data": ((int, float), False),
    "rho": ((int, float), False),
    "clip_denoised": ((bool,), False),
}
SAMPLING_KEYS: Schema = {  # how it is sampled, if the command line does not say
    "var_type": ((str,), True),
    "respace_type": ((str,), False),
    "respace_steps": ((int,), False),
}
DIFFUSION_KEYS = PROCESS_KEYS | CONTINUOUS_KEYS | SAMPLING_KEYS


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network as its family describes it: the arguments of that family's own constructor.

    A config has it under `key`. `p_uncond` is the share of the labels that training dropped; above 0, a network with
    classes has a null class.
    """

    family: str
    params: Mapping[str, Any]
    key: str = "model"
    p_uncond: float = 0.0
    source: str = field(default="config", compare=False)

    def words(self) -> dict[str, Any]:
        """Return it as a config has it."""
        return {"dialect": self.family, "params": dict(self.params)}


@dataclass(frozen=True, kw_only=True)
class Config(Architecture):
    """One checkpoint: its images, its network, its diffusion.

    Attributes:
        autoencoder: between images and the latents that the network works on; None where it works on pixels.
        value_range: the values of references that training mapped to -1 and 1; None for a picture's black and white.
        sampling: defaults for arguments of a run.
        references: the folder in the project that shows what it does.
        sources: the origin of values that are not the config's own, by key: `image_size`, `diffusion.objective`.
        note: what was assumed, for the user to know.
    """

    image_size: int
    image_channels: int
    diffusion: Mapping[str, Any]
    autoencoder: Architecture | None = None
    weights: str | None = None
    value_range: tuple[float, float] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    references: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    note: str = field(default="", compare=False)

    @property
    def total_steps(self) -> int:
        """T, the timesteps of training."""
        return self.diffusion["total_steps"]

    def content(self) -> dict[str, Any]:
        """Return the content of a YAML file of it."""
        return {
            "image_size": self.image_size,
            "image_channels": self.image_channels,
            **({"value_range": list(self.value_range)} if self.value_range else {}),
            **({"weights": self.weights} if self.weights else {}),
            **({"references": self.references} if self.references else {}),
            "model": self.words(),
            **({"autoencoder": self.autoencoder.words()} if self.autoencoder else {}),
            "diffusion": dict(self.diffusion),
            **({"sampling": dict(self.sampling)} if self.sampling else {}),
            **({"p_uncond": self.p_uncond} if self.p_uncond else {}),
        }

    def as_yaml(self) -> str:
        """Return the text of such a file, with a comment on each value that is from elsewhere."""
        return "\n".join(_lines(self.content(), self.sources, "")) + "\n"

    def make_process(self) -> Process:
        """Return the diffusion that the network was trained on; raise InputError for impossible values."""
        arguments = {key: value for key, value in self.diffusion.items() if key not in SAMPLING_KEYS}
        try:
            return ContinuousProcess(**arguments) if "preconditioning" in arguments else Process(**arguments)
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # numbers may be too large, too
            raise InputError(f"{self.source}: {error}") from None


def read_config(path: Path) -> Config:
    """Read a YAML config; raise InputError if there is none, or as `parse_config`."""
    return parse_config(read_yaml(path, "config"), f"config {path}")


def parse_config(content: object, source: str) -> Config:
    """Check the keys and types of what a YAML config holds; `source` is where it is from.

    Raises:
        InputError: keys that are unknown, missing or of another type, or numbers out of range.
    """
    model = content.get("model") if isinstance(content, Mapping) else None
    if isinstance(model, Mapping) and "target" in model:
        content = read_research_yaml(content, source)  # type: ignore[arg-type]
    top = _checked(content, TOP_KEYS, source, "")
    networks = {}
    for key in filter(top.__contains__, ("model", "autoencoder")):
        described = _checked(top[key], NETWORK_KEYS, source, f"{key}.")
        family, params = described["dialect"], described["params"]
        if not all(isinstance(name, str) for name in params):
            raise InputError(f"{source}: the keys of {key}.params must be names")
        networks[key] = Architecture(family=family, params=params, key=key, source=source)
    process_keys = CONTINUOUS_KEYS if "preconditioning" in top["diffusion"] else PROCESS_KEYS
    diffusion = _checked(top["diffusion"], process_keys | SAMPLING_KEYS, source, "diffusion.")
    words = FAMILIES[networks["model"].family].diffusion_words if networks["model"].family in FAMILIES else {}
    for name in ("beta_schedule", "objective"):
        if diffusion.get(name) in words:
            diffusion[name] = words[diffusion[name]]
    for name, value, limit in (
        ("image_size", top["image_size"], MAX_IMAGE_SIZE),
        ("image_channels", top["image_channels"], MAX_CHANNELS),
        ("diffusion.total_steps", diffusion["total_steps"], MAX_STEPS),
    ):
        if not 1 <= value <= limit:
            wanted = "at least 1" if value < 1 else f"at most {limit}"
            raise InputError(f"{source}: {name} must be {wanted}, not {reprlib.repr(value)}")
    if not 0 <= top.get("p_uncond", 0) < 1:
        raise InputError(f"{source}: p_uncond must be in 0 … 1, below 1, not {top['p_uncond']}")
    as_they_are = ("image_size", "image_channels", "weights", "references", "p_uncond")
    return Config(
        family=networks["model"].family,
        params=networks["model"].params,
        diffusion=diffusion,
        autoencoder=networks.get("autoencoder"),
        value_range=check_value_range(top.get("value_range"), f"{source}: value_range"),
        sampling=top.get("sampling", {}),  # a run checks it: these are its arguments
        source=source,
        **{key: top[key] for key in as_they_are if key in top},
    )


def check_value_range(values: Sequence[Any] | None, where: str) -> tuple[float, float] | None:
    """Return the values that mean -1 and 1; raise InputError if they are not None or two numbers, the lower first."""
    if values is None:
        return None
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) != 2 or len(values) != 2 or not -math.inf < numbers[0] < numbers[1] < math.inf:
        raise InputError(f"{where} must be two numbers, the lower first, not {reprlib.repr(values)}")
    return float(numbers[0]), float(numbers[1])


def override(config: Config, given: Mapping[str, Any]) -> Config:
    """Replace some of a config's values: `image_size`, arguments of the family's network, keys of `diffusion`."""
    content = config.content()
    places = {"": content, "diffusion.": content["diffusion"], "model.params.": content["model"]["params"]}
    sources = {}
    for key, value in given.items():
        prefix = "" if key in TOP_KEYS else "diffusion." if key in DIFFUSION_KEYS else "model.params."
        places[prefix][key] = value
        sources[prefix + key] = "given"
    return replace(parse_config(content, config.source), sources=sources, note=config.note)


def _lines(content: Mapping[str, Any], sources: Mapping[str, str], prefix: str) -> list[str]:
    lines = []
    indent = "  " * prefix.count(".")
    for key, value in content.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, sources, f"{prefix}{key}.")]
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
            comment = f"  # {sources[prefix + key]}" if prefix + key in sources else ""
            lines.append(f"{indent}{key}: " + text.removesuffix("...\n").strip() + comment)
    return lines


def _checked(content: object, schema: Schema, source: str, prefix: str) -> dict[str, Any]:
    """Return `content` if it is a mapping of the schema's keys and types."""
    if not isinstance(content, Mapping):
        raise InputError(f"{source}: {prefix.rstrip('.') or 'the file'} must be a mapping of keys to values")
    for key, value in content.items():
        if key not in schema:
            unknown = textwrap.shorten(str(key), 60)
            raise InputError(f"{source}: unknown key {prefix}{unknown}; known are {', '.join(schema)}")
        types = schema[key][0]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            names = " or ".join(t.__name__ for t in types)
            raise InputError(f"{source}: {prefix}{key} must be of type {names}, not {reprlib.repr(value)}")
    for key, (_, required) in schema.items():
        if required and key not in content:
            raise InputError(f"{source}: key {prefix}{key} is missing")
    return dict(content)

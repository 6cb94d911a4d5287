"""From a published file to a ready UNet: build it without memory, rename the file's parameters, put them in."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models import diffusers, pesser
from models.unet import UNet
from utils.config import Config, config_for
from utils.errors import InputError

DIALECTS: dict[str, ModuleType] = {"pesser": pesser, "diffusers": diffusers}


def load_model(weights: str | Path, config: str | Path | Mapping[str, Any] | Config | None = None) -> UNet:
    """A UNet with a checkpoint's parameters.

    Args:
        weights: a checkpoint file, or a diffusers folder.
        config: a YAML file, or the same as a dict; None where the weights say it all (a diffusers folder).

    Returns:
        The network in eval mode, float32, on the CPU.

    Raises:
        InputError: a config or weights that cannot be read or do not fit each other.
    """
    settings = config_for(weights, config)
    unet = build_unet(settings)
    state = read_state(Path(weights))
    unet.load_state_dict(convert(state, unet, DIALECTS[settings.dialect], str(weights)), assign=True)
    return unet.float().eval()


def build_unet(config: Config) -> UNet:
    """The network a config describes, on the meta device: names and shapes, no memory.

    Raises:
        InputError: an unknown or missing parameter, or one the UNet has no part for.
    """
    if config.dialect not in DIALECTS:
        raise InputError(f"{config.source}: model.dialect {config.dialect!r} is none of {', '.join(DIALECTS)}")
    dialect = DIALECTS[config.dialect]
    params = {name: value for name, value in config.params.items() if name not in dialect.IGNORED_PARAMS}
    try:
        inspect.signature(dialect.unet_params).bind(**params)
    except TypeError as error:
        raise InputError(f"{config.source}: model.params of dialect {config.dialect}: {error}") from None
    try:
        with torch.device("meta"):
            return UNet(**dialect.unet_params(**params))
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{config.source}: model.params make no network: {error}") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """The parameters of a checkpoint file, or of a diffusers folder, under the names they have there.

    Raises:
        InputError: no such file, or not a file of parameters.
    """
    if path.is_dir():
        path = path / "diffusion_pytorch_model.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"weights {path}: cannot be read: {error}") from None


def convert(state: Mapping[str, Tensor], unet: UNet, dialect: ModuleType, source: str) -> dict[str, Tensor]:
    """A checkpoint's parameters under the UNet's own names.

    Args:
        state: the dialect's names and tensors (of any dtype, also on the meta device).
        unet: the network they are for; only its names and shapes are used.
        dialect: the module that knows the names.
        source: where the state is from, for messages.

    Raises:
        InputError: parameters that are missing, left over, or of another shape, the first of each named.
    """
    own = unet.state_dict()
    names = {name: source_names(name, unet, dialect) for name in own}
    wanted = {theirs for sources in names.values() for theirs in sources}
    faults = [
        _listing("misses", sorted(wanted - state.keys())),
        _listing("has no place for", sorted(state.keys() - wanted)),
    ]
    if any(faults):
        raise InputError(f"weights {source} do not fit the config: the file " + ", and ".join(filter(None, faults)))

    converted, misfits = {}, []
    for name, sources in names.items():
        tensor = torch.cat([state[theirs] for theirs in sources])
        if tensor.shape[: own[name].ndim] == own[name].shape and tensor.numel() == own[name].numel():
            converted[name] = tensor.reshape(own[name].shape)  # a 1×1 convolution is a linear layer
        else:
            misfits.append(f"{sources[0]} is {list(tensor.shape)} and the config's model has {list(own[name].shape)}")
    if misfits:
        raise InputError(f"weights {source} do not fit the config: " + _listing("", misfits).strip())
    return converted


def source_names(name: str, unet: UNet, dialect: ModuleType) -> tuple[str, ...]:
    """The dialect's names for one of the UNet's parameters: one, or several that are joined."""
    for ours, theirs in dialect.module_names(unet):
        if name.startswith(ours + "."):
            leaf, _, kind = name[len(ours) + 1 :].rpartition(".")
            leaves = dialect.LEAF_NAMES.get(leaf, leaf)
            parts = (leaves,) if isinstance(leaves, str) else leaves
            return tuple(".".join(filter(None, (theirs, part, kind))) for part in parts)
    return (name,)


def _listing(verb: str, items: list[str], most: int = 3) -> str:
    if not items:
        return ""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{verb} {', '.join(items[:most])}{more}"

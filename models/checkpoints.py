"""From a published file to a ready model: build its network without memory, rename the parameters, put them in."""

import inspect
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from models.config import Architecture, Config, architecture_for, config_for, find_weights
from models.containers import read_state
from models.families import FAMILIES
from models.layers import Attention
from models.model import Model
from models.network import Network
from utils.errors import InputError


def load_model(weights: str | Path, config: str | Path | Mapping[str, Any] | Config | None = None) -> Model:
    """A checkpoint, ready to sample.

    Args:
        weights: a checkpoint file, a diffusers folder, or a hub id.
        config: a YAML file, or the same as a dict; None where the weights say it all (a diffusers folder).

    Returns:
        The model, its network in eval mode, float32, on the CPU.

    Raises:
        InputError: a config or weights that cannot be read or do not fit each other.
    """
    config = config_for(find_weights(weights), config)
    process = config.make_process()
    network = load_network(weights, config)
    size, channels = config.image_size, config.image_channels
    if network.in_channels != channels or network.out_channels not in (channels, 2 * channels):
        shape = f"{network.in_channels} to {network.out_channels}"
        raise InputError(f"{config.source}: image_channels is {channels}, but the model maps {shape} channels")
    if size % network.size_multiple:
        raise InputError(
            f"{config.source}: image_size is {size}, but the model takes multiples of {network.size_multiple} only"
        )
    return Model(network, process, size, channels)


def load_network(weights: str | Path, config: str | Path | Mapping[str, Any] | Config | None = None) -> Network:
    """A checkpoint's network alone, where nothing need be said of its diffusion. Arguments and errors of `load_model`.

    Returns:
        The network in eval mode, float32, on the CPU.
    """
    path = find_weights(weights)
    architecture = architecture_for(path, config)
    network = build_network(architecture)
    network.load_state_dict(convert(read_state(path), network, architecture, str(weights)), assign=True)
    return network.eval()


def build_network(architecture: Architecture, device: torch.device | str = "meta") -> Network:
    """The network a config describes; on the meta device names and shapes only, no memory.

    Raises:
        InputError: an unknown or missing parameter, or one the network has no part for.
    """
    source, name = architecture.source, architecture.family
    if name not in FAMILIES:
        raise InputError(f"{source}: model.dialect {name!r} is none of {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    params = {key: value for key, value in architecture.params.items() if key not in family.ignored_params}
    try:
        inspect.signature(family.network_params).bind(**params)
    except TypeError as error:
        raise InputError(f"{source}: model.params of dialect {name}: {error}") from None
    try:
        with torch.device(device):
            return family.network(**family.network_params(**params))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{source}: model.params make no network: {error}") from None


def convert(
    state: MutableMapping[str, Tensor], network: Network, architecture: Architecture, source: str
) -> dict[str, Tensor]:
    """A checkpoint's parameters under the network's own names, in float32.

    Args:
        state: the family's names and tensors (of any dtype, also on the meta device). It is emptied on the way, so
            that a float16 file need not be in memory whole beside its float32 copy.
        network: what they are for; only its names and shapes are used.
        architecture: what `network` was built from.
        source: where the state is from, for messages.

    Raises:
        InputError: parameters of another family, or that are missing, left over, or of another shape, the first
            of each named.
    """
    family = FAMILIES[architecture.family]
    _check_family(state, architecture, source)
    left = {family.newer(name): state.pop(name) for name in list(state)}
    names = family.names(network)
    _check_names(set(left), {theirs for sources in names.values() for theirs in sources}, source)

    converted, misfits = {}, []
    for name, own in network.state_dict().items():
        parts = [left.pop(theirs) for theirs in names[name]]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        # a 1×1 convolution is a linear layer
        if tensor.shape[: own.ndim] != own.shape or tensor.numel() != own.numel():
            misfits.append(f"{names[name][0]} is {list(tensor.shape)} and the config's model has {list(own.shape)}")
            continue
        tensor = tensor.reshape(own.shape)
        if ".qkv." in name and family.heads_first(architecture.params):
            attention = cast(Attention, network.get_submodule(name.partition(".qkv.")[0]))
            tensor = tensor.unflatten(0, (attention.num_heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        converted[name] = tensor.float()
    if misfits:
        raise InputError(f"weights {source} do not fit the config: {_first(misfits)}")
    return converted


def _check_family(names: Iterable[str], architecture: Architecture, source: str) -> None:
    """That a file's parameters bear the names of the config's family."""
    spoken = [key for key, family in FAMILIES.items() if any(name.startswith(family.mark) for name in names)]
    if not spoken:
        raise InputError(f"weights {source}: {_first(list(names))} are names of none of {', '.join(FAMILIES)}")
    if architecture.family not in spoken:
        raise InputError(
            f"weights {source} bear the names of family {spoken[0]}, and {architecture.source} is of "
            f"{architecture.family}"
        )


def _check_names(names: set[str], wanted: set[str], source: str) -> None:
    """That no parameter is missing and none left over."""
    faults = []
    if missing := sorted(wanted - names):
        faults.append(f"they lack {_first(missing)}")
    if extra := sorted(names - wanted):
        faults.append(f"the config's model has no place for {_first(extra)}")
    if faults:
        raise InputError(f"weights {source} do not fit the config: {', and '.join(faults)}")


def _first(items: list[str], most: int = 3) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more

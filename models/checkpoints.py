"""From a published file to a ready model: build its network without memory, rename the parameters, put them in."""

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from models.config import Architecture, Config
from models.containers import read_checkpoint
from models.families import FAMILIES, is_network
from models.families.family import Family, Shapes
from models.find import architecture_for, config_for, find_weights
from models.layers import Attention
from models.misfits import check_family, first, name_faults, tell, wrong_params
from models.model import Model
from models.network import Network
from models.params import check_params
from utils.errors import InputError


def load_model(
    weights: str | Path,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    raw_weights: bool = False,
) -> Model:
    """A checkpoint, ready to sample.

    Args:
        weights: a checkpoint file, a diffusers folder, or a hub id.
        config: a YAML file, or the same as a dict; None where the weights say it all (a diffusers folder).
        raw_weights: take the last weights of training rather than their average, where there are both.

    Returns:
        The model, its network in eval mode, float32, on the CPU.

    Raises:
        InputError: a config or weights that cannot be read or do not fit each other.
    """
    config = config_for(find_weights(weights), config, raw_weights)
    process = config.make_process()
    network, note = _load_network(find_weights(weights), config, raw_weights, str(weights))
    size, channels = config.image_size, config.image_channels
    if network.in_channels != channels or network.out_channels not in (channels, 2 * channels):
        shape = f"{network.in_channels} to {network.out_channels}"
        raise InputError(f"{config.source}: image_channels is {channels}, but the model maps {shape} channels")
    if size % network.size_multiple:
        raise InputError(
            f"{config.source}: image_size is {size}, but the model takes multiples of {network.size_multiple} only"
        )
    return Model(network, process, size, channels, tuple(filter(None, [config.note, note])))


def load_network(
    weights: str | Path,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    raw_weights: bool = False,
) -> Network:
    """A checkpoint's network alone, where nothing need be said of its diffusion. Arguments and errors of `load_model`.

    Returns:
        The network in eval mode, float32, on the CPU.
    """
    path = find_weights(weights)
    return _load_network(path, architecture_for(path, config, raw_weights), raw_weights, str(weights))[0]


def _load_network(path: Path, architecture: Architecture, raw_weights: bool, source: str) -> tuple[Network, str]:
    """The network, and what was chosen among the file's copies of its weights."""
    network = build_network(architecture)
    checkpoint = read_checkpoint(path, is_network, raw_weights)
    network.load_state_dict(convert(checkpoint.tensors, network, architecture, source), assign=True)
    return network.eval(), checkpoint.note


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
    check_params(family.network_params, params, f"{source}: model.params of dialect {name}")
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
        InputError: parameters of another family, or that are missing, left over, or of another shape: the config's
            parameters that would fit, where the file tells them, else the first names of each.
    """
    check_family(_shapes(state), architecture, source)
    family = FAMILIES[architecture.family]
    left = {family.newer(name): state.pop(name) for name in list(state)}
    left = {name: tensor for name, tensor in left.items() if not re.search(family.unused, name)}
    shapes = _shapes(left)
    converted, fault = _convert(left, network, architecture)
    if not fault:
        return converted
    wrong = wrong_params(shapes, architecture)
    fitting = replace(architecture, params={**architecture.params, **{name: file for name, (file, _) in wrong.items()}})
    if wrong and _fits(shapes, fitting):
        raise InputError(f"weights {source} do not fit the config: {tell(wrong)}")
    raise InputError(f"weights {source} do not fit the config: {fault}")


def _convert(
    left: MutableMapping[str, Tensor], network: Network, architecture: Architecture
) -> tuple[dict[str, Tensor], str]:
    """The parameters under the network's names, and what does not fit, "" if all does."""
    family = FAMILIES[architecture.family]
    names = family.names(network)
    if faults := name_faults(left, {theirs for sources in names.values() for theirs in sources}):
        return {}, ", and ".join(faults)
    converted, misfits = {}, []
    for name, own in network.state_dict().items():
        parts = {theirs: left.pop(theirs) for theirs in names[name]}
        theirs, tensor = _joined(parts, family)
        # a 1×1 convolution is a linear layer
        if tensor.shape[: own.ndim] != own.shape or tensor.numel() != own.numel():
            misfits.append(f"{theirs} is {list(tensor.shape)} and the config's model has {list(own.shape)}")
            continue
        tensor = tensor.reshape(own.shape)
        if ".qkv." in name and family.heads_first(architecture.params):
            attention = cast(Attention, network.get_submodule(name.partition(".qkv.")[0]))
            tensor = tensor.unflatten(0, (attention.num_heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        converted[name] = tensor.float()
    return converted, first(misfits)


def _joined(parts: Mapping[str, Tensor], family: Family) -> tuple[str, Tensor]:
    """Several of the family's tensors as one of ours, and the first's name; of such as do not join, the odd one."""
    try:
        adapted = [family.adapt(name, tensor) for name, tensor in parts.items()]
        return next(iter(parts)), torch.cat(adapted) if len(adapted) > 1 else adapted[0]
    except (IndexError, RuntimeError):
        shapes = [tensor.shape for tensor in parts.values()]
        return min(parts.items(), key=lambda part: shapes.count(part[1].shape))


def _fits(shapes: Shapes, architecture: Architecture) -> bool:
    """Whether an architecture's network has parameters of these names and shapes."""
    try:
        network = build_network(architecture)
        tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        return not _convert(tensors, network, architecture)[1]
    except InputError:
        return False


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tensor.shape for name, tensor in tensors.items()}

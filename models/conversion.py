"""From a checkpoint's parameters to a network's: build the network without memory, rename the parameters."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.families import TABLES
from models.families.family import Family, Shapes
from models.files.config import Architecture
from models.files.params import check_params
from models.mismatches import check_family, describe_mismatches, shorten_list, wrong_params
from models.networks.layers import Attention
from utils.errors import InputError


def build_network(architecture: Architecture, device: torch.device | str = "meta") -> Any:
    """Build the network, or the autoencoder, that a config describes.

    Args:
        architecture: what the config describes.
        device: on the meta device there are names and shapes only, and no memory is taken.

    Raises:
        InputError: an unknown or missing parameter, or one that is not supported.
    """
    source, key, name = architecture.source, architecture.key, architecture.family
    families = TABLES[key]
    if name not in families:
        raise InputError(f"{source}: {key}.dialect must be one of {', '.join(families)}, not {name!r}")
    family = families[name]
    if architecture.p_uncond and not family.null_class:
        raise InputError(f"{source}: p_uncond {architecture.p_uncond}: networks of dialect {name} have no null class")
    params = {param: value for param, value in architecture.params.items() if param not in family.ignored_params}
    check_params(family.network_params, params, f"{source}: {key}.params of dialect {name}")
    try:
        with torch.device(device):
            network = family.network(**family.network_params(**params))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{source}: {key}.params are impossible: {error}") from None
    if architecture.p_uncond:
        network.null_class = True
    return network


def convert(
    state: Mapping[str, Tensor], network: nn.Module, architecture: Architecture, source: str
) -> dict[str, Tensor]:
    """Convert a checkpoint's parameters to float32 under the network's own names.

    Args:
        state: the family's names and tensors (of any dtype, also on the meta device).
        network: what they are for; only its names and shapes are used.
        architecture: what `network` was built from.
        source: where the state is from, for messages.

    Raises:
        InputError: parameters of another family, or they are missing, left over, or of another shape: the config's
            parameters that would fit, where the file shows them, else the first names of each.
    """
    family = TABLES[architecture.key][architecture.family]
    left = {family.newer(name): tensor for name, tensor in state.items()}
    left = {name: tensor for name, tensor in left.items() if not re.search(family.unused, name)}
    converted, fault = _convert(left, network, architecture)
    if not fault:
        return converted
    check_family({name: tensor.shape for name, tensor in state.items()}, architecture, source)
    shapes = {name: tensor.shape for name, tensor in left.items()}
    wrong = wrong_params(shapes, architecture)
    fitting = replace(architecture, params={**architecture.params, **{name: file for name, (file, _) in wrong.items()}})
    if wrong and _would_fit(shapes, fitting):
        fault = describe_mismatches(wrong)
    raise InputError(f"weights {source} do not fit the config: {fault}")


def _convert(
    left: Mapping[str, Tensor], network: nn.Module, architecture: Architecture
) -> tuple[dict[str, Tensor], str]:
    """Return the parameters under the network's names, and what does not fit, "" if all does."""
    family = TABLES[architecture.key][architecture.family]
    names = family.names(network)
    wanted = {theirs for sources in names.values() for theirs in sources}
    if wanted != set(left):
        missing, extra = sorted(wanted - set(left)), sorted(set(left) - wanted)
        faults = [f"they lack {shorten_list(missing)}"] if missing else []
        faults += [f"the config's model has no place for {shorten_list(extra)}"] if extra else []
        return {}, ", and ".join(faults)
    converted, misfits = {}, []
    for name, own in network.state_dict().items():
        parts = {theirs: left[theirs] for theirs in names[name]}
        theirs, tensor = _join(parts, family)
        # a 1×1 convolution is a linear layer
        if tensor.shape[: own.ndim] != own.shape or tensor.numel() != own.numel():
            shape = list(tensor.shape if len(parts) > 1 else parts[theirs].shape)  # the file's own, unless it is joined
            misfits.append(f"{theirs} is {shape} and the config's model has {list(own.shape)}")
            continue
        tensor = tensor.reshape(own.shape)
        if ".qkv." in name and family.heads_first(architecture.params):
            attention = cast(Attention, network.get_submodule(name.partition(".qkv.")[0]))
            tensor = tensor.unflatten(0, (attention.num_heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        converted[name] = tensor.float()
    return converted, shorten_list(misfits) if misfits else ""


def _join(parts: Mapping[str, Tensor], family: Family) -> tuple[str, Tensor]:
    """Concatenate the tensors that form one of our parameters.

    Returns:
        The first's name and the whole; if they do not fit together, the one whose shape differs.
    """
    try:
        adapted = [family.adapt(name, tensor) for name, tensor in parts.items()]
        return next(iter(parts)), torch.cat(adapted) if len(adapted) > 1 else adapted[0]
    except (IndexError, RuntimeError):
        shapes = [tensor.shape for tensor in parts.values()]
        return min(parts.items(), key=lambda part: shapes.count(part[1].shape))


def _would_fit(shapes: Shapes, architecture: Architecture) -> bool:
    """Return whether an architecture's network has parameters of these names and shapes."""
    try:
        network = build_network(architecture)
        tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        return not _convert(tensors, network, architecture)[1]
    except InputError:
        return False

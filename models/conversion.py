"""From a checkpoint's parameters to a network's: build the network without memory, rename the parameters."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.families import TABLES
from models.families.family import check_params
from models.files.config import Architecture
from models.mismatches import check_family, shorten_list, wrong_params
from models.networks.layers import Attention
from utils.errors import InputError


def build_network(architecture: Architecture, device: torch.device | str = "meta") -> Any:
    """Build the network, or the autoencoder, that a config describes.

    On the meta device there are names and shapes only, and no memory is taken.

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
        network: what they are for, built from `architecture`; only its names and shapes are used.
        architecture: the family's words for it.
        source: where the state is from.

    Raises:
        InputError: parameters of another family, or they are missing, left over, or of another shape; it says which
            of the config's parameters would fit, where the file shows that.
    """
    family = TABLES[architecture.key][architecture.family]
    left = {family.newer(name): tensor for name, tensor in state.items()}
    left = {name: tensor for name, tensor in left.items() if not re.search(family.unused, name)}
    names = family.names(network)
    wanted = {theirs for sources in names.values() for theirs in sources}
    missing, extra = sorted(wanted - left.keys()), sorted(left.keys() - wanted)
    faults = [f"they lack {shorten_list(missing)}"] if missing else []
    faults += [f"the config's model has no place for {shorten_list(extra)}"] if extra else []
    converted, misfits = {}, []
    for name, own in network.state_dict().items() if not faults else ():
        parts = {theirs: left[theirs] for theirs in names[name]}
        try:
            adapted = [family.adapt(theirs, part) for theirs, part in parts.items()]
            theirs, tensor = names[name][0], torch.cat(adapted) if len(adapted) > 1 else adapted[0]
        except (IndexError, RuntimeError):  # they do not fit together: the one whose shape differs is named
            shapes = [part.shape for part in parts.values()]
            theirs = min(parts, key=lambda part: shapes.count(parts[part].shape))
            tensor = parts[theirs]
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
    if not faults and not misfits:
        return converted

    fault = ", and ".join(faults) or shorten_list(misfits)
    check_family({name: tensor.shape for name, tensor in state.items()}, architecture, source)
    wrong = wrong_params({name: tensor.shape for name, tensor in left.items()}, architecture)
    if wrong:
        params = {**architecture.params, **{name: file for name, (file, _) in wrong.items()}}
        fitting = replace(architecture, params=params)  # of which nothing is wrong in this sense
        with suppress(InputError):  # if it does not fit either, the names say more
            convert({name: tensor.to("meta") for name, tensor in left.items()}, build_network(fitting), fitting, source)
            texts = {name: [str([*v] if isinstance(v, tuple) else v) for v in wrong[name]] for name in wrong}
            said = (f"{name}: the file has {file}, the config says {ours}" for name, (file, ours) in texts.items())
            fault = "; ".join(said)
    raise InputError(f"weights {source} do not fit the config: {fault}")

"""From a published file to a ready UNet: build it without memory, rename the file's parameters, put them in."""

import inspect
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from models import adm, diffusers, pesser
from models.containers import read_state
from models.dialect import Dialect
from models.layers import Attention
from models.unet import UNet
from utils.config import Config, Network, find_weights, network_for
from utils.errors import InputError

DIALECTS: dict[str, Dialect] = {"pesser": pesser.DIALECT, "adm": adm.DIALECT, "diffusers": diffusers.DIALECT}


def load_model(weights: str | Path, config: str | Path | Mapping[str, Any] | Config | None = None) -> UNet:
    """A UNet with a checkpoint's parameters.

    Args:
        weights: a checkpoint file, a diffusers folder, or a hub id.
        config: a YAML file, or the same as a dict; None where the weights say it all (a diffusers folder).

    Returns:
        The network in eval mode, float32, on the CPU.

    Raises:
        InputError: a config or weights that cannot be read or do not fit each other.
    """
    path = find_weights(weights)
    network = network_for(path, config)
    unet = build_unet(network)
    unet.load_state_dict(convert(read_state(path), unet, network, str(weights)), assign=True)
    return unet.eval()


def build_unet(network: Network) -> UNet:
    """The network a config describes, on the meta device: names and shapes, no memory.

    Raises:
        InputError: an unknown or missing parameter, or one the UNet has no part for.
    """
    if network.dialect not in DIALECTS:
        raise InputError(f"{network.source}: model.dialect {network.dialect!r} is none of {', '.join(DIALECTS)}")
    dialect = DIALECTS[network.dialect]
    params = {name: value for name, value in network.params.items() if name not in dialect.ignored_params}
    try:
        inspect.signature(dialect.unet_params).bind(**params)
    except TypeError as error:
        raise InputError(f"{network.source}: model.params of dialect {network.dialect}: {error}") from None
    try:
        with torch.device("meta"):
            return UNet(**dialect.unet_params(**params))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{network.source}: model.params make no network: {error}") from None


def convert(state: MutableMapping[str, Tensor], unet: UNet, network: Network, source: str) -> dict[str, Tensor]:
    """A checkpoint's parameters under the UNet's own names, in float32.

    Args:
        state: the dialect's names and tensors (of any dtype, also on the meta device). It is emptied on the way, so
            that a float16 file need not be in memory whole beside its float32 copy.
        unet: the network they are for; only its names and shapes are used.
        network: what `unet` was built from.
        source: where the state is from, for messages.

    Raises:
        InputError: parameters of another dialect, or that are missing, left over, or of another shape, the first
            of each named.
    """
    dialect = DIALECTS[network.dialect]
    _check_dialect(state, network, source)
    left = {dialect.newer(name): state.pop(name) for name in list(state)}
    names = dialect.names(unet)
    _check_names(set(left), {theirs for sources in names.values() for theirs in sources}, source)

    converted, misfits = {}, []
    for name, own in unet.state_dict().items():
        parts = [left.pop(theirs) for theirs in names[name]]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        # a 1×1 convolution is a linear layer
        if tensor.shape[: own.ndim] != own.shape or tensor.numel() != own.numel():
            misfits.append(f"{names[name][0]} is {list(tensor.shape)} and the config's model has {list(own.shape)}")
            continue
        tensor = tensor.reshape(own.shape)
        if ".qkv." in name and dialect.heads_first(network.params):
            attention = cast(Attention, unet.get_submodule(name.partition(".qkv.")[0]))
            tensor = tensor.unflatten(0, (attention.num_heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        converted[name] = tensor.float()
    if misfits:
        raise InputError(f"weights {source} do not fit the config: {_first(misfits)}")
    return converted


def _check_dialect(names: Iterable[str], network: Network, source: str) -> None:
    """That a file's parameters bear the names of the config's dialect."""
    spoken = [key for key, dialect in DIALECTS.items() if any(name.startswith(dialect.mark) for name in names)]
    if not spoken:
        raise InputError(f"weights {source}: {_first(list(names))} are names of none of {', '.join(DIALECTS)}")
    if network.dialect not in spoken:
        raise InputError(
            f"weights {source} bear the names of dialect {spoken[0]}, and {network.source} is of {network.dialect}"
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

"""From a published file to a ready model: build its network without memory, rename the parameters, put them in."""

import inspect
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.autoencoder_folder import autoencoder_folder
from models.config import Architecture, Config, architecture_for, config_for, find_weights
from models.containers import read_checkpoint, read_state
from models.families import TABLES
from models.layers import Attention
from models.model import Model
from models.network import Network
from utils.errors import InputError

FIRST_STAGE = "first_stage_model."  # how CompVis's checkpoints begin the autoencoder's names
FIRST_STAGE_TRAINING = (f"{FIRST_STAGE}loss.", f"{FIRST_STAGE}model_ema.")  # what is left of its own training
SCALE = "scale_factor"


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
    path = find_weights(weights)
    config = config_for(path, config)
    process = config.make_process()
    checkpoint = read_checkpoint(path)
    network = _load(config, checkpoint.tensors, str(weights))
    found = _autoencoder_state(path, checkpoint.beside)
    autoencoder = _load_autoencoder(config.autoencoder, found, str(weights)) if config.autoencoder else None
    undescribed = bool(found) and autoencoder is None
    model = Model(network, process, config.image_size, config.image_channels, autoencoder, undescribed)
    _check_sizes(model, config.source)
    return model


def load_network(weights: str | Path, config: str | Path | Mapping[str, Any] | Config | None = None) -> Network:
    """A checkpoint's network alone, where nothing need be said of its diffusion. Arguments and errors of `load_model`.

    Returns:
        The network in eval mode, float32, on the CPU.
    """
    path = find_weights(weights)
    return _load(architecture_for(path, config), read_checkpoint(path).tensors, str(weights))


def _load(architecture: Architecture, state: MutableMapping[str, Tensor], source: str) -> Network:
    network = build_network(architecture)
    network.load_state_dict(convert(state, network, architecture, source), assign=True)
    return network.eval()


def _autoencoder_state(path: Path, beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of the autoencoder that lies beside a checkpoint's network, and its scale; {} where none does."""
    if folder := autoencoder_folder(path):
        return read_state(folder)
    names = [name for name in beside if name.startswith(FIRST_STAGE) and not name.startswith(FIRST_STAGE_TRAINING)]
    state = {name.removeprefix(FIRST_STAGE): beside[name] for name in names}
    return state | {SCALE: beside[SCALE]} if names and SCALE in beside else state


def _load_autoencoder(architecture: Architecture, state: dict[str, Tensor], source: str) -> Autoencoder:
    if not state:
        raise InputError(f"weights {source}: hold no autoencoder, which {architecture.source} describes")
    if SCALE in state:
        architecture = replace(architecture, params={**architecture.params, SCALE: state.pop(SCALE).tolist()})
    return cast(Autoencoder, _load(architecture, state, source))


def _check_sizes(model: Model, source: str) -> None:
    """That network, autoencoder and images are of one size."""
    network, autoencoder, channels = model.network, model.autoencoder, model.latent_shape[0]
    if autoencoder and autoencoder.image_channels != model.channels:
        maps = f"the autoencoder takes images of {autoencoder.image_channels} channels"
        raise InputError(f"{source}: image_channels is {model.channels}, but {maps}")
    if network.in_channels != channels or network.out_channels not in (channels, 2 * channels):
        shape = f"{network.in_channels} to {network.out_channels}"
        wanted = "the autoencoder has latents of" if autoencoder else "image_channels is"
        raise InputError(f"{source}: {wanted} {channels}, but the model maps {shape} channels")
    multiple = network.size_multiple * model.factor
    if model.image_size % multiple:
        raise InputError(
            f"{source}: image_size is {model.image_size}, but the model takes multiples of {multiple} only"
        )


def build_network(architecture: Architecture, device: torch.device | str = "meta") -> Network:
    """The network, or the autoencoder, a config describes; on the meta device names and shapes only, no memory.

    Raises:
        InputError: an unknown or missing parameter, or one the network has no part for.
    """
    source, key, name = architecture.source, architecture.key, architecture.family
    families = TABLES[key]
    if name not in families:
        raise InputError(f"{source}: {key}.dialect {name!r} is none of {', '.join(families)}")
    family = families[name]
    params = {param: value for param, value in architecture.params.items() if param not in family.ignored_params}
    try:
        inspect.signature(family.network_params).bind(**params)
    except TypeError as error:
        raise InputError(f"{source}: {key}.params of dialect {name}: {error}") from None
    try:
        with torch.device(device):
            return family.network(**family.network_params(**params))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{source}: {key}.params make no network: {error}") from None


def convert(
    state: MutableMapping[str, Tensor], network: nn.Module, architecture: Architecture, source: str
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
    family = TABLES[architecture.key][architecture.family]
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
    families = TABLES[architecture.key]
    spoken = [key for key, family in families.items() if any(name.startswith(family.mark) for name in names)]
    if not spoken:
        raise InputError(f"weights {source}: {_first(list(names))} are names of none of {', '.join(families)}")
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

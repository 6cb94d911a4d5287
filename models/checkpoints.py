"""From a published file to a ready model: build its network without memory, rename the parameters, put them in."""

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.config import Architecture, Config
from models.containers import read_checkpoint
from models.families import TABLES, is_network
from models.families.family import Family, Shapes
from models.find import architecture_for, config_for, find_weights
from models.first_stage import SCALE, autoencoder_state
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
    path = find_weights(weights)
    config = config_for(path, config, raw_weights)
    process = config.make_process()
    checkpoint = read_checkpoint(path, is_network, raw_weights)
    network = _load(config, checkpoint.tensors, str(weights))
    found = autoencoder_state(path, checkpoint.beside)
    autoencoder = _load_autoencoder(config.autoencoder, found, str(weights)) if config.autoencoder else None
    model = Model(
        network,
        process,
        config.image_size,
        config.image_channels,
        autoencoder,
        undescribed=bool(found) and autoencoder is None,
        notes=tuple(filter(None, [config.note, checkpoint.note])),
    )
    _check_sizes(model, config.source)
    return model


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
    architecture = architecture_for(path, config, raw_weights)
    return _load(architecture, read_checkpoint(path, is_network, raw_weights).tensors, str(weights))


def _load(architecture: Architecture, state: MutableMapping[str, Tensor], source: str) -> Network:
    """The network, or the autoencoder, with its parameters."""
    network = build_network(architecture)
    network.load_state_dict(convert(state, network, architecture, source), assign=True)
    return network.eval()


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
    check_params(family.network_params, params, f"{source}: {key}.params of dialect {name}")
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
        InputError: parameters of another family, or that are missing, left over, or of another shape: the config's
            parameters that would fit, where the file tells them, else the first names of each.
    """
    check_family(_shapes(state), architecture, source)
    family = TABLES[architecture.key][architecture.family]
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
    left: MutableMapping[str, Tensor], network: nn.Module, architecture: Architecture
) -> tuple[dict[str, Tensor], str]:
    """The parameters under the network's names, and what does not fit, "" if all does."""
    family = TABLES[architecture.key][architecture.family]
    names = family.names(network)
    if faults := name_faults(left, {theirs for sources in names.values() for theirs in sources}):
        return {}, ", and ".join(faults)
    converted, misfits = {}, []
    for name, own in network.state_dict().items():
        parts = {theirs: left.pop(theirs) for theirs in names[name]}
        theirs, tensor = _joined(parts, family)
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

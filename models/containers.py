"""What a checkpoint file is wrapped in: safetensors or PyTorch's pickles, one file or several, with or without ado."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.diffusers_folder import weight_files
from utils.errors import InputError

# where training scripts put the parameters they sample with, the averaged ones first
WRAPPINGS = ("ema", "shadow", "state_dict", "model")


# how CompVis's checkpoints of latent diffusion begin the network's names; of the averaged ones the dots are left out
LATENT_NETWORK, LATENT_AVERAGE = "model.diffusion_model.", "model_ema.diffusion_model"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        tensors: the network's parameters, the averaged ones where there are two of each, by their names in the family.
        beside: tensors that lie beside them: a noise schedule, an autoencoder.
    """

    tensors: dict[str, Tensor]
    beside: dict[str, Tensor] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint's network, told from what else its file holds. Arguments and errors of `read_state`."""
    state = read_state(path)
    plain = {name: tensor for name, tensor in state.items() if name.startswith(LATENT_NETWORK)}
    if not plain:
        return Checkpoint(state)
    tensors = {}
    for name, tensor in plain.items():
        own = name.removeprefix(LATENT_NETWORK)
        tensors[own] = state.get(LATENT_AVERAGE + own.replace(".", ""), tensor)
    return Checkpoint(tensors, {name: tensor for name, tensor in state.items() if name not in plain})


def read_state(path: Path) -> dict[str, Tensor]:
    """The parameters of a checkpoint, under the names they have there.

    Nothing is copied that can be mapped: the tensors' memory is the file's until they are changed.

    Args:
        path: a file, the index of a sharded checkpoint, or a diffusers folder.

    Raises:
        InputError: no such file, not a file of parameters, or one that would run code on being read.
    """
    state: dict[str, Tensor] = {}
    for file in weight_files(path):
        state |= _read_safetensors(file) if _beginning(file)[8:9] == b"{" else _read_pickle(file)
    return state


def _beginning(file: Path) -> bytes:
    """Of safetensors the length of the header, in 8 bytes, and the header's first brace; else as told in messages."""
    try:
        with file.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise InputError(f"weights {file}: cannot be read: {error.strerror or error}") from None


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"weights {file}: is damaged or cut short: {error}") from None


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # what a damaged file does to torch.load knows no bounds, and is the file's fault
        code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code is None:
            begin = _beginning(file)
            raise InputError(
                f"weights {file}: is no checkpoint, or is damaged or cut short (it begins with {begin!r})"
            ) from None
        raise InputError(
            f"weights {file}: is not opened, because reading it would run code ({code[1]}). If you trust where it is "
            "from, open it there with torch.load(FILE, weights_only=False) and save its state_dict alone with "
            "safetensors.torch.save_file"
        ) from None
    return _unwrap(content, file)


def _unwrap(content: object, file: Path) -> dict[str, Tensor]:
    """The parameters in what a training script saved."""
    while isinstance(content, Mapping) and (inner := next((w for w in WRAPPINGS if _is_wrapped(content, w)), None)):
        content = content[inner]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"weights {file}: hold no parameters but {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"weights {file}: hold {name!r} among the parameters, of type {type(value).__name__}")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _is_wrapped(content: Mapping, name: str) -> bool:
    return isinstance(content.get(name), Mapping)

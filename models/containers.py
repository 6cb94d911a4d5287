"""What a checkpoint file is wrapped in: safetensors or PyTorch's pickles, one file or several."""

import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.diffusers_folder import weight_files
from models.inert import WouldRunCodeError, load_inert
from models.module_pickle import is_module_pickle
from models.module_pickle import read_state as read_module_pickle
from models.wrappings import choose_copy, find_copies, is_optimizer
from utils.errors import InputError
from utils.files import open_regular

MOST_PACKED = 4  # times a file's size
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Checkpoint:
    """A network's parameters, as they were read.

    Attributes:
        tensors: by the names they have in the file, without the beginnings that wrappers add.
        beside: tensors that lie beside them: a noise schedule, an autoencoder.
        note: what was chosen, where there was a choice.
    """

    tensors: dict[str, Tensor]
    beside: dict[str, Tensor]
    note: str = ""


def read_checkpoint(path: Path, is_network: Callable[[Collection[str]], bool], raw_weights: bool = False) -> Checkpoint:
    """The parameters of a checkpoint.

    Nothing is copied that can be mapped: the tensors' memory is the file's until they are changed.

    Args:
        path: a file, the index of a sharded checkpoint, a diffusers folder, or a training folder of several files.
        is_network: whether names are those of a network's parameters; where a file holds several records, it tells
            the network from the others.
        raw_weights: take the last weights of training rather than their average, where the file has both.

    Raises:
        InputError: no such file, not a file of parameters, or one that would run code on being read.
    """
    contents = {file.stem: _read(file) for file in weight_files(path, raw_weights)}
    content: object = contents if len(contents) > 1 else next(iter(contents.values()))
    if len(contents) > 1 and all(_is_bare(shard) for shard in contents.values()):
        content = _joined(contents)
    copies = find_copies(content)
    networks = [copy for copy in copies if not copy.named or is_network(copy.tensors)]
    if not copies:
        raise InputError(f"weights {path}: {_without_parameters(content)}")
    if not networks:  # let the largest be judged by its names
        networks = [max(copies, key=lambda copy: len(copy.tensors))]
    copy, note = choose_copy(networks, raw_weights, str(path))
    check_tensors(copy.tensors, path)
    return Checkpoint(copy.tensors, copy.beside, note)


def _read(file: Path) -> object:
    begin = _beginning(file)
    if begin[8:9] == b"{":
        return _read_safetensors(file)
    return {"ema": read_module_pickle(file)} if is_module_pickle(file) else _read_pickle(file, begin)


def _beginning(file: Path) -> bytes:
    """Of safetensors the length of the header, in 8 bytes, and the header's first brace; else as told in messages."""
    try:
        with open_regular(file) as stream:
            return stream.read(16)
    except OSError as error:
        raise InputError(f"weights {file}: cannot be read: {error.strerror or error}") from None


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"weights {file}: is damaged or cut short: {error}") from None


def _read_pickle(file: Path, begin: bytes) -> object:
    _check_packing(file)
    try:
        return load_inert(file)
    except WouldRunCodeError as error:
        raise InputError(
            f"weights {file}: is not opened, because reading it would run code ({error}). If you trust where it is "
            "from, open it there with torch.load(FILE, weights_only=False) and save its state_dict alone with "
            "safetensors.torch.save_file"
        ) from None
    except Exception:  # what a damaged file does to torch.load knows no bounds, and is the file's fault
        raise InputError(
            f"weights {file}: is no checkpoint, or is damaged or cut short (it begins with {begin!r})"
        ) from None


def _check_packing(file: Path) -> None:
    """That a zip, as torch writes, is about as large as what is in it: torch packs nothing, and numbers pack badly."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # damaged in whatever way, to be told by whoever reads it
        return
    if unpacked > MOST_PACKED * file.stat().st_size:
        raise InputError(f"weights {file}: is not opened, because it would unpack to {unpacked / 1e9:.1f} GB")


def check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """See that the parameters are plain floating-point numbers that are there.

    Raises:
        InputError: the first that is not, and what it is instead.
    """
    for name, tensor in tensors.items():
        if tensor.is_nested:
            kind = "nested"
        elif tensor.is_meta:
            kind = "without its numbers (on the meta device)"
        elif tensor.is_quantized or tensor.dtype not in DTYPES:
            kind = f"of type {str(tensor.dtype).removeprefix('torch.')}"
        elif tensor.layout is not torch.strided:
            kind = "sparse"
        else:
            continue
        raise InputError(
            f"weights {path}: {name} is {kind}; only plain tensors of float16, bfloat16, float32 and float64 are read"
        )


def _is_bare(content: object) -> bool:
    return isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())


def _joined(shards: Mapping[str, object]) -> dict[str, object]:
    return {name: value for shard in shards.values() if isinstance(shard, Mapping) for name, value in shard.items()}


def _without_parameters(content: object) -> str:
    """What a file holds that has no parameters."""
    if is_optimizer(content):
        return (
            "hold the state of an optimizer, which resumes a training; the network is another file of that training, "
            "such as model… or ema…"
        )
    if isinstance(content, Mapping) and content:
        return f"hold no parameters but {', '.join(map(str, list(content)[:5]))}"
    return f"hold no parameters but {'an empty' if content in ([], {}) else 'a'} {type(content).__name__}"

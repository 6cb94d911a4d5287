"""A checkpoint, opened once: what its files hold, and the config that goes with it."""

import hashlib
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.families import prefixes
from models.files import safe_pickle
from models.files.config import Architecture, Config, override, parse_config, read_config
from models.files.copies import Copy, choose_copy, find_copies, is_optimizer
from models.files.describe import describe
from models.files.diffusers_folder import (
    autoencoder_folder,
    diffusers_folder,
    read_diffusers_folder,
    read_network,
    weight_files,
)
from models.files.edm import read_edm_config
from models.files.hub import fetch, is_hub_id
from utils.errors import InputError
from utils.files import PROJECT, open_regular

BLOCK = 2**20  # bytes read at a time
MAX_PACKING = 4  # times a file's size
FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BARE_PICKLES = (b"\x80\x03", b"\x80\x04", b"\x80\x05")  # of Python 3; PyTorch's own have an older protocol
OTHER_KINDS = {".onnx": "an ONNX program", ".eqx": "of Equinox, for JAX", ".msgpack": "of Flax, for JAX"}
OTHER_KINDS |= {".h5": "of Keras", ".engine": "a TensorRT program", ".gguf": "of llama.cpp"}
FIRST_STAGE = "first_stage_model."  # before the names of CompVis's autoencoders
FROM_TRAINING = (f"{FIRST_STAGE}loss.", f"{FIRST_STAGE}model_ema.")  # left from the autoencoder's own training
SCALE = "scale_factor"


@dataclass(frozen=True)
class Checkpoint:
    """What a file or folder holds.

    Attributes:
        tensors: the network's parameters, by their family's names.
        beside: the other tensors of the same record: a noise schedule.
        autoencoder: an autoencoder's parameters, and CompVis's `scale_factor` of its latents; empty if there is none.
        files: all that hold these.
        raw_weights: whether the last weights of training were preferred to their average.
        note: which were chosen, where there was a choice, else "".
        edm: the class of an EDM pickle's network, and the arguments that it was constructed with.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    autoencoder: Mapping[str, Tensor] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    raw_weights: bool = False
    note: str = ""
    edm: tuple[object, object] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the files itself rather than receive their content."""
        return open_checkpoint, (self.path, self.raw_weights)

    def sha256(self) -> str:
        """Return the SHA-256 of the SHA-256 of each file, as 64 hexadecimal digits.

        Raises:
            InputError: a file that cannot be read, or whose numbers are not those that were saved.
        """
        digest = hashlib.sha256()
        try:
            for path in self.files:
                with open_regular(path) as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
                    file.seek(0)
                    if file.read(4) != b"PK\3\4":
                        continue
                    archive = zipfile.ZipFile(file)
                    for record in filter(lambda record: record.CRC, archive.infolist()):  # PyTorch may leave them out
                        with archive.open(record) as content:  # which compares the checksum at the end
                            while content.read(BLOCK):
                                pass
        except (zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"weights {self.path}: is damaged: {error}; copy or download it again") from None
        except OSError as error:
            raise InputError(f"weights {self.path}: cannot be read: {error.strerror or error}") from None
        return digest.hexdigest()


def find_weights(weights: str | Path) -> Path:
    """Find weights in the working folder, else in the project, else in a repository of the hub.

    Args:
        weights: a file, a folder, or a hub id `owner/name` or `owner/name@revision`, unless there is a folder of the
            owner's name.

    Raises:
        InputError: they are nowhere, or cannot be read.
    """
    places = (Path(weights), PROJECT / weights)
    for path in places:
        if os.path.exists(path):  # Path.exists raises on names too long
            try:
                folders = [entry.path for entry in os.scandir(path) if entry.is_dir()] if os.path.isdir(path) else []
                for folder in folders:
                    os.stat(os.path.join(folder, "."))  # an unreadable folder is not one without weights
            except OSError as error:
                raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}") from None
            return path
    if is_hub_id(str(weights)) and not any(path.parent.is_dir() for path in places):
        return fetch(str(weights))
    raise InputError(f"weights {weights}: no such file or folder; weights/README.md says where to get them")


def open_checkpoint(weights: str | Path, raw_weights: bool = False) -> Checkpoint:
    """Open a checkpoint; its tensors' memory is the file's, where that can be mapped, until they are changed.

    Args:
        weights: a file, the index of a sharded one, a diffusers folder, the folder of a training run, or a hub id.
        raw_weights: take the last weights of training rather than their average, where there are both.

    Raises:
        InputError: there is no such file, it holds no parameters, or reading it would run code.
    """
    path = find_weights(weights)
    files, folder = weight_files(path, raw_weights), autoencoder_folder(path)
    copy, note, edm = _read(path, files, "model", raw_weights)
    if folder:
        own_files = weight_files(folder)
        autoencoder = dict(_read(folder, own_files, "autoencoder", False)[0].tensors)
        files += own_files
    else:
        names = [name for name in copy.beside if name.startswith(FIRST_STAGE) and not name.startswith(FROM_TRAINING)]
        autoencoder = {name.removeprefix(FIRST_STAGE): copy.beside[name] for name in names}
        if names and SCALE in copy.beside:
            autoencoder[SCALE] = copy.beside[SCALE]
    for name, tensor in (*copy.tensors.items(), *autoencoder.items()):
        faults = ["nested"] * tensor.is_nested + ["without its numbers (on the meta device)"] * tensor.is_meta
        faults += [f"of type {str(tensor.dtype).removeprefix('torch.')}"] * (tensor.dtype not in FLOAT_TYPES)
        faults += ["sparse"] * (tensor.layout is not torch.strided)
        if faults:
            only = "only dense tensors of float16, bfloat16, float32 and float64 can be read"
            raise InputError(f"weights {path}: {name} is {faults[0]}; {only}")
    return Checkpoint(path, copy.tensors, copy.beside, autoencoder, tuple(files), raw_weights, note, edm)


def config_for(
    checkpoint: Checkpoint | None,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    given: Mapping[str, Any] | None = None,
) -> Config:
    """Return the config of a checkpoint: the one given, else what its folder or the file itself says.

    Args:
        checkpoint: may be None where a config is given.
        config: a YAML file, the same as a dict, or None.
        given: values in place of those, or of what is still open: `image_size`, arguments of the family's network,
            keys of `diffusion`.

    Raises:
        InputError: a config with unknown, missing or impossible keys, or there is none.
    """
    if isinstance(config, Config):
        return config
    if config is not None:
        found = parse_config(config, "config") if isinstance(config, Mapping) else read_config(Path(config))
    elif checkpoint is None:
        raise InputError("neither weights nor a config are given")
    elif beside := _config_beside(checkpoint.path):
        found = replace(read_config(beside), note=f"Using the config beside the weights, {beside}.")
    elif folder := diffusers_folder(checkpoint.path, checkpoint.raw_weights):
        found = parse_config(read_diffusers_folder(folder, checkpoint.raw_weights, given), str(checkpoint.path))
    elif checkpoint.edm:
        found = parse_config(read_edm_config(*checkpoint.edm, str(checkpoint.path)), str(checkpoint.path))
    else:
        return describe(checkpoint, given or {})
    return override(found, given) if given else found


def architecture_for(
    checkpoint: Checkpoint, config: str | Path | Mapping[str, Any] | Config | None = None
) -> Architecture:
    """Return the network of a checkpoint: like `config_for`, but a diffusers folder needs no scheduler."""
    folder = diffusers_folder(checkpoint.path, checkpoint.raw_weights) if config is None else None
    if folder is None:
        return config_for(checkpoint, config)
    params = read_network(folder, checkpoint.raw_weights)
    return Architecture(family="diffusers", params=params, source=str(checkpoint.path))


def _config_beside(weights: Path) -> Path | None:
    """Find the YAML that belongs to weights: of the same name, or xyfJASON's of a training, above its checkpoints."""
    folder = weights if weights.is_dir() else weights.parent
    places = [weights.with_suffix(".yaml")] if weights.suffix else []
    if re.fullmatch(r"step\d+", folder.absolute().name):
        places += [folder.absolute().parents[i] / "config.yaml" for i in range(2)]
    return next((path for path in places if path.is_file()), None)


def _read(path: Path, files: list[Path], key: str, raw_weights: bool) -> tuple[Copy, str, tuple[object, object] | None]:
    """Return the parameters in files, a note on which copy they are, and how an EDM pickle was constructed."""
    contents = {file.stem: _read_file(file) for file in files}
    content: Any = contents if len(contents) > 1 else next(iter(contents.values()))
    shards = [each for each in contents.values() if isinstance(each, dict)]
    if len(shards) == len(contents) and all(isinstance(value, Tensor) for each in shards for value in each.values()):
        every = (item for shard in shards for item in shard.items())
        content = {name: value for name, value in every if not str(name).endswith("_extra_state")}
        if prefixes(content, key) == [""]:
            return Copy("", content), "", None
    if isinstance(content, Mapping) and content.keys() == {"net", "optimizer_state"}:
        give = "give the network-snapshot of the same training"
        raise InputError(f"weights {path}: hold the state of an EDM training, whose weights are no average: {give}")
    try:
        copies = find_copies(content, key)
    except Exception as error:  # pickled modules are put together here, and a damaged one may fail in any way
        raise InputError(f"weights {path}: is damaged ({type(error).__name__})") from None
    if not copies and is_optimizer(content):
        other = "the network is another file of that training, often called model… or ema…"
        raise InputError(f"weights {path}: hold the state of an optimizer, which resumes a training; {other}")
    if not copies:
        kind = f"{'an empty' if content in ([], {}) else 'a'} {type(content).__name__}"
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else ""
        raise InputError(f"weights {path}: hold no parameters but {keys or kind}")
    module = content.get("ema") if isinstance(content, Mapping) else None
    built = module.constructor() if isinstance(module, safe_pickle.PersistentModule) else None
    return *choose_copy(copies, raw_weights, str(path)), built


def _read_file(file: Path) -> object:
    """Return what a file holds; nothing is copied that can be mapped."""
    try:
        stream = open_regular(file)
    except OSError as error:
        raise InputError(f"weights {file}: cannot be read: {error.strerror or error}") from None
    with stream:
        begin = stream.read(16)
        try:
            # the length of safetensors' header takes 8 bytes
            return load_file(file) if begin[8:9] == b"{" else _read_pickles(file, stream, begin)
        except InputError:
            raise
        except safe_pickle.WouldRunCodeError as error:
            raise InputError(
                f"weights {file}: is not opened, because reading it would run code ({error}). If you trust its source, "
                "open it there with torch.load(FILE, weights_only=False) and save its state_dict alone with "
                "safetensors.torch.save_file"
            ) from None
        except Exception:  # a damaged file can make torch.load raise anything
            kind = OTHER_KINDS.get(file.suffix.lower())
            damaged = f"no checkpoint, or is damaged or cut short (it begins with {begin!r})"
            fault = f"{kind}; only checkpoints of PyTorch can be read" if kind else damaged
            raise InputError(f"weights {file}: is {fault}") from None


def _read_pickles(file: Path, stream: BufferedReader, begin: bytes) -> object:
    """Return what PyTorch's own file, zipped or older, or a bare pickle holds; nothing that it names is run."""
    zipped = begin.startswith(b"PK\3\4")
    if zipped:
        with zipfile.ZipFile(stream) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if not any(name.endswith("data.pkl") for name in archive.namelist()):
                raise InputError(f"weights {file}: is a zip archive, but none of PyTorch's: unpack it")
        if unpacked > MAX_PACKING * file.stat().st_size:
            raise InputError(f"weights {file}: is not opened, because it would unpack to {unpacked / 1e9:.1f} GB")
        if "constants.pkl" in torch._C.PyTorchFileReader(str(file)).get_all_records():  # torch.load would run it
            raise InputError(f"weights {file}: is a TorchScript program; save its state_dict instead")
    stream.seek(0)
    if begin.startswith(BARE_PICKLES):
        return safe_pickle.load(stream)
    if not zipped and tarfile.is_tarfile(stream):
        raise InputError(f"weights {file}: is a tar archive: unpack it")
    return torch.load(file, map_location="cpu", pickle_module=safe_pickle, weights_only=False, mmap=zipped)

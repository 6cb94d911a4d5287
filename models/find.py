"""Where weights are, and what config goes with them."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.config import Architecture, Config, override, parse_config, read_config
from models.containers import read_checkpoint
from models.describe import describe
from models.diffusers_folder import model_folder, read_diffusers_folder, read_network
from models.edm_config import read_edm_config
from models.families import is_network
from models.hub import fetch, is_hub_id
from models.module_pickle import is_module_pickle
from utils.errors import InputError
from utils.files import PROJECT, check_access


def find_weights(weights: str | Path) -> Path:
    """Where the weights are: in the working folder, else in the project, else in a repository of the hub.

    Args:
        weights: a file, a folder, or a hub id `owner/name` or `owner/name@revision`, which is downloaded. Where
            there is a folder of the owner's name, a file or folder in it was meant.

    Raises:
        InputError: nowhere.
    """
    places = (Path(weights), PROJECT / weights)
    for path in places:
        if os.path.exists(path):  # Path.exists raises on names too long
            check_access(path)
            return path
    if is_hub_id(str(weights)) and not any(path.parent.is_dir() for path in places):
        return fetch(str(weights))
    raise InputError(f"weights {weights}: no such file or folder; weights/README.md says where to get them")


def config_for(
    weights: str | Path | None,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    raw_weights: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Config:
    """The config of a checkpoint: the one given, else what its folder or the file itself says.

    Args:
        weights: where the checkpoint is.
        config: a YAML file, the same as a dict, or None.
        raw_weights: as for `load_model`.
        given: values in place of the config's, or such as neither the weights nor a known checkpoint tell:
            `image_size`, arguments of the family's network, keys of `diffusion`.

    Raises:
        InputError: a config with unknown, missing or impossible keys, or none to be found.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return override(parse_config(config, "config"), given)
    if config is not None:
        return override(read_config(Path(config)), given)
    if weights is None:
        raise InputError("neither weights nor a config are given")
    if beside := _config_beside(Path(weights)):
        return replace(
            override(read_config(beside), given), note=f"The config is the one beside the weights, {beside}."
        )
    folder = _diffusers_folder(Path(weights), raw_weights)
    if folder is not None:
        return override(parse_config(read_diffusers_folder(folder, raw_weights), str(weights)), given)
    if is_module_pickle(Path(weights)):
        return override(parse_config(read_edm_config(Path(weights)), str(weights)), given)
    checkpoint = read_checkpoint(Path(weights), is_network, raw_weights)
    known = [read_config(path) for path in sorted((PROJECT / "configs").glob("*.yaml"))]
    return describe(checkpoint, given or {}, known, str(weights))


def architecture_for(
    weights: str | Path,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    raw_weights: bool = False,
) -> Architecture:
    """The network of a checkpoint: like `config_for`, but a diffusers folder need not tell of its diffusion.

    Raises:
        InputError: as `config_for`.
    """
    folder = _diffusers_folder(Path(weights), raw_weights) if config is None else None
    if folder is not None:
        return Architecture(family="diffusers", params=read_network(folder, raw_weights), source=str(weights))
    return config_for(weights, config, raw_weights)


def _diffusers_folder(path: Path, raw_weights: bool) -> Path | None:
    """The folder that `save_pretrained` wrote, of the folder itself or of the weights in it; None if there is none."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not path.name.startswith("diffusion_pytorch_model"):
        return None
    is_training = any(folder.glob("*.pt")) or any(folder.glob("step*/*.pt"))
    return None if is_training and not (model_folder(folder, raw_weights) / "config.json").is_file() else folder


def _config_beside(weights: Path) -> Path | None:
    """The YAML that belongs to weights: of the same name, or xyfJASON's of a training, above its checkpoints."""
    folder = weights if weights.is_dir() else weights.parent
    places = [weights.with_suffix(".yaml")] if weights.suffix else []
    if re.fullmatch(r"step\d+", folder.absolute().name):
        places += [folder.absolute().parents[i] / "config.yaml" for i in range(2)]
    return next((path for path in places if path.is_file()), None)

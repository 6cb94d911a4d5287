"""The autoencoder in a folder of diffusers' `LDMPipeline`: where it lies, and what its config.json says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.plain_json import read_json

AUTOENCODER_FOLDER, CLASSES = "vqvae", ("VQModel", "AutoencoderKL")


def autoencoder_folder(folder: Path) -> Path | None:
    """Where a pipeline of latent diffusion keeps its autoencoder; None of another pipeline.

    Args:
        folder: of the pipeline, or its unet/.

    Raises:
        InputError: model_index.json names one that is not there: without it the samples are no images.
    """
    pipeline = folder.absolute().parent if folder.absolute().name == "unet" else folder
    if (pipeline / AUTOENCODER_FOLDER).is_dir():
        return pipeline / AUTOENCODER_FOLDER
    index = pipeline / "model_index.json"
    if index.is_file() and AUTOENCODER_FOLDER in read_json(index):
        raise InputError(f"weights {pipeline}: hold no {AUTOENCODER_FOLDER}/, which model_index.json names")
    return None


def images_of_latents(folder: Path, latent_size: int) -> dict[str, Any]:
    """What a config says of the autoencoder in a folder, and of the images that it makes of such latents.

    Raises:
        InputError: an autoencoder of another class, or whose number of levels is not known.
    """
    file = folder / "config.json"
    config = read_json(file)
    kind, levels = config.get("_class_name"), config.get("block_out_channels")
    if kind not in CLASSES:
        raise InputError(f"{file}: an autoencoder of class {kind!r} is not supported (only {', '.join(CLASSES)})")
    if not isinstance(levels, list) or not levels:
        raise InputError(f"{file}: block_out_channels must be a list of numbers, not {levels!r}")
    return {
        "image_size": latent_size * 2 ** (len(levels) - 1),
        "image_channels": config.get("in_channels", 3),
        "autoencoder": {"dialect": "diffusers", "params": arguments(config)},
    }


def arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments in a config.json, without the notes that diffusers makes for itself."""
    return {name: value for name, value in content.items() if not name.startswith("_")}

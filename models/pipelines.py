"""What diffusers' pipelines have beside a network: which of them draw from noise alone, and an autoencoder."""

from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.files import read_json

UNETS = ("unet_ema", "unet")
AUTOENCODER_FOLDER, AUTOENCODERS = "vqvae", ("VQModel", "AutoencoderKL")

# what the parts of a pipeline say that draws from something else than noise alone, the first that is there
OTHER_PARTS = {
    "text_encoder": "draws from text",
    "bert": "draws from text",
    "tokenizer": "draws from text",
    "prior": "draws from text",
    "image_encoder": "draws from another picture",
    "low_res_scheduler": "enlarges a small picture",
    "movq": "draws in the latents of an autoencoder",
    "vqvae": "draws in the latents of an autoencoder",
    "vae": "draws in the latents of an autoencoder",
    "transformer": "has a transformer for a network",
}
# pipelines that draw images from noise, with a network that we know; and those of them that have an autoencoder
PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ConsistencyModelPipeline", "DiffusionPipeline", None)
LATENT_PIPELINES = ("LDMPipeline", None)


def pipeline_of(weights: Path) -> Path:
    """The pipeline's folder, of the folder itself, of its unet/, or of a file in there."""
    folder = weights.absolute() if weights.is_dir() else weights.absolute().parent
    return folder.parent if folder.name in UNETS else weights


def check_pipeline(folder: Path) -> None:
    """See that a pipeline draws images from nothing but noise, with a network that we know.

    Raises:
        InputError: it does not.
    """
    pipeline = pipeline_of(folder)
    index = pipeline / "model_index.json"
    content = read_json(index) if index.is_file() else {}
    class_name = content.get("_class_name")
    for part, what in OTHER_PARTS.items():
        if part == AUTOENCODER_FOLDER and class_name in LATENT_PIPELINES:
            continue
        parts = content.get(part)
        if (pipeline / part).is_dir() or (isinstance(parts, list) and any(parts)):
            name = class_name or "pipeline"
            raise InputError(f"weights {folder}: the {name} {what} ({part}/), which is not supported")
    if class_name not in (*PIPELINES, *LATENT_PIPELINES):
        raise InputError(f"{index}: a pipeline of class {class_name!r} is not supported")


def autoencoder_folder(weights: Path) -> Path | None:
    """Where a pipeline of latent diffusion keeps its autoencoder; None of another pipeline, or of a single file.

    Args:
        weights: the pipeline, its unet/, or a file in there.

    Raises:
        InputError: model_index.json names one that is not there: without it the samples are no images.
    """
    pipeline = pipeline_of(weights)
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
    if kind not in AUTOENCODERS:
        raise InputError(f"{file}: an autoencoder of class {kind!r} is not supported (only {', '.join(AUTOENCODERS)})")
    if not isinstance(levels, list) or not levels:
        raise InputError(f"{file}: block_out_channels must be a list of numbers, not {levels!r}")
    return {
        "image_size": latent_size * 2 ** (len(levels) - 1),
        "image_channels": config.get("in_channels", 3),
        "autoencoder": {"dialect": "diffusers", "params": arguments(config)},
    }


def arguments(content: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments in a config.json, without the notes that diffusers makes for itself."""
    return {name: value for name, value in content.items() if not name.startswith("_")}

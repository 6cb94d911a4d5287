"""A diffusers folder: which files it holds, and its config files read as one of our configs.

`UNet2DModel.save_pretrained` writes config.json and the weights side by side; a pipeline has them in unet/, and
scheduler_config.json in scheduler/; an older one, all in one place. A training run has the averaged weights in
unet_ema/, and the scheduler in the folder above. Latent diffusion also has an autoencoder, in vqvae/.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.families import FAMILIES
from models.files.config import PROCESS_KEYS, SAMPLING_KEYS, Config
from models.files.scheduler_config import (
    DIFFUSERS_BETA_SCHEDULES,
    DIFFUSERS_OBJECTIVES,
    DIFFUSERS_VAR_TYPES,
    read_scheduler,
)
from models.networks.network import Network
from utils.errors import InputError
from utils.files import read_json

UNETS = ("unet_ema", "unet")
AUTOENCODER_FOLDER, AUTOENCODERS = "vqvae", ("VQModel", "AutoencoderKL")

# what a pipeline with these parts does other than drawing from noise alone
OTHER_PARTS = {
    **dict.fromkeys(("text_encoder", "bert", "tokenizer", "prior"), "draws from text"),
    "image_encoder": "draws from another picture",
    "low_res_scheduler": "enlarges a small picture",
    **dict.fromkeys(("movq", "vqvae", "vae"), "draws in the latents of an autoencoder"),
    "transformer": "has a transformer for a network",
}
# supported pipelines, and those with an autoencoder
PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ConsistencyModelPipeline", "DiffusionPipeline", None)
LATENT_PIPELINES = ("LDMPipeline", None)
SCHEDULERS = ("scheduler/scheduler_config.json", "scheduler_config.json")
CONFIG_FILES = ("model_index.json", "unet/config.json", "config.json", *SCHEDULERS, f"{AUTOENCODER_FOLDER}/config.json")

# the names of the weights, in the order of preference; an index names the files of sharded ones
WEIGHTS = tuple(
    f"diffusion_pytorch_model{name}"
    for variant in (".ema", "", ".fp16", ".bf16", ".non_ema")
    for suffix in (".safetensors", ".bin")
    for name in (f"{variant}{suffix}", f"{suffix}.index{variant}.json")
)

OTHER_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.ckpt")

# the files of another training run's folder; each holds a part
TRAINING_FILES = ("ema_model.pt", "ema.pt", "model.pt")

INDEX = re.compile(r"\.index(\.\w+)?\.json$")  # of sharded weights


def weight_files(path: Path, raw_weights: bool = False) -> list[Path]:
    """List the files that hold a checkpoint's parameters.

    Args:
        path: a file, the index of a sharded checkpoint, a diffusers folder, or a folder of a training run.
        raw_weights: take the last weights of training rather than their average, where both are there.

    Raises:
        InputError: a folder without weights, or an index that cannot be used.
    """
    if path.name == "ema.pt" and (path.parent / "model.pt").is_file():  # which names its tensors
        return [path, path.parent / "model.pt"]
    if path.is_dir():
        if training := [path / name for name in TRAINING_FILES if (path / name).is_file()]:
            return training
        folder = model_folder(path, raw_weights)
        found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if raw_weights:
            found.sort(key=lambda file: (".non_ema." not in file.name, ".ema." in file.name))
        if not found:
            check_pipeline(folder)  # the weights of one that is not supported need not be there
            if steps := sorted(folder.glob("step*/*.pt")):
                choose = f"choose a checkpoint in it, like {steps[-1].parent}"
                raise InputError(f"weights {folder}: is a whole training run: {choose}")
            others = sorted(file.name for ending in OTHER_WEIGHTS for file in folder.glob(ending))
            there = f"; choose a file there: {', '.join(others[:3])}" if others else ""
            fault = "hold no diffusion_pytorch_model.safetensors nor any of its other forms"
            raise InputError(f"weights {folder}: {fault}{there}")
        path = found[0]
    if not INDEX.search(path.name):
        return [path]
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{path}: has no weight_map of parameters to files")
    files = [path.parent / Path(name).name for name in sorted(set(shards.values()))]  # and nowhere else
    for file in files:
        if not file.is_file():
            raise InputError(f"{path}: names the file {file.name}, which is not there")
    return files


def model_folder(folder: Path, raw_weights: bool = False) -> Path:
    """Return where a diffusers folder keeps its network: unet_ema/ or unet/ if it has one, else the folder itself."""
    names = ("unet", "unet_ema") if raw_weights else ("unet_ema", "unet")
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def diffusers_folder(path: Path, raw_weights: bool = False) -> Path | None:
    """Return the folder that `save_pretrained` wrote, given itself or the weights in it; None if there is none."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not path.name.startswith("diffusion_pytorch_model"):
        return None
    is_training = any(folder.glob("*.pt")) or any(folder.glob("step*/*.pt"))
    return None if is_training and not (model_folder(folder, raw_weights) / "config.json").is_file() else folder


def read_network(folder: Path, raw_weights: bool = False) -> dict[str, Any]:
    """Return the arguments of a diffusers folder's `UNet2DModel`; raise InputError if it holds no such network."""
    check_pipeline(folder)
    path = model_folder(folder, raw_weights) / "config.json"
    content = read_json(path)
    class_name = content.get("_class_name", "UNet2DModel")
    if class_name not in ("UNet2DModel", "EMAModel"):
        raise InputError(f"{path}: a network of class {class_name!r} is not supported (only UNet2DModel)")
    return _constructor_arguments(content)


def read_diffusers_folder(
    folder: Path, raw_weights: bool = False, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read what a diffusers folder says of its network and its diffusion, as the content of a config.

    Args:
        folder: of a pipeline, or of a network with scheduler_config.json beside it, or a checkpoint of a training.
        raw_weights: as for `weight_files`.
        given: values of the config, by their own names; those that the folder leaves open are taken.

    Raises:
        InputError: a file that is missing, or settings that are not supported.
    """
    params, given = read_network(folder, raw_weights), given or {}
    size = params.get("sample_size") or given.get("image_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:  # height and width
        size = size[0]
    if not isinstance(size, int):
        must = "must be one number, for squares"
        raise InputError(f"{folder}: sample_size in config.json {must}, not {size!r}; or give image_size")
    places = [folder.absolute()]
    while re.fullmatch(r"checkpoint-\d+|unet|unet_ema", places[-1].name):  # the pipeline is above it
        places.append(places[-1].parent)
    scheduler = next((path for place in places for name in SCHEDULERS if (path := place / name).is_file()), None)
    needed = [key for key, (_, required) in (PROCESS_KEYS | SAMPLING_KEYS).items() if required and key not in given]
    if scheduler is None and needed:
        fault = "hold no scheduler_config.json, which says what diffusion the network was trained on"
        raise InputError(f"weights {folder}: {fault}: copy it from the finished pipeline, or give {', '.join(needed)}")
    content = {
        "image_size": size,
        "image_channels": params.get("in_channels", 3),
        "weights": str(folder),
        "model": {"dialect": "diffusers", "params": params},
        "diffusion": read_scheduler(read_json(scheduler), str(scheduler))
        if scheduler
        else {key: value for key, value in given.items() if key in PROCESS_KEYS | SAMPLING_KEYS},
    }
    if autoencoder := autoencoder_folder(folder):
        file = autoencoder / "config.json"
        config = read_json(file)
        kind, levels = config.get("_class_name"), config.get("block_out_channels")
        if kind not in AUTOENCODERS:
            raise InputError(
                f"{file}: an autoencoder of class {kind!r} is not supported (only {', '.join(AUTOENCODERS)})"
            )
        if not isinstance(levels, list) or not levels:
            raise InputError(f"{file}: block_out_channels must be a list of numbers, not {levels!r}")
        content |= {
            "image_size": size * 2 ** (len(levels) - 1),
            "image_channels": config.get("in_channels", 3),
            "autoencoder": {"dialect": "diffusers", "params": _constructor_arguments(config)},
        }
    return content


def save_diffusers(network: Network, config: Config, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a network, built from a config with diffusers' arguments, as the folder that diffusers reads."""
    diffusion = config.diffusion

    def word(key: str, words: Mapping[Any, str]) -> str:
        return next(theirs for theirs, ours in words.items() if ours == diffusion[key])

    scheduler = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": diffusion["total_steps"],
        "beta_schedule": word("beta_schedule", DIFFUSERS_BETA_SCHEDULES),
        "beta_start": diffusion.get("beta_start", 1e-4),
        "beta_end": diffusion.get("beta_end", 0.02),
        "prediction_type": word("objective", DIFFUSERS_OBJECTIVES),
        "variance_type": word("var_type", DIFFUSERS_VAR_TYPES),
        "clip_sample": diffusion.get("clip_denoised", True),
    }
    folder.mkdir(parents=True, exist_ok=True)
    params = {"_class_name": "UNet2DModel", **config.params}
    for name, content in (("config.json", params), ("scheduler_config.json", scheduler)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    names = FAMILIES["diffusers"].names(network)
    state: dict[str, Tensor] = {}
    for name, parameter in network.state_dict().items():
        parts = parameter.to("cpu", dtype).chunk(len(names[name]))
        state |= {theirs: part.contiguous() for theirs, part in zip(names[name], parts, strict=True)}
    save_file(state, folder / "diffusion_pytorch_model.safetensors")


def pipeline_of(weights: Path) -> Path:
    """Return the pipeline's folder, given itself, its unet/, or a file in there."""
    folder = weights.absolute() if weights.is_dir() else weights.absolute().parent
    return folder.parent if folder.name in UNETS else weights


def check_pipeline(folder: Path) -> None:
    """Raise InputError if a pipeline draws images from anything but noise, or has another network."""
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
    """Return the autoencoder's folder of a pipeline, given as for `pipeline_of`; None for one that works on pixels.

    Raises:
        InputError: model_index.json names one that is not there: without it the samples are not images.
    """
    pipeline = pipeline_of(weights)
    if (pipeline / AUTOENCODER_FOLDER).is_dir():
        return pipeline / AUTOENCODER_FOLDER
    index = pipeline / "model_index.json"
    if index.is_file() and AUTOENCODER_FOLDER in read_json(index):
        check_pipeline(pipeline)
        raise InputError(f"weights {pipeline}: hold no {AUTOENCODER_FOLDER}/, which model_index.json names")
    return None


def _constructor_arguments(content: dict[str, Any]) -> dict[str, Any]:
    """Return the constructor's arguments in a config.json, without diffusers' own notes."""
    return {name: value for name, value in content.items() if not name.startswith("_")}

"""A diffusers folder: which files it holds, and its config files read as one of our configs.

`UNet2DModel.save_pretrained` writes config.json and the weights side by side; a pipeline's has them in unet/, and
scheduler_config.json in scheduler/. Older pipelines have all of them in one place. A folder of a training run has the
averaged weights in unet_ema/, and the scheduler in the folder above. A pipeline of latent diffusion also has an
autoencoder, in vqvae/.
"""

import json
import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from models.pipelines import (
    AUTOENCODER_FOLDER,
    OTHER_PARTS,
    UNETS,
    arguments,
    autoencoder_folder,
    check_pipeline,
    images_of_latents,
)
from models.scheduler_config import BETA_SCHEDULES, OBJECTIVES, VAR_TYPES, read_scheduler
from utils.errors import InputError
from utils.files import read_json

SCHEDULERS = ("scheduler/scheduler_config.json", "scheduler_config.json")
CONFIG_FILES = (
    *("model_index.json", "unet/config.json", "config.json", *SCHEDULERS),
    f"{AUTOENCODER_FOLDER}/config.json",
)

# the weights by any of these names, the first that is there; an index names the files of a sharded one
AVERAGED_VARIANTS, PLAIN_VARIANTS, RAW_VARIANTS = (".ema",), ("", ".fp16", ".bf16"), (".non_ema",)
WEIGHTS = tuple(
    f"diffusion_pytorch_model{name}"
    for variant in (*AVERAGED_VARIANTS, *PLAIN_VARIANTS, *RAW_VARIANTS)
    for name in (
        f"{variant}.safetensors",
        f".safetensors.index{variant}.json",
        f"{variant}.bin",
        f".bin.index{variant}.json",
    )
)

# the files of a training run's folder, of which each holds a part
TRAINING_FILES = ("ema_model.pt", "ema.pt", "model.pt")


def needed_files(files: Collection[str]) -> list[str]:
    """Those files of a diffusers repository that a run reads.

    Args:
        files: the repository's, with / between folder and name.

    Returns:
        The config files and the weights with all their shards; what there is of them. Of a pipeline that will be
        refused, the config files alone.
    """
    if any(name.partition("/")[0] in OTHER_PARTS.keys() - {AUTOENCODER_FOLDER} for name in files):
        return [name for name in files if name in CONFIG_FILES]
    folders = ("unet/" if "unet/config.json" in files else "", f"{AUTOENCODER_FOLDER}/")
    weights = [next((folder + name for name in WEIGHTS if folder + name in files), "") for folder in folders]
    shards = [_shards(index) for index in weights if ".index." in index]
    wanted = {*CONFIG_FILES, *weights}
    return [name for name in files if name in wanted or any(fnmatch(name, pattern) for pattern in shards)]


def _shards(index: str) -> str:
    """What the files are called that an index names."""
    stem, _, kind = re.sub(r"\.index(\.\w+)?\.json$", "", index).rpartition(".")
    return f"{stem}*-*-of-*.{kind}"


def weight_files(path: Path, raw_weights: bool = False) -> list[Path]:
    """The files that hold a checkpoint's parameters.

    Args:
        path: a file, the index of a sharded checkpoint, a diffusers folder, or a folder of a training run.
        raw_weights: take the last weights of training rather than their average, where both are there.

    Raises:
        InputError: a folder without weights, or an index that cannot be read or names a file that is not there.
    """
    if path.name == "ema.pt" and (path.parent / "model.pt").is_file():  # which has the names of its tensors
        return [path, path.parent / "model.pt"]
    if path.is_dir():
        if training := [path / name for name in TRAINING_FILES if (path / name).is_file()]:
            return training
        path = _weights_in(model_folder(path, raw_weights), raw_weights)
    if not re.search(r"\.index(\.\w+)?\.json$", path.name):
        return [path]
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{path}: has no weight_map of parameters to files")
    files = [path.parent / Path(name).name for name in sorted(set(shards.values()))]  # and nowhere else
    for file in files:
        if not file.is_file():
            raise InputError(f"{path}: names the file {file.name}, which is not there")
    return files


def _weights_in(folder: Path, raw_weights: bool) -> Path:
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if raw_weights:
        found.sort(key=lambda file: (".non_ema." not in file.name, ".ema." in file.name))
    if found:
        return found[0]
    if steps := sorted(folder.glob("step*/*.pt")):
        raise InputError(f"weights {folder}: are the folders of a whole training: give one, such as {steps[-1].parent}")
    others = sorted(file.name for file in folder.glob("*.*") if file.suffix in (".safetensors", ".bin", ".pt", ".ckpt"))
    there = f"; name one of what is there: {', '.join(others[:3])}" if others else ""
    raise InputError(f"weights {folder}: hold no diffusion_pytorch_model.safetensors nor any of its other forms{there}")


def model_folder(folder: Path, raw_weights: bool = False) -> Path:
    """Where a diffusers folder keeps its network: in unet_ema/ or unet/ if it has one, else in itself."""
    names = ("unet", "unet_ema") if raw_weights else ("unet_ema", "unet")
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def read_network(folder: Path, raw_weights: bool = False) -> dict[str, Any]:
    """The network a diffusers folder holds: the arguments of `UNet2DModel`.

    Raises:
        InputError: no config.json, or one that is no JSON object, or a network or pipeline of another kind.
    """
    check_pipeline(folder)
    path = model_folder(folder, raw_weights) / "config.json"
    content = read_json(path)
    class_name = content.get("_class_name", "UNet2DModel")
    if class_name not in ("UNet2DModel", "EMAModel"):
        raise InputError(f"{path}: a network of class {class_name!r} is not supported (only UNet2DModel)")
    return arguments(content)


def read_diffusers_folder(folder: Path, raw_weights: bool = False) -> dict[str, Any]:
    """What a diffusers folder says of its model and noise schedule, in the words of our configs.

    Args:
        folder: of a pipeline, or of a network with scheduler_config.json beside it, or a checkpoint of a training.
        raw_weights: as for `weight_files`.

    Returns:
        The content of a config, with the family's parameters as config.json names them.

    Raises:
        InputError: a file that is missing or is no JSON object, or settings our sampler has no word for.
    """
    params = read_network(folder, raw_weights)
    size = params.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:  # height and width
        size = size[0]
    if not isinstance(size, int):
        raise InputError(f"{folder}: sample_size in config.json must be that of squares, not {size!r}")
    scheduler = _scheduler_file(folder)
    content = {
        "image_size": size,
        "image_channels": params.get("in_channels", 3),
        "weights": str(folder),
        "model": {"dialect": "diffusers", "params": params},
        "diffusion": read_scheduler(read_json(scheduler), str(scheduler)),
    }
    autoencoder = autoencoder_folder(folder)
    return content | images_of_latents(autoencoder, size) if autoencoder else content


def _scheduler_file(folder: Path) -> Path:
    """The scheduler's config: in the folder, or, for a checkpoint of a training, in the pipeline above it.

    Raises:
        InputError: there is none.
    """
    places = [folder / name for name in SCHEDULERS]
    if re.fullmatch(r"checkpoint-\d+", folder.absolute().name) or folder.name in UNETS:
        places += [folder.absolute().parent / name for name in SCHEDULERS]
    for path in places:
        if path.is_file():
            return path
    raise InputError(
        f"weights {folder}: hold no scheduler_config.json, which says what diffusion the network was trained on: copy "
        "it from the finished pipeline, or give a config with -c"
    )


def write_diffusers_folder(folder: Path, params: Mapping[str, Any], diffusion: Mapping[str, Any]) -> None:
    """Write config.json and scheduler_config.json, the way back from `read_diffusers_folder`.

    Args:
        folder: made if need be.
        params: the network, as `UNet2DModel`'s config.json names them.
        diffusion: as a config has it.
    """
    scheduler = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": diffusion["total_steps"],
        "beta_schedule": _key_of(diffusion["beta_schedule"], BETA_SCHEDULES),
        "beta_start": diffusion.get("beta_start", 1e-4),
        "beta_end": diffusion.get("beta_end", 0.02),
        "prediction_type": _key_of(diffusion["objective"], OBJECTIVES),
        "variance_type": _key_of(diffusion["var_type"], VAR_TYPES),
        "clip_sample": diffusion.get("clip_denoised", True),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", {"_class_name": "UNet2DModel", **params}),
        ("scheduler_config.json", scheduler),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _key_of(value: str, words: Mapping[Any, str]) -> str:
    """The first of diffusers' words for one of ours."""
    return next(theirs for theirs, ours in words.items() if ours == value)

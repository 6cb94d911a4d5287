"""A diffusers folder: which files it holds, and its two config files read as one of our configs.

`UNet2DModel.save_pretrained` writes config.json and the weights side by side; a pipeline's has them in unet/, and
scheduler_config.json in scheduler/. Older pipelines have all of them in one place.
"""

import json
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from utils.errors import InputError

BETA_SCHEDULES = {"linear": "linear", "scaled_linear": "quad", "squaredcos_cap_v2": "cosine"}
OBJECTIVES = {"epsilon": "pred_eps", "sample": "pred_x0", "v_prediction": "pred_v"}
VAR_TYPES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": "learned_range",
}


CONFIG_FILES = ("unet/config.json", "config.json", "scheduler/scheduler_config.json", "scheduler_config.json")

# the weights by any of these names, the first that is there; an index names the files of a sharded one
WEIGHTS = tuple(
    f"diffusion_pytorch_model{kind}"
    for kind in (
        ".safetensors",
        ".safetensors.index.json",
        ".bin",
        ".bin.index.json",
        ".fp16.safetensors",
        ".fp16.bin",
    )
)


def needed_files(files: Collection[str]) -> list[str]:
    """Those files of a diffusers repository that a run reads.

    Args:
        files: the repository's, with / between folder and name.

    Returns:
        Both config files and the weights with all their shards; what there is of them.
    """
    folder = "unet/" if "unet/config.json" in files else ""
    weights = next((folder + name for name in WEIGHTS if folder + name in files), "")
    stem, _, kind = weights.removesuffix(".index.json").rpartition(".")
    shards = f"{stem}-*-of-*.{kind}" if weights.endswith(".index.json") else ""
    return [name for name in files if name in (*CONFIG_FILES, weights) or fnmatch(name, shards)]


def weight_files(path: Path) -> list[Path]:
    """The files that hold a checkpoint's parameters.

    Args:
        path: a file, the index of a sharded checkpoint, or a diffusers folder.

    Raises:
        InputError: a folder without weights, or an index that cannot be read or names a file that is not there.
    """
    if path.is_dir():
        folder = model_folder(path)
        found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if not found:
            raise InputError(f"weights {folder}: hold no {WEIGHTS[0]} nor any of its other forms")
        path = found[0]
    if not path.name.endswith(".index.json"):
        return [path]
    shards = _read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{path}: has no weight_map of parameters to files")
    files = [path.parent / Path(name).name for name in sorted(set(shards.values()))]  # and nowhere else
    for file in files:
        if not file.is_file():
            raise InputError(f"{path}: names the file {file.name}, which is not there")
    return files


def model_folder(folder: Path) -> Path:
    """Where a diffusers folder keeps its network: in unet/ if it is a pipeline, else in itself."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def read_network(folder: Path) -> dict[str, Any]:
    """The network a diffusers folder holds: the arguments of `UNet2DModel`.

    Raises:
        InputError: no config.json, or one that is no JSON object.
    """
    content = _read_json(model_folder(folder) / "config.json")
    return {name: value for name, value in content.items() if not name.startswith("_")}


def read_diffusers_folder(folder: Path) -> dict[str, Any]:
    """What a diffusers folder says of its model and noise schedule, in the words of our configs.

    Args:
        folder: of a pipeline, or of a network with scheduler_config.json beside it.

    Returns:
        The content of a config, with the network's parameters as config.json names them.

    Raises:
        InputError: a file that is missing or is no JSON object, or settings our sampler has no word for.
    """
    params = read_network(folder)
    size = params.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:  # height and width
        size = size[0]
    if not isinstance(size, int):
        raise InputError(f"{folder}: sample_size in config.json must be that of squares, not {size!r}")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if not scheduler.is_file():
        scheduler = folder / "scheduler_config.json"
    return {
        "image_size": size,
        "image_channels": params.get("in_channels", 3),
        "weights": str(folder),
        "model": {"dialect": "diffusers", "params": params},
        "diffusion": _diffusion(_read_json(scheduler), scheduler),
    }


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


def _key_of(value: str, words: dict[str, str]) -> str:
    """The first of diffusers' words for one of ours."""
    return next(theirs for theirs, ours in words.items() if ours == value)


def _diffusion(scheduler: dict[str, Any], path: Path) -> dict[str, Any]:
    def word(key: str, default: str, words: dict[str, str]) -> str:
        value = scheduler.get(key, default)
        if value not in words:
            raise InputError(f"{path}: {key} {value!r} is not supported (only {', '.join(words)})")
        return words[value]

    for key, plain in (("trained_betas", None), ("thresholding", False), ("rescale_betas_zero_snr", False)):
        if scheduler.get(key, plain) != plain:
            raise InputError(f"{path}: {key} {scheduler[key]!r} is not supported (only {plain!r})")
    if scheduler.get("clip_sample", True) and scheduler.get("clip_sample_range", 1.0) != 1.0:
        raise InputError(f"{path}: clip_sample_range must be 1, not {scheduler['clip_sample_range']!r}")
    return {
        "total_steps": scheduler.get("num_train_timesteps", 1000),
        "beta_schedule": word("beta_schedule", "linear", BETA_SCHEDULES),
        "beta_start": scheduler.get("beta_start", 1e-4),
        "beta_end": scheduler.get("beta_end", 0.02),
        "objective": word("prediction_type", "epsilon", OBJECTIVES),
        "var_type": word("variance_type", "fixed_small", VAR_TYPES),
        "clip_denoised": scheduler.get("clip_sample", True),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return content

"""A diffusers folder read as a config: config.json for the network, scheduler_config.json for the diffusion."""

import json
from collections.abc import Mapping
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


def read_diffusers_folder(folder: Path) -> dict[str, Any]:
    """What a folder of diffusers' says of its model and noise schedule, in the words of our configs.

    Args:
        folder: holds config.json and scheduler_config.json.

    Returns:
        The content of a config, with the dialect's parameters as config.json names them.

    Raises:
        InputError: a file that is missing or is no JSON object, or settings our sampler has no word for.
    """
    model = {k: v for k, v in _read_json(folder / "config.json").items() if not k.startswith("_")}
    size = model.get("sample_size")
    if not isinstance(size, int):
        raise InputError(f"{folder / 'config.json'}: sample_size must be one whole number, not {size!r}")
    return {
        "image_size": size,
        "image_channels": model.get("in_channels", 3),
        "weights": str(folder),
        "model": {"dialect": "diffusers", "params": model},
        "diffusion": _diffusion(_read_json(folder / "scheduler_config.json"), folder / "scheduler_config.json"),
    }


def write_diffusers_folder(folder: Path, params: Mapping[str, Any], diffusion: Mapping[str, Any]) -> None:
    """Write config.json and scheduler_config.json, the way back from `read_diffusers_folder`.

    Args:
        folder: made if need be.
        params: the network, as `UNet2DModel`'s config.json names them.
        diffusion: the arguments of diffusions.DDPM.
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

"""The YAML files of xyfJASON/Diffusion-Models-Implementations, read as configs of ours.

They name Python classes as `target`. A target is looked up in a table here and never imported. Their keys for the
diffusion are the same as ours; of training, only the share of dropped labels matters for sampling.
"""

from collections.abc import Mapping
from typing import Any

from utils.errors import InputError

TARGET_FAMILIES = {
    "models.unet.UNet": "xyf",
    "models.unet_categorial_adagn.UNetCategorialAdaGN": "xyf_adagn",
    "models.pesser.model.Model": "pesser",
    "models.adm.unet.UNetModel": "adm",
}
TARGET_DIFFUSIONS = ("diffusions.ddpm.DDPM", "diffusions.ddim.DDIM", "diffusions.classifier_free.ClassifierFree")
DEFAULTS = {"beta_schedule": "linear", "total_steps": 1000, "objective": "pred_eps", "var_type": "fixed_large"}


def read_research_yaml(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Convert the content of such a file to that of a config; raise InputError for another target or no image size."""
    data, network = _mapping(content, "data", source), _mapping(content, "model", source)
    diffusion = _mapping(content, "diffusion", source)
    family = _look_up(network.get("target"), TARGET_FAMILIES, "model", source)
    if "target" in diffusion:
        _look_up(diffusion["target"], {name: name for name in TARGET_DIFFUSIONS}, "diffusion", source)
    size = {**data, **_mapping(data, "params", source)}.get("img_size")
    if size is None:
        raise InputError(f"{source}: data.params.img_size is missing")
    p_uncond = _mapping(content, "train", source).get("p_uncond", 0) if family == "xyf_adagn" else 0
    return {
        "image_size": size,
        "image_channels": data.get("img_channels", 3),
        "model": {"dialect": family, "params": network.get("params", {})},
        "diffusion": DEFAULTS | _mapping(diffusion, "params", source),
        "p_uncond": p_uncond,
    }


def _mapping(content: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, Mapping):
        raise InputError(f"{source}: {key} must be a mapping of keys to values")
    return dict(value)


def _look_up(target: object, table: Mapping[str, str], what: str, source: str) -> str:
    if not isinstance(target, str) or target not in table:
        raise InputError(f"{source}: {what}.target {str(target)[:80]!r} is not supported (only {', '.join(table)})")
    return table[target]

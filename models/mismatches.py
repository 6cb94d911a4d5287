"""What is wrong with weights that do not fit their config: what they are instead, or which parameters to change."""

import re
from collections.abc import Sequence
from typing import Any

from models.families import TABLES
from models.families.family import Shapes
from models.files.config import Architecture
from utils.errors import InputError

# files of other things than networks that draw images from noise alone, by parts of their names
FOREIGN_PARTS = {
    "denoising-diffusion-pytorch's class-conditional network, another than its Unet": r"(?m)\bnull_classes_emb$",
    "a LoRA, an add-on to another network": r"lora_|\.lora\.",
    "a ControlNet, an add-on to another network": r"controlnet_cond_embedding|zero_convs\.",
    "a text-to-image network, which draws from a description": (
        r"\.transformer_blocks\.|\.attn2\.|cond_stage_model\.|encoder_kv\.|encoder_hid_proj"
    ),
    "a transformer; only convolutional networks are supported": (
        r"adaLN_modulation|transformer_blocks\.|patch_embed|x_embedder"
    ),
}


def foreign_kind(shapes: Shapes) -> str | None:
    """Return what a file is that holds no network drawing images from noise alone; None if names don't show it."""
    names = "\n".join(map(str, shapes))  # one a line
    has = set(re.findall(r"^(\w+)\.", names, re.MULTILINE))
    if "conv_in.conv.weight" in shapes:  # MONAI's
        if len(shapes["conv_in.conv.weight"]) != 4:
            return f"a network of MONAI's in {len(shapes['conv_in.conv.weight']) - 2} dimensions; only 2 are supported"
        if ".transformer_blocks." in names:
            return "a network of MONAI's that draws from a context (with_conditioning); only unconditional ones load"
    for kind, parts in FOREIGN_PARTS.items():
        if re.search(parts, names):
            return kind
    if "input_blocks" in has and "output_blocks" not in has:
        return "a classifier, which judges images and draws none"
    ends = [tuple(shapes.get(name, ())) for name in ("input_blocks.0.0.weight", "out.2.weight")]
    if "output_blocks" in has and ends[0][1:2] == (6,) and ends[1][:1] != (12,):
        return "an upsampler, which needs a smaller image at every step"
    if {"encoder", "decoder"} <= has:
        return "an autoencoder; its diffusion network is another file"
    if {"init_conv.weight", "final_conv.weight", "time_mlp.1.weight"} <= set(shapes) and (
        re.search(r"\.fn\.|\.block1\.norm\.weight", names) or ".mem_kv" not in names
    ):
        return "a network like denoising-diffusion-pytorch's before version 2.0 of May 2024; only later ones load"
    return None


def check_family(shapes: Shapes, architecture: Architecture, source: str) -> None:
    """Raise InputError if a file's parameters have not the names of the config's family."""
    check_known(shapes, source, architecture.key)
    matching = [name for name, family in TABLES[architecture.key].items() if family.matches(shapes)]
    if architecture.family not in matching:
        raise InputError(
            f"weights {source} are of family {matching[0]}, but {architecture.source} says "
            f"{architecture.key}.dialect: {architecture.family}"
        )


def check_known(shapes: Shapes, source: str, key: str = "model") -> None:
    """Raise InputError for parameters of no family, or of what draws from more than noise; say of what, if known."""
    if key == "model" and (kind := foreign_kind(shapes)):
        raise InputError(f"weights {source}: this is {kind}")
    families = TABLES[key]
    if not any(family.matches(shapes) for family in families.values()):
        names = shorten_list([*map(str, shapes)])
        raise InputError(f"weights {source}: {names} are not names of any known family ({', '.join(families)})")


def wrong_params(shapes: Shapes, architecture: Architecture) -> dict[str, tuple[Any, Any]]:
    """Return the config's parameters that a file contradicts: the file's value, and the config's."""
    family = TABLES[architecture.key][architecture.family]
    try:
        derived = family.derive(shapes, architecture.params.get("resolution"))
    except (ArithmeticError, LookupError, TypeError, ValueError):  # not all names are the family's
        return {}
    said = family.defaults() | dict(architecture.params)
    pairs = {name: (value, said.get(name)) for name, value in derived.items()}
    return {name: pair for name, pair in pairs.items() if not same_value(*pair)}


def shorten_list(items: Sequence[str], limit: int = 3) -> str:
    """Join the first few items, and say how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def same_value(one: object, other: object) -> bool:
    """Return whether two values of a parameter mean the same: list or tuple, and resolutions in any order."""
    one, other = (list(value) if isinstance(value, (list, tuple)) else value for value in (one, other))
    if one == other or not (isinstance(one, list) and isinstance(other, list)):
        return one == other
    in_any_order = all(isinstance(item, int) for item in one + other) and len(set(one)) == len(one)
    return in_any_order and sorted(one) == sorted(other)

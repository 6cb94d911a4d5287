"""The recorded networks of tests/data/families: their parameters, and what their own repositories' code returned."""

import lzma
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

FOLDER = Path(__file__).parent / "data" / "families"

DIFFUSION = {"total_steps": 1000, "beta_schedule": "linear", "objective": "pred_eps", "var_type": "fixed_large"}
LEARNED = {"in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 1, "channel_mult": [1, 2]}
CONFIGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # family, params, diffusion
    "improved_lsun_like": (
        "adm",
        LEARNED | {"attention_resolutions": [2], "num_heads": 1},
        DIFFUSION | {"var_type": "learned_range"},
    ),
    "improved_cosine4000_rescaled": (
        "adm",
        LEARNED | {"attention_resolutions": [2], "num_heads": 4, "use_scale_shift_norm": True},
        DIFFUSION
        | {"total_steps": 4000, "beta_schedule": "cosine", "var_type": "learned_range", "rescale_timesteps": True},
    ),
    "pytorch_ddpm": ("pytorch_ddpm", {"ch": 32, "ch_mult": [1, 2], "attn": [1], "num_res_blocks": 1}, DIFFUSION),
    "score_sde_ddpm": (
        "score_sde_ddpm",
        {"image_size": 16, "nf": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [8]},
        DIFFUSION,
    ),
    "xyf_unet": (
        "xyf",
        {"in_channels": 3, "out_channels": 3, "dim": 32, "dim_mults": [1, 2], "use_attn": [False, True]}
        | {"num_res_blocks": 1, "n_heads": 1, "dropout": 0.1},
        DIFFUSION,
    ),
}


def config(name: str) -> dict[str, Any]:
    """A recorded network's config."""
    family, params, diffusion = CONFIGS[name]
    model = {"dialect": family, "params": params}
    return {"image_size": 16, "image_channels": 3, "model": model, "diffusion": diffusion}


def weights(name: str) -> dict[str, Tensor]:
    """A recorded network's parameters, under its repository's names, as what wraps it in a file would be."""
    return safetensors.torch.load(lzma.decompress((FOLDER / f"{name}.safetensors.xz").read_bytes()))


def io(name: str) -> dict[str, Tensor]:
    """What went into a recorded network, and what came out."""
    return safetensors.torch.load_file(FOLDER / f"{name}.io.safetensors")


def apart(one: Tensor, other: Tensor) -> float:
    """How far two tensors are apart, relative to the second."""
    return ((one - other).norm() / other.norm()).item()


def unpacked(name: str, folder: Path) -> Path:
    """A recorded file as it is published, put into a folder."""
    path = folder / name
    path.write_bytes(lzma.decompress((FOLDER / f"{name}.xz").read_bytes()))
    return path

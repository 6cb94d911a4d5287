"""The names of lucidrains/denoising-diffusion-pytorch: `model-N.pt`, the weights and their average, and the schedule.

https://github.com/lucidrains/denoising-diffusion-pytorch, classes `Unet` and `GaussianDiffusion`, since version 2.0.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusions.process import Process
from models.families.family import Family, Shapes, count
from models.networks.lucidrains_unet import AttentionShape, LucidrainsUNet


def network_params(
    dim: int,
    init_dim: int | None = None,
    out_dim: int | None = None,
    dim_mults: Sequence[int] = (1, 2, 4, 8),
    channels: int = 3,
    learned_variance: bool = False,
    sinusoidal_pos_emb_theta: float = 10000,
    attn_dim_head: int | Sequence[int] = 32,
    attn_heads: int | Sequence[int] = 4,
    full_attn: bool | Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Return the network's parameters from those of `Unet`."""
    levels = len(dim_mults)
    full = full_attn or [*[False] * (levels - 1), True]
    shapes = [[value] * levels if isinstance(value, int) else value for value in (attn_heads, attn_dim_head, full)]
    return {
        "in_channels": channels,
        "out_channels": out_dim or channels * (2 if learned_variance else 1),
        "stem_channels": init_dim or dim,
        "level_channels": [dim * mult for mult in dim_mults],
        "attention": [AttentionShape(*shape) for shape in zip(*shapes, strict=True)],
        "time_channels": dim,
        "max_period": sinusoidal_pos_emb_theta,
    }


def module_names(network: LucidrainsUNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs: the parts of a level have numbers."""
    yield "time_embed.linear_1", "time_mlp.1"
    yield "time_embed.linear_2", "time_mlp.3"
    yield "conv_in", "init_conv"
    yield "mid_1", "mid_block1"
    yield "mid_2", "mid_block2"
    yield "block_out", "final_res_block"
    yield "conv_out", "final_conv"
    for direction in ("down", "up"):
        for i in range(len(network.down)):
            for number, part in enumerate(("block_1", "block_2", "attn", "resample")):
                yield f"{direction}.{i}.{part}", f"{direction}s.{i}.{number}"


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments of `Unet`: all but the period of the slowest sinusoid follow from names and shapes."""
    dim = shapes["time_mlp.1.weight"][1]
    levels = range(count(shapes, "downs.{}."))
    full = [f"downs.{i}.2.to_out.weight" in shapes for i in levels]
    memories = [shapes[f"downs.{i}.2.mem_kv"] for i in levels]
    ends = [shapes.get(f"downs.{i}.3.1.weight") or shapes[f"downs.{i}.3.weight"] for i in levels]
    return {
        "dim": dim,
        "init_dim": shapes["init_conv.weight"][0],
        "out_dim": shapes["final_conv.weight"][0],
        "dim_mults": [end[0] // dim for end in ends],
        "channels": shapes["init_conv.weight"][1],
        "attn_dim_head": [memory[3] if each else memory[2] for memory, each in zip(memories, full, strict=True)],
        "attn_heads": [memory[1] for memory in memories],
        "full_attn": full,
    }


def read_diffusion(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the schedule, and the objective by the timesteps' weights in the loss; there is always clipping."""
    if "betas" not in tensors:
        return {}
    betas = tensors["betas"].double()
    found = {"total_steps": len(betas), **_schedule(betas), "rescale_timesteps": False, "clip_denoised": True}
    if "loss_weight" in tensors and (objective := _objective(betas, tensors["loss_weight"].double())):
        found["objective"] = objective
    return found


def _schedule(betas: Tensor) -> dict[str, Any]:
    """Return its name and arguments; a schedule without a name is given as a list."""
    linear = {"beta_schedule": "linear", "beta_start": betas[0].item(), "beta_end": betas[-1].item()}
    for schedule in (linear, {"beta_schedule": "cosine"}, {"beta_schedule": "sigmoid_alphas"}):
        if _has_schedule(betas, schedule):
            return schedule
    return {"beta_schedule": "given", "betas": betas.tolist()}


def _has_schedule(betas: Tensor, schedule: dict[str, Any]) -> bool:
    try:
        alphas_cumprod = Process(len(betas), **schedule).alphas_cumprod
    except ValueError:  # betas that such a schedule could not have
        return False
    return torch.allclose(alphas_cumprod, (1 - betas).cumprod(0), rtol=1e-3, atol=0)


def _objective(betas: Tensor, loss_weight: Tensor) -> str | None:
    """Return what is predicted, by the weights of the loss: 1 for ε, the signal-to-noise ratio for x_0, ᾱ for v."""
    alphas_cumprod = (1 - betas).cumprod(0)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    late = snr < 1  # of the earlier ones, the weight may have been cut off (Hang et al. 2023, arXiv:2303.09556)
    expected = {"pred_eps": torch.ones_like(snr), "pred_x0": snr, "pred_v": alphas_cumprod}
    for objective, weight in expected.items():
        if torch.allclose(loss_weight[late], weight[late], rtol=1e-3, atol=0):
            return objective
    return None


FAMILY = Family(
    mark=r"downs\.0\.0\.block1\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names={
        "emb": "mlp.1",
        "conv_1": "block1.proj",
        "norm_1": "block1.norm",
        "conv_2": "block2.proj",
        "norm_2": "block2.norm",
        "skip": "res_conv",
    },
    derive=derive,
    ignored_params=("dropout", "flash_attn"),
    read_diffusion=read_diffusion,
    network=LucidrainsUNet,
)

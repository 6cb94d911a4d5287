"""The names of w86763777/pytorch-ddpm, from which many a first model has been trained.

https://github.com/w86763777/pytorch-ddpm, class `UNet` of model.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.families.family import Family, Shapes, levels
from models.networks.unet import UNet


def network_params(ch: int, ch_mult: Sequence[int], attn: Sequence[int], num_res_blocks: int) -> dict[str, Any]:
    """Return the UNet's parameters from those of `UNet`; `attn` are the numbers of the levels with attention."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        **levels([ch * mult for mult in ch_mult], num_res_blocks, [i in attn for i in range(len(ch_mult))], "conv"),
        "stem_channels": ch,
        "time_channels": ch,
        "time_cos_first": False,
        "time_spread": ch // 2,
        "norm_eps": 1e-5,
    }


def module_names(unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs: blocks and changes of resolution are numbered together, each way on its own."""
    yield "time_embed.linear_1", "time_embedding.timembedding.1"
    yield "time_embed.linear_2", "time_embedding.timembedding.3"
    yield "conv_in", "head"
    yield "norm_out", "tail.0"
    yield "conv_out", "tail.2"
    for i in range(2):
        yield f"mid.{i}.attn", f"middleblocks.{i}.attn"
        yield f"mid.{i}.res", f"middleblocks.{i}"
    for direction, stages in (("down", unet.down), ("up", unet.up)):
        n = 0
        for i, stage in enumerate(stages):
            for j in range(len(stage.blocks)):
                yield f"{direction}.{i}.blocks.{j}.attn", f"{direction}blocks.{n}.attn"
                yield f"{direction}.{i}.blocks.{j}.res", f"{direction}blocks.{n}"
                n += 1
            yield f"{direction}.{i}.resample.conv", f"{direction}blocks.{n}.main"
            n += stage.resample is not None


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments of `UNet`, all of which follow from names and shapes."""
    numbers = sorted({int(name.split(".")[1]) for name in shapes if name.startswith("downblocks.")})
    changes = [n for n in numbers if f"downblocks.{n}.main.weight" in shapes]
    firsts = [0, *(n + 1 for n in changes)]
    ch = shapes["head.weight"][0]
    return {
        "ch": ch,
        "ch_mult": [shapes[f"downblocks.{n}.block1.2.weight"][0] // ch for n in firsts],
        "attn": [i for i, n in enumerate(firsts) if f"downblocks.{n}.attn.proj.weight" in shapes],
        "num_res_blocks": changes[0] if changes else len(numbers),
    }


def adapt(name: str, tensor: Tensor) -> Tensor:
    """Reorder sinusoids: theirs are a sine, its cosine, the next sine, …; ours all sines and then all cosines."""
    if name == "time_embedding.timembedding.1.weight":
        return torch.cat([tensor[:, ::2], tensor[:, 1::2]], dim=1)
    return tensor


def read_diffusion(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return T, for which the sinusoids are tabulated."""
    return {"total_steps": len(tensors["time_embedding.timembedding.0.weight"])}


FAMILY = Family(
    mark=r"time_embedding\.timembedding\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names={
        "norm_1": "block1.0",
        "conv_1": "block1.2",
        "emb": "temb_proj.1",
        "norm_2": "block2.0",
        "conv_2": "block2.3",
        "skip": "shortcut",
        "norm": "group_norm",
        "qkv": ("proj_q", "proj_k", "proj_v"),
        "out": "proj",
    },
    derive=derive,
    ignored_params=("T", "dropout"),
    unused=r"^time_embedding\.timembedding\.0\.",
    adapt=adapt,
    diffusion={"beta_schedule": "linear", "objective": "pred_eps"},
    read_diffusion=read_diffusion,
)

"""The names of xyfJASON/Diffusion-Models-Implementations: its own UNet, plain and with adaptive normalisation.

https://github.com/xyfJASON/Diffusion-Models-Implementations, classes `UNet` and `UNetCategorialAdaGN`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from models.families.family import Family, Shapes, count, levels
from models.networks.layers import Resample
from models.networks.unet import UNet


def network_params(
    in_channels: int,
    out_channels: int,
    dim: int,
    dim_mults: Sequence[int],
    use_attn: Sequence[bool],
    num_res_blocks: int,
    n_heads: int = 1,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `UNet`."""
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        **levels([dim * mult for mult in dim_mults], num_res_blocks, use_attn, "conv"),
        "stem_channels": dim,
        "time_channels": dim,
        "time_cos_first": False,
        "time_spread": dim // 2 - 1,
        "norm_eps": 1e-5,
        "num_heads": n_heads,
    }


def adagn_params(
    in_channels: int,
    out_channels: int,
    dim: int,
    num_res_blocks: int,
    dim_mults: Sequence[int],
    use_attn: Sequence[bool],
    attn_head_dims: int = 64,
    resblock_updown: bool = True,
    num_classes: int | None = None,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `UNetCategorialAdaGN`."""
    resample: Resample = "residual" if resblock_updown else "conv"
    return {
        **network_params(in_channels, out_channels, dim, dim_mults, use_attn, num_res_blocks),
        **levels([dim * mult for mult in dim_mults], num_res_blocks, use_attn, resample),
        "head_channels": attn_head_dims,
        "scale_shift_norm": True,
        "num_classes": num_classes,
    }


def build(**params: Any) -> UNet:
    """Build a UNet whose attention at the bottom has one head, whatever the others have."""
    unet = UNet(**params)
    if unet.mid[0].attn is not None:
        unet.mid[0].attn.num_heads = 1
    return unet


def module_names(unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs: a level's blocks, attentions and change of resolution are numbered together."""
    yield "time_embed.linear_1", "time_embed.1"
    yield "time_embed.linear_2", "time_embed.3"
    yield "conv_in", "first_conv"
    yield "norm_out", "last_conv.0"
    yield "conv_out", "last_conv.2"
    yield "mid.0.res", "bottleneck_block.0"
    yield "mid.0.attn", "bottleneck_block.1"
    yield "mid.1.res", "bottleneck_block.2"
    for direction, stages, inner in (("down", unet.down, ""), ("up", unet.up, ".1")):
        for i, stage in enumerate(stages):
            theirs, n = f"{direction}_blocks.{i}", 0
            for j, block in enumerate(stage.blocks):
                yield f"{direction}.{i}.blocks.{j}.res", f"{theirs}.{n}"
                yield f"{direction}.{i}.blocks.{j}.attn", f"{theirs}.{n + 1}"
                n += 1 if block.attn is None else 2
            yield f"{direction}.{i}.resample.conv", f"{theirs}.{n}{inner}"
            yield f"{direction}.{i}.resample", f"{theirs}.{n}"


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments from names and shapes: all but those of the attention's heads."""
    numbers = range(count(shapes, "down_blocks.{}."))
    dim = shapes["time_embed.1.weight"][1]
    last = rf"down_blocks\.{numbers[-1]}\.\d+\.blk1\.0\.weight"
    derived = {
        "in_channels": shapes["first_conv.weight"][1],
        "out_channels": shapes["last_conv.2.weight"][0],
        "dim": dim,
        "dim_mults": [shapes[f"down_blocks.{i}.0.blk1.2.weight"][0] // dim for i in numbers],
        "use_attn": [f"down_blocks.{i}.1.q.weight" in shapes for i in numbers],
        "num_res_blocks": sum(re.fullmatch(last, name) is not None for name in shapes),
    }
    if ADAGN.matches(shapes):
        derived["num_classes"] = shapes["class_embed.weight"][0] if "class_embed.weight" in shapes else None
        if len(numbers) > 1:
            changes = [name for name in shapes if re.fullmatch(r"down_blocks\.0\.\d+\.weight", name)]
            derived["resblock_updown"] = not changes
    return derived


_LEAVES: dict[str, str | tuple[str, ...]] = {
    "norm_1": "blk1.0",
    "conv_1": "blk1.2",
    "skip": "shortcut",
    "qkv": ("q", "k", "v"),
    "out": "proj",
}

FAMILY = Family(
    mark=r"down_blocks\.0\.0\.blk2\.0\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names=_LEAVES | {"emb": "proj.1", "norm_2": "blk2.0", "conv_2": "blk2.3"},
    derive=derive,
    hidden_params={"n_heads": "1"},
    alternatives=[{"n_heads": heads} for heads in (1, 4, 8)],
    ignored_params=("dropout",),
    network=build,
)

ADAGN = Family(
    mark=r"down_blocks\.0\.0\.adagn\.",
    network_params=adagn_params,
    module_names=module_names,
    leaf_names=_LEAVES | {"emb": "adagn.proj.1", "norm_2": "adagn.gn", "conv_2": "blk2.2"},
    derive=derive,
    hidden_params={"attn_head_dims": "64"},
    alternatives=[{"attn_head_dims": width} for width in (32, 64)],
    ignored_params=("dropout",),
    null_class=True,
    network=build,
)

"""The names of pesser/pytorch_diffusion, the PyTorch twin of Ho et al.'s DDPM checkpoints.

https://github.com/pesser/pytorch_diffusion, class `Model`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from models.families.family import Family, Shapes, count, levels
from models.networks.layers import Resample
from models.networks.unet import UNet


def network_params(
    resolution: int,
    in_channels: int,
    out_ch: int,
    ch: int,
    num_res_blocks: int,
    attn_resolutions: Sequence[int],
    ch_mult: Sequence[int] = (1, 2, 4, 8),
    resamp_with_conv: bool = True,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `Model`."""
    attention = [resolution // 2**i in attn_resolutions for i in range(len(ch_mult))]
    resample: Resample = "conv" if resamp_with_conv else "plain"
    return {
        "in_channels": in_channels,
        "out_channels": out_ch,
        **levels([ch * mult for mult in ch_mult], num_res_blocks, attention, resample),
        "stem_channels": ch,
        "time_channels": ch,
        "time_cos_first": False,
        "time_spread": ch // 2 - 1,
        "asymmetric_padding": True,
        "norm_eps": 1e-6,
    }


def module_names(unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs; levels on the way up are numbered by resolution there."""
    yield "time_embed.linear_1", "temb.dense.0"
    yield "time_embed.linear_2", "temb.dense.1"
    for i, stage in enumerate(unet.down):
        for j in range(len(stage.blocks)):
            yield f"down.{i}.blocks.{j}.res", f"down.{i}.block.{j}"
            yield f"down.{i}.blocks.{j}.attn", f"down.{i}.attn.{j}"
        yield f"down.{i}.resample", f"down.{i}.downsample"
    yield "mid.0.res", "mid.block_1"
    yield "mid.0.attn", "mid.attn_1"
    yield "mid.1.res", "mid.block_2"
    for i, stage in enumerate(unet.up):
        theirs = f"up.{len(unet.up) - 1 - i}"
        for j in range(len(stage.blocks)):
            yield f"up.{i}.blocks.{j}.res", f"{theirs}.block.{j}"
            yield f"up.{i}.blocks.{j}.attn", f"{theirs}.attn.{j}"
        yield f"up.{i}.resample", f"{theirs}.upsample"


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments of `Model` from names and shapes: all, once the images' size is known."""
    depth = count(shapes, "down.{}.block.")
    channels = shapes["temb.dense.0.weight"][1]
    derived = {
        "in_channels": shapes["conv_in.weight"][1],
        "out_ch": shapes["conv_out.weight"][0],
        "ch": channels,
        "num_res_blocks": count(shapes, "down.0.block.{}."),
        "ch_mult": [shapes[f"down.{i}.block.0.conv1.weight"][0] // channels for i in range(depth)],
    }
    if depth > 1:
        derived["resamp_with_conv"] = "down.0.downsample.conv.weight" in shapes
    if image_size is not None:
        attention = [i for i in range(depth) if f"down.{i}.attn.0.q.weight" in shapes]
        derived |= {"resolution": image_size, "attn_resolutions": [image_size // 2**i for i in attention]}
    return derived


FAMILY = Family(
    mark=r"temb\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names={
        "norm_1": "norm1",
        "conv_1": "conv1",
        "emb": "temb_proj",
        "norm_2": "norm2",
        "conv_2": "conv2",
        "skip": "nin_shortcut",
        "qkv": ("q", "k", "v"),
        "out": "proj_out",
    },
    derive=derive,
    ignored_params=("dropout",),
)

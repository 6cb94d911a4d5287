"""The names of MONAI's `DiffusionModelUNet`, and of MONAI Generative's before it, in two dimensions and unconditional.

https://github.com/Project-MONAI/MONAI and https://github.com/Project-MONAI/GenerativeModels: one network, whose
attention and arguments were renamed when it moved (Pinaya et al. 2023, arXiv:2307.15208).
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import nn

from models.families.diffusers import refuse_unsupported
from models.families.family import Family, Shapes, count, levels
from models.networks.unet import UNet
from utils.errors import InputError

# settings that this UNet does not have: only these values are supported
SUPPORTED_VALUES: dict[str, tuple[Any, ...]] = {
    "spatial_dims": (2,),
    "with_conditioning": (False,),
    "cross_attention_dim": (None,),
    "use_combined_linear": (False,),
}


def network_params(
    in_channels: int,
    out_channels: int,
    channels: Sequence[int] | None = None,
    num_channels: Sequence[int] | None = None,
    num_res_blocks: int | Sequence[int] = 2,
    attention_levels: Sequence[bool] = (False, False, True, True),
    norm_num_groups: int = 32,
    norm_eps: float = 1e-6,
    resblock_updown: bool = False,
    num_head_channels: int | Sequence[int] = 8,
    num_class_embeds: int | None = None,
    include_fc: bool | None = None,
    **fixed: Any,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `DiffusionModelUNet`; `num_channels` is what `channels` was called.

    `include_fc` is whether attention ends with a linear layer. MONAI Generative's has one, and never calls it.

    Raises:
        InputError: a setting that is not supported, or lists of different lengths.
    """
    refuse_unsupported(fixed, SUPPORTED_VALUES, "DiffusionModelUNet")
    if (channels is None) == (num_channels is None):
        raise InputError("a DiffusionModelUNet needs channels, or num_channels, as they were called before")
    widths = channels or num_channels or ()
    blocks, heads = (
        [value] * len(widths) if isinstance(value, int) else list(value)
        for value in (num_res_blocks, num_head_channels)
    )
    if not len(widths) == len(attention_levels) == len(blocks) == len(heads):
        raise InputError(
            "channels, attention_levels, num_res_blocks and num_head_channels must have an entry for each level"
        )
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        **levels(widths, blocks, attention_levels, "residual" if resblock_updown else "conv"),
        "head_widths": heads,
        "include_fc": num_channels is None if include_fc is None else include_fc,
        "stem_channels": widths[0],
        "time_channels": widths[0],
        "time_cos_first": True,
        "time_spread": widths[0] // 2,
        "mid_attention_groups": norm_num_groups,
        "num_groups": norm_num_groups,
        "norm_eps": norm_eps,
        "num_classes": num_class_embeds,
    }


def build(head_widths: Sequence[int], include_fc: bool, **params: Any) -> UNet:
    """Build a UNet whose attention has heads of the width given for its level, the last for that at the bottom."""
    unet = UNet(**params)
    stages = [*zip(unet.down, head_widths, strict=True), *zip(unet.up, reversed(head_widths), strict=True)]
    blocks = [(block, width) for stage, width in stages for block in stage.blocks] + [(unet.mid[0], head_widths[-1])]
    for block, width in blocks:
        if block.attn is not None:
            block.attn.num_heads, rest = divmod(block.attn.qkv.in_features, width)
            if rest:
                raise ValueError(f"{block.attn.qkv.in_features} channels cannot be divided among heads of {width}")
            block.attn.out = block.attn.out if include_fc else cast(Any, nn.Identity())
    return unet


def module_names(unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs, attention's in the older names."""
    yield "time_embed.linear_1", "time_embed.0"
    yield "time_embed.linear_2", "time_embed.2"
    yield "class_embed", "class_embedding"
    yield "conv_in", "conv_in.conv"
    yield "norm_out", "out.0"
    yield "conv_out", "out.2.conv"
    yield "mid.0.res", "middle_block.resnet_1"
    yield "mid.0.attn", "middle_block.attention"
    yield "mid.1.res", "middle_block.resnet_2"
    for direction, stages, change in (("down", unet.down, "op"), ("up", unet.up, "conv")):
        for i, stage in enumerate(stages):
            for j in range(len(stage.blocks)):
                yield f"{direction}.{i}.blocks.{j}.res", f"{direction}_blocks.{i}.resnets.{j}"
                yield f"{direction}.{i}.blocks.{j}.attn", f"{direction}_blocks.{i}.attentions.{j}"
            yield f"{direction}.{i}.resample.conv", f"{direction}_blocks.{i}.{direction}sampler.{change}.conv"
            yield f"{direction}.{i}.resample", f"{direction}_blocks.{i}.{direction}sampler"


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments of `DiffusionModelUNet`; the heads' width and the normalisation's groups do not follow."""
    depth = range(count(shapes, "down_blocks.{}."))
    return {
        "in_channels": shapes["conv_in.conv.weight"][1],
        "out_channels": shapes["out.2.conv.weight"][0],
        "channels": [shapes[f"down_blocks.{i}.resnets.0.conv1.conv.weight"][0] for i in depth],
        "num_res_blocks": [count(shapes, f"down_blocks.{i}.resnets.{{}}.") for i in depth],
        "attention_levels": [f"down_blocks.{i}.attentions.0.to_q.weight" in shapes for i in depth],
        "resblock_updown": "down_blocks.0.downsampler.conv1.conv.weight" in shapes,
        "include_fc": any(".out_proj." in name for name in shapes),
        "num_class_embeds": shapes["class_embedding.weight"][0] if "class_embedding.weight" in shapes else None,
    }


FAMILY = Family(
    mark=r"middle_block\.resnet_1\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names={
        "norm_1": "norm1",
        "conv_1": "conv1.conv",
        "emb": "time_emb_proj",
        "norm_2": "norm2",
        "conv_2": "conv2.conv",
        "skip": "skip_connection.conv",
        "qkv": ("to_q", "to_k", "to_v"),
        "out": "out_proj",
    },
    derive=derive,
    hidden_params={"num_head_channels": "8, or a list, one for each level", "norm_num_groups": "32"},
    alternatives=(
        *({"num_head_channels": width} for width in (8, 16, 32, 64)),
        *({"norm_num_groups": groups} for groups in (8, 16, 32)),
    ),
    ignored_params=("dropout_cattn", "transformer_num_layers", "upcast_attention", "use_flash_attention"),
    newer_names={
        **{f".attn.to_{each}.": f".to_{each}." for each in "qkv"},
        ".attn.out_proj.": ".out_proj.",
        ".upsampler.postconv.": ".upsampler.conv.",
    },
    unused=r"\.proj_attn\.",
    diffusion_words={  # "cosine" is the same word; before version 1.6 it began one timestep earlier
        "linear_beta": "linear",
        "scaled_linear_beta": "quad",
        "sigmoid_beta": "sigmoid",
        "epsilon": "pred_eps",
        "sample": "pred_x0",
        "v_prediction": "pred_v",
    },
    network=build,
)

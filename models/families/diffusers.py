"""The names of diffusers' `UNet2DModel`, and the folders its `save_pretrained` writes.

https://github.com/huggingface/diffusers
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from models.families.family import Family, Shapes, count
from models.networks.layers import Resample
from models.networks.unet import Level, UNet
from utils.errors import InputError

# what an averaged copy (`EMAModel`) adds to its config.json, about its training
EMA_PARAMS = (
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
)

# block type: (has attention, how it changes resolution; None: as downsample_type or upsample_type says)
BLOCK_TYPES: dict[str, tuple[bool, Resample | None]] = {
    "DownBlock2D": (False, "conv"),
    "UpBlock2D": (False, "conv"),
    "AttnDownBlock2D": (True, None),
    "AttnUpBlock2D": (True, None),
    "ResnetDownsampleBlock2D": (False, "residual"),
    "ResnetUpsampleBlock2D": (False, "residual"),
}

RESAMPLE_TYPES: dict[str, Resample] = {"conv": "conv", "resnet": "residual"}

# settings that this UNet does not have: only these values are supported
SUPPORTED_VALUES: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "downsample_padding": (0, 1),
    "downsample_type": tuple(RESAMPLE_TYPES),
    "upsample_type": tuple(RESAMPLE_TYPES),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
    "down_block_types": tuple(name for name in BLOCK_TYPES if "Down" in name),
    "up_block_types": tuple(name for name in BLOCK_TYPES if "Up" in name),
}


def network_params(
    in_channels: int = 3,
    out_channels: int = 3,
    freq_shift: int = 0,
    flip_sin_to_cos: bool = True,
    down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896),
    layers_per_block: int = 2,
    downsample_padding: int = 1,
    downsample_type: str = "conv",
    upsample_type: str = "conv",
    attention_head_dim: int | None = 8,
    norm_num_groups: int = 32,
    attn_norm_num_groups: int | None = None,
    norm_eps: float = 1e-5,
    resnet_time_scale_shift: str = "default",
    add_attention: bool = True,
    num_class_embeds: int | None = None,
    **fixed: Any,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `UNet2DModel`'s config.json, whose defaults these are.

    Raises:
        InputError: a block or a setting that is not supported.
    """
    down_block_types = tuple(str(name).removeprefix("UNetRes") for name in down_block_types)  # their first names
    up_block_types = tuple(str(name).removeprefix("UNetRes") for name in up_block_types)
    stated = fixed | {name: value for name, value in locals().items() if name in SUPPORTED_VALUES}
    refuse_unsupported(stated, SUPPORTED_VALUES, "UNet2DModel")
    if not len(block_out_channels) == len(down_block_types) == len(up_block_types):
        raise InputError("block_out_channels, down_block_types and up_block_types must have the same length")

    levels: dict[str, list[Level]] = {}
    for way, widths, kinds, blocks, default in (
        ("down", block_out_channels, down_block_types, layers_per_block, downsample_type),
        ("up", block_out_channels[::-1], up_block_types, layers_per_block + 1, upsample_type),
    ):
        parts = [(width, *BLOCK_TYPES[kind]) for width, kind in zip(widths, kinds, strict=True)]
        levels[way] = [
            Level(width, blocks, attends, change or RESAMPLE_TYPES[default]) for width, attends, change in parts
        ]
        levels[way][-1] = replace(levels[way][-1], resample=None)
    scale_shift = resnet_time_scale_shift == "scale_shift"
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        **levels,
        "stem_channels": block_out_channels[0],
        "time_channels": block_out_channels[0],
        "time_cos_first": flip_sin_to_cos,
        "time_spread": block_out_channels[0] // 2 - freq_shift,
        "mid_attention": add_attention,
        "mid_attention_groups": attn_norm_num_groups or (None if scale_shift else norm_num_groups),
        "num_groups": norm_num_groups,
        "norm_eps": norm_eps,
        "head_channels": attention_head_dim,
        "scale_shift_norm": scale_shift,
        "asymmetric_padding": downsample_padding == 0,
        "num_classes": num_class_embeds,
    }


def refuse_unsupported(params: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]], class_name: str) -> None:
    """Raise InputError if a setting, or an item of one that is a list, is not among those supported."""
    for name, value in params.items():
        if name not in supported:
            raise InputError(f"{name} is not a known parameter of {class_name}")
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if item not in supported[name]:
                understood = ", ".join(map(str, supported[name]))
                raise InputError(f"{name} {item!r} of {class_name} is not supported (only {understood})")


def module_names(unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs."""
    yield "time_embed", "time_embedding"
    yield "class_embed", "class_embedding"
    yield "norm_out", "conv_norm_out"
    yield "mid.0.res", "mid_block.resnets.0"
    yield "mid.0.attn", "mid_block.attentions.0"
    yield "mid.1.res", "mid_block.resnets.1"
    for direction, stages in (("down", unet.down), ("up", unet.up)):
        for i, stage in enumerate(stages):
            for j in range(len(stage.blocks)):
                yield f"{direction}.{i}.blocks.{j}.res", f"{direction}_blocks.{i}.resnets.{j}"
                yield f"{direction}.{i}.blocks.{j}.attn", f"{direction}_blocks.{i}.attentions.{j}"
            yield f"{direction}.{i}.resample", f"{direction}_blocks.{i}.{direction}samplers.0"


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments of `UNet2DModel` from its parameters' names and shapes.

    The attention's heads, the normalisation's groups and ε, the sinusoids' order and spread, and the padding of the
    convolutions that halve the image do not follow from them.
    """
    levels = range(count(shapes, "down_blocks.{}."))
    channels = [shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in levels]
    attention = [f"down_blocks.{i}.attentions.0.to_q.weight" in shapes for i in levels]
    residual = [f"down_blocks.{i}.downsamplers.0.conv1.weight" in shapes for i in levels]
    first_emb = shapes["down_blocks.0.resnets.0.time_emb_proj.weight"][0]

    def block_type(i: int, direction: str) -> str:
        if attention[i]:
            return f"Attn{direction}Block2D"
        return f"Resnet{direction}sampleBlock2D" if residual[i] else f"{direction}Block2D"

    derived = {
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": count(shapes, "down_blocks.0.resnets.{}."),
        "down_block_types": [block_type(i, "Down") for i in levels],
        "up_block_types": [block_type(i, "Up") for i in reversed(levels)],
        "resnet_time_scale_shift": "scale_shift" if first_emb == 2 * channels[0] else "default",
        "add_attention": "mid_block.attentions.0.to_q.weight" in shapes,
        "num_class_embeds": shapes["class_embedding.weight"][0] if "class_embedding.weight" in shapes else None,
    }
    if any(attention[:-1]):
        changes = "resnet" if any(has and res for has, res in zip(attention, residual, strict=True)) else "conv"
        derived |= {"downsample_type": changes, "upsample_type": changes}
    return derived | ({"sample_size": image_size} if image_size is not None else {})


FAMILY = Family(
    # not in an autoencoder's encoder and decoder, which have one each
    mark=r"(?<!coder\.)conv_norm_out\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names={
        "norm_1": "norm1",
        "conv_1": "conv1",
        "emb": "time_emb_proj",
        "norm_2": "norm2",
        "conv_2": "conv2",
        "skip": "conv_shortcut",
        "norm": "group_norm",
        "qkv": ("to_q", "to_k", "to_v"),
        "out": "to_out.0",
    },
    derive=derive,
    hidden_params={
        "attention_head_dim": "8, or null for one head",
        "norm_num_groups": "32",
        "norm_eps": "1e-5, or 1e-6 in Google's",
        "flip_sin_to_cos": "true, or false in Google's",
        "freq_shift": "0, or 1 in Google's",
        "downsample_padding": "1, or 0 in Google's",
    },
    alternatives=(
        *({"attention_head_dim": width} for width in (None, 8, 32, 64)),
        *({"norm_num_groups": groups} for groups in (16, 32)),
        *({"freq_shift": shift} for shift in (0, 1)),
        *({"flip_sin_to_cos": flip} for flip in (False, True)),
        *({"downsample_padding": padding} for padding in (0, 1)),
    ),
    ignored_params=("sample_size", "dropout", "num_train_timesteps", *EMA_PARAMS),
    newer_names={".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."},
)

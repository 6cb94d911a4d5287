"""The names of openai/guided-diffusion, whose ADM is also that of ilvr_adm, P2-weighting and RePaint.

https://github.com/openai/guided-diffusion, class `UNetModel` (Dhariwal & Nichol 2021, arXiv:2105.05233).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from models.families.family import Family, Shapes, levels
from models.networks.layers import Resample
from models.networks.unet import UNet
from utils.errors import InputError


def network_params(
    in_channels: int,
    model_channels: int,
    out_channels: int,
    num_res_blocks: int,
    attention_resolutions: Sequence[int],
    channel_mult: Sequence[float] = (1, 2, 4, 8),
    conv_resample: bool = True,
    dims: int = 2,
    num_classes: int | None = None,
    num_heads: int = 1,
    num_head_channels: int = -1,
    num_heads_upsample: int = -1,
    use_scale_shift_norm: bool = False,
    resblock_updown: bool = False,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `UNetModel`; raise InputError if `dims` is not 2.

    `attention_resolutions` are downsampling rates.
    """
    if dims != 2:
        raise InputError(f"dims {dims!r} of a UNetModel is not supported (only 2)")
    resample: Resample = "residual" if resblock_updown else "conv" if conv_resample else "plain"

    channels = [int(mult * model_channels) for mult in channel_mult]
    attention = [2**i in attention_resolutions for i in range(len(channels))]
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        **levels(channels, num_res_blocks, attention, resample),
        "stem_channels": channels[0],
        "time_channels": model_channels,
        "time_cos_first": True,
        "time_spread": model_channels // 2,
        "norm_eps": 1e-5,
        "num_heads": num_heads,
        "num_heads_up": num_heads if num_heads_upsample == -1 else num_heads_upsample,
        "head_channels": None if num_head_channels == -1 else num_head_channels,
        "scale_shift_norm": use_scale_shift_norm,
        "num_classes": num_classes,
    }


def heads_first(params: Mapping[str, Any]) -> bool:
    """Return whether it is guided-diffusion's first attention: a head's query, key and value are together."""
    return not params.get("use_new_attention_order", False)


def module_names(unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs: they number blocks and changes of resolution in the order they run.

    On the way down a change of resolution has a number of its own; on the way up it follows the block and the
    attention before it, under their number.
    """
    yield "time_embed.linear_1", "time_embed.0"
    yield "time_embed.linear_2", "time_embed.2"
    yield "class_embed", "label_emb"
    yield "conv_in", "input_blocks.0.0"
    yield "norm_out", "out.0"
    yield "conv_out", "out.2"
    yield "mid.0.res", "middle_block.0"
    yield "mid.0.attn", "middle_block.1"
    yield "mid.1.res", "middle_block.2"
    n = 1
    for i, stage in enumerate(unet.down):
        for j in range(len(stage.blocks)):
            yield f"down.{i}.blocks.{j}.res", f"input_blocks.{n}.0"
            yield f"down.{i}.blocks.{j}.attn", f"input_blocks.{n}.1"
            n += 1
        if stage.resample is not None:
            yield f"down.{i}.resample.conv", f"input_blocks.{n}.0.op"
            yield f"down.{i}.resample", f"input_blocks.{n}.0"
            n += 1
    n = 0
    for i, stage in enumerate(unet.up):
        for j in range(len(stage.blocks)):
            yield f"up.{i}.blocks.{j}.res", f"output_blocks.{n}.0"
            yield f"up.{i}.blocks.{j}.attn", f"output_blocks.{n}.1"
            n += 1
        after = 1 if stage.blocks[-1].attn is None else 2
        yield f"up.{i}.resample", f"output_blocks.{n - 1}.{after}"


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments of `UNetModel` from its parameters' names and shapes.

    The attention's heads do not follow from them, nor, in a network of one level, how resolution changes.
    """
    channels = shapes["time_embed.0.weight"][1]
    numbers = {int(name.split(".")[1]) for name in shapes if name.startswith("input_blocks.")}
    total = max(numbers) + 1  # levels · (blocks + 1)
    upsamplers = sorted(
        (int(name.split(".")[1]), "in_layers" in name)
        for name in shapes
        if re.match(r"output_blocks\.\d+\.[12]\.(conv|in_layers\.0)\.weight", name)
    )
    blocks = upsamplers[0][0] if upsamplers else next((n for n in range(total) if n not in numbers), total) - 1
    firsts = range(1, total, blocks + 1)  # each level's first block
    mults = {n: shapes[f"input_blocks.{n}.0.out_layers.3.weight"][0] / channels for n in firsts}
    first_out = shapes["input_blocks.1.0.out_layers.3.weight"][0]
    derived = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "model_channels": channels,
        "out_channels": shapes["out.2.weight"][0],
        "num_res_blocks": blocks,
        "attention_resolutions": [2**i for i, n in enumerate(mults) if f"input_blocks.{n}.1.qkv.weight" in shapes],
        "channel_mult": [int(mult) if mult.is_integer() else mult for mult in mults.values()],
        "num_classes": shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else None,
        "use_scale_shift_norm": shapes["input_blocks.1.0.emb_layers.1.weight"][0] == 2 * first_out,
    }
    if len(mults) > 1:
        derived["resblock_updown"] = bool(upsamplers) and upsamplers[0][1]
        derived["conv_resample"] = bool(upsamplers)
    if _is_of_consistency_models(shapes):
        derived["use_new_attention_order"] = True
    return derived


def read_diffusion(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the diffusion of openai/consistency_models' networks: EDM's, with 250·ln σ as the timestep value."""
    if not _is_of_consistency_models({name: tensor.shape for name, tensor in tensors.items()}):
        return {}
    return {"preconditioning": "edm_openai", "clip_denoised": True, "total_steps": 1000, "respace_steps": 40}


def _is_of_consistency_models(shapes: Shapes) -> bool:
    """Return whether attention's queries, keys and values come from a 2-D convolution, as only there."""
    return any(name.endswith(".qkv.weight") and len(shape) == 4 for name, shape in shapes.items())


FAMILY = Family(
    mark=r"input_blocks\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names={
        "norm_1": "in_layers.0",
        "conv_1": "in_layers.2",
        "emb": "emb_layers.1",
        "norm_2": "out_layers.0",
        "conv_2": "out_layers.3",
        "skip": "skip_connection",
        "out": "proj_out",
    },
    derive=derive,
    read_diffusion=read_diffusion,
    hidden_params={
        "num_head_channels|num_heads": "num_head_channels 64, or num_heads 1 or 4",
        "use_new_attention_order": "false; true in ADM's ImageNet 64 and 128",
    },
    alternatives=(
        *({"num_head_channels": width} for width in (32, 64)),
        *({"num_head_channels": -1, "num_heads": heads} for heads in (1, 4, 8)),
        *({"use_new_attention_order": new} for new in (False, True)),
    ),
    # the last of these says how the attention's weights are ordered, see `heads_first`
    ignored_params=("image_size", "dropout", "use_checkpoint", "use_fp16", "use_new_attention_order"),
    heads_first=heads_first,
)

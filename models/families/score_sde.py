"""The names of yang-song/score_sde_pytorch: its DDPM, and its NCSN++ as far as that is a DDPM++.

https://github.com/yang-song/score_sde_pytorch, classes `DDPM` and `NCSNpp` (Song et al. 2021, arXiv:2011.13456). All
modules are in one list, in the order in which they run.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from models.families.family import Family, Shapes, levels
from models.networks.layers import Resample
from models.networks.unet import UNet
from utils.errors import InputError

# the options that make `NCSNpp` a DDPM++; all but the filter follow from the parameters
DDPMPP = {
    "fir": False,
    "skip_rescale": True,
    "resblock_type": "biggan",
    "progressive": "none",
    "progressive_input": "none",
    "embedding_type": "positional",
    "conditional": True,
    "scale_by_sigma": False,
    "resamp_with_conv": True,
}


def ddpm_params(
    image_size: int,
    nf: int,
    ch_mult: Sequence[int],
    num_res_blocks: int,
    attn_resolutions: Sequence[int],
    resamp_with_conv: bool = True,
    num_channels: int = 3,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `DDPM`."""
    return {
        "in_channels": num_channels,
        "out_channels": num_channels,
        **_levels(image_size, nf, ch_mult, num_res_blocks, attn_resolutions, "conv" if resamp_with_conv else "plain"),
        "stem_channels": nf,
        "time_channels": nf,
        "time_cos_first": False,
        "time_spread": nf // 2 - 1,
        "asymmetric_padding": True,
        "norm_eps": 1e-6,
    }


def ncsnpp_params(
    image_size: int,
    nf: int,
    ch_mult: Sequence[int],
    num_res_blocks: int,
    attn_resolutions: Sequence[int],
    num_channels: int = 3,
    **options: Any,
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `NCSNpp`; raise InputError for an option that DDPM++ does not have."""
    for name, value in options.items():
        if name not in DDPMPP or value != DDPMPP[name]:
            only = f" (only {DDPMPP[name]!r})" if name in DDPMPP else ""
            raise InputError(f"{name} {value!r} of an NCSNpp is not supported{only}")
    sizes = image_size, nf, ch_mult, num_res_blocks, attn_resolutions
    return {
        **ddpm_params(*sizes, num_channels=num_channels),
        **_levels(*sizes, "residual"),
        "asymmetric_padding": False,
        "min_group_channels": 4,
        "mid_attention_groups": min(32, nf * ch_mult[-1] // 4),
        "residual_scale": math.sqrt(0.5),
        "resample_skip_conv": True,
    }


def _levels(
    image_size: int, nf: int, mults: Sequence[int], blocks: int, resolutions: Sequence[int], resample: Resample
) -> dict[str, Any]:
    attends = [image_size // 2**i in resolutions for i in range(len(mults))]
    return levels([nf * mult for mult in mults], blocks, attends, resample, [each and "last" for each in attends])


def module_names(unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and the numbers of theirs."""
    ours = ["time_embed.linear_1", "time_embed.linear_2", "conv_in", *_in_order(unet), "norm_out", "conv_out"]
    for number, name in enumerate(ours):
        if name.endswith(".resample"):
            yield f"{name}.conv", f"all_modules.{number}.Conv_0"
        yield name, f"all_modules.{number}"


def _in_order(unet: UNet) -> Iterator[str]:
    """Yield blocks, attentions and changes of resolution as they run."""
    places = [(f"down.{i}.blocks", stage.blocks, stage.resample) for i, stage in enumerate(unet.down)]
    places += [("mid", unet.mid, None)]
    places += [(f"up.{i}.blocks", stage.blocks, stage.resample) for i, stage in enumerate(unet.up)]
    for place, blocks, change in places:
        for i, block in enumerate(blocks):
            yield f"{place}.{i}.res"
            if block.attn is not None:
                yield f"{place}.{i}.attn"
        if change is not None:
            yield place.removesuffix("blocks") + "resample"


def derive(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    """Derive the arguments from names and shapes: all, once the images' size is known."""
    nf = shapes["all_modules.2.weight"][0]
    last = max(int(name.split(".")[1]) for name in shapes if name.startswith("all_modules."))
    kinds = [_kind(shapes, n) for n in range(3, last - 1)]
    depth = kinds.count("resample") // 2 + 1
    blocks = kinds[: kinds.index("resample")].count("res") if depth > 1 else (kinds.count("res") - 3) // 2
    mults, attends, n = [], [], 3
    for _ in range(depth):
        mults.append(shapes[f"all_modules.{n}.Conv_1.weight"][0] // nf)
        attends.append(_kind(shapes, n + 1) == "attn")
        n += blocks * (2 if attends[-1] else 1) + 1
    derived = {
        "nf": nf,
        "ch_mult": mults,
        "num_res_blocks": blocks,
        "num_channels": shapes["all_modules.2.weight"][1],
    }
    if depth > 1 and not NCSNPP.matches(shapes):
        derived["resamp_with_conv"] = f"all_modules.{3 + kinds.index('resample')}.Conv_0.weight" in shapes
    if image_size is not None:
        resolutions = [image_size // 2**i for i, attention in enumerate(attends) if attention]
        derived |= {"image_size": image_size, "attn_resolutions": resolutions}
    return derived


def _kind(shapes: Shapes, n: int) -> str:
    """Return what module n is: attention, a residual block, or a change of resolution, perhaps without parameters."""
    module = f"all_modules.{n}"
    if f"{module}.NIN_3.weight" in shapes:
        return "attn"
    if f"{module}.Conv_1.weight" not in shapes:
        return "resample"
    keeps = shapes[f"{module}.GroupNorm_0.weight"] == shapes[f"{module}.GroupNorm_1.weight"]
    return "resample" if keeps and f"{module}.Conv_2.weight" in shapes else "res"


def adapt(name: str, tensor: Tensor) -> Tensor:
    """Transpose their 1×1 convolutions ("network in network"), which have the inputs first."""
    return tensor.T[:, :, None, None] if ".NIN_" in name and name.endswith(".weight") else tensor


_LEAVES: dict[str, str | tuple[str, ...]] = {
    "norm_1": "GroupNorm_0",
    "conv_1": "Conv_0",
    "emb": "Dense_0",
    "norm_2": "GroupNorm_1",
    "conv_2": "Conv_1",
    "norm": "GroupNorm_0",
    "qkv": ("NIN_0", "NIN_1", "NIN_2"),
    "out": "NIN_3",
}
_NEWER = {f"NIN_{i}.{old}": f"NIN_{i}.{new}" for i in range(4) for old, new in (("W", "weight"), ("b", "bias"))}

DDPM = Family(
    mark=r"all_modules\.",
    network_params=ddpm_params,
    module_names=module_names,
    leaf_names=_LEAVES | {"skip": "NIN_0"},
    derive=derive,
    ignored_params=("dropout",),
    newer_names=_NEWER,
    unused="^sigmas$",
    diffusion={"total_steps": 1000, "beta_schedule": "linear", "objective": "pred_eps"},  # of its VP process
    adapt=adapt,
)

NCSNPP = replace(
    DDPM,
    mark=r"all_modules\.\d+\.Conv_2\.",
    network_params=ncsnpp_params,
    leaf_names=_LEAVES | {"skip": "Conv_2"},
)

"""The names of NVlabs/edm, whose files are pickles of whole networks: Song et al.'s DDPM++ and NCSN++, and ADM.

https://github.com/NVlabs/edm, classes `SongUNet` and `DhariwalUNet` (Karras et al. 2022, arXiv:2206.00364).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch import Tensor

from models.families.family import Family, levels
from models.networks.unet import UNet
from utils.errors import InputError

Attends = Literal["last"] | bool


class EDMUNet(UNet):
    """The UNet, and the image size that its levels are named after."""

    def __init__(self, img_resolution: int, **params: Any) -> None:
        super().__init__(**params)
        self.img_resolution = img_resolution


def network_params(model_type: str, **params: Any) -> dict[str, Any]:
    """Return the UNet's parameters from those of the class `model_type`; raise InputError if it is not supported."""
    if model_type not in NETWORK_CLASSES:
        raise InputError(
            f"model_type of an EDM network must be one of {', '.join(NETWORK_CLASSES)}, not {model_type!r}"
        )
    return NETWORK_CLASSES[model_type](**params)


def song_params(
    img_resolution: int,
    in_channels: int,
    out_channels: int,
    label_dim: int = 0,
    model_channels: int = 128,
    channel_mult: Sequence[int] = (1, 2, 2, 2),
    channel_mult_emb: int = 4,
    num_blocks: int = 4,
    attn_resolutions: Sequence[int] = (16,),
    embedding_type: str = "positional",
    channel_mult_noise: int = 1,
    encoder_type: str = "standard",
    decoder_type: str = "standard",
    resample_filter: Sequence[int] = (1, 1),
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `SongUNet`; raise InputError for an option that is not supported."""
    for name, value, known in (
        ("embedding_type", embedding_type, ("positional", "fourier")),
        ("encoder_type", encoder_type, ("standard", "residual")),
        ("decoder_type", decoder_type, ("standard",)),
        ("resample_filter", list(resample_filter), ([1, 1], [1, 3, 3, 1])),
    ):
        if value not in known:
            raise InputError(f"{name} {value!r} of a SongUNet is not supported (only {', '.join(map(str, known))})")
    time_channels = model_channels * channel_mult_noise
    channels = [model_channels * mult for mult in channel_mult]
    return {
        **_levels(img_resolution, channels, num_blocks, attn_resolutions, "last"),
        "in_channels": in_channels,
        "out_channels": out_channels,
        "stem_channels": model_channels,
        "time_channels": time_channels,
        "time_cos_first": False,
        "time_spread": None if embedding_type == "fourier" else time_channels // 2 - 1,
        "emb_channels": model_channels * channel_mult_emb,
        "num_classes": label_dim or None,
        "class_shifts_time": True,
        "norm_eps": 1e-6,
        "residual_scale": math.sqrt(0.5),
        "resample_skip_conv": True,
        "smooth_resample": len(resample_filter) == 4,
        "input_pyramid": encoder_type == "residual",
    }


def dhariwal_params(
    img_resolution: int,
    in_channels: int,
    out_channels: int,
    label_dim: int = 0,
    model_channels: int = 192,
    channel_mult: Sequence[int] = (1, 2, 3, 4),
    channel_mult_emb: int = 4,
    num_blocks: int = 3,
    attn_resolutions: Sequence[int] = (32, 16, 8),
) -> dict[str, Any]:
    """Return the UNet's parameters from those of `DhariwalUNet`."""
    channels = [model_channels * mult for mult in channel_mult]
    return {
        **_levels(img_resolution, channels, num_blocks, attn_resolutions, True),
        "in_channels": in_channels,
        "out_channels": out_channels,
        "stem_channels": channels[0],
        "time_channels": model_channels,
        "time_cos_first": True,
        "time_spread": model_channels // 2,
        "emb_channels": model_channels * channel_mult_emb,
        "num_classes": label_dim or None,
        "norm_eps": 1e-5,
        "head_channels": 64,
        "scale_shift_norm": True,
    }


def _levels(
    img_resolution: int, channels: Sequence[int], num_blocks: int, attn_resolutions: Sequence[int], attends_up: Attends
) -> dict[str, Any]:
    """Return what both classes share. On the way up, attention follows every block of a level or its last."""
    attends = [img_resolution >> i in attn_resolutions for i in range(len(channels))]
    return {
        "img_resolution": img_resolution,
        **levels(channels, num_blocks, attends, "residual", [each and attends_up for each in attends]),
        "min_group_channels": 4,
        "mid_attention_groups": min(32, channels[-1] // 4),
    }


NETWORK_CLASSES = {"SongUNet": song_params, "DhariwalUNet": dhariwal_params}


def module_names(unet: EDMUNet) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs: they name a level by its resolution, and a change of resolution by the new one."""
    resolutions = [unet.img_resolution >> i for i in range(len(unet.down) + 1)]
    size = [f"{resolution}x{resolution}" for resolution in resolutions]
    yield "time_embed.linear_1", "map_layer0"
    yield "time_embed.linear_2", "map_layer1"
    yield "time_embed", "map_noise"
    yield "class_embed", "map_label"
    yield "conv_in", f"enc.{size[0]}_conv"
    for i, stage in enumerate(unet.down):
        for j in range(len(stage.blocks)):
            yield f"down.{i}.blocks.{j}.res", f"enc.{size[i]}_block{j}"
            yield f"down.{i}.blocks.{j}.attn", f"enc.{size[i]}_block{j}"
        yield f"down.{i}.resample", f"enc.{size[i + 1]}_down"
        yield f"down.{i}.pyramid.conv", f"enc.{size[i + 1]}_aux_residual"
    last = len(unet.down) - 1
    yield "mid.0.res", f"dec.{size[last]}_in0"
    yield "mid.0.attn", f"dec.{size[last]}_in0"
    yield "mid.1.res", f"dec.{size[last]}_in1"
    for i, stage in enumerate(unet.up):
        for j in range(len(stage.blocks)):
            yield f"up.{i}.blocks.{j}.res", f"dec.{size[last - i]}_block{j}"
            yield f"up.{i}.blocks.{j}.attn", f"dec.{size[last - i]}_block{j}"
        yield f"up.{i}.resample", f"dec.{size[last - i - 1]}_up"
    song = unet.class_shifts_time
    yield "norm_out", f"dec.{size[0]}_aux_norm" if song else "out_norm"
    yield "conv_out", f"dec.{size[0]}_aux_conv" if song else "out_conv"


def adapt(name: str, tensor: Tensor) -> Tensor:
    """Reorder tensors: theirs have a column per class, ours a row; theirs have q, k, v of a channel together."""
    if name == "map_label.weight":
        return tensor.T
    return tensor.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1) if ".qkv." in name else tensor


FAMILY = Family(
    mark=r"map_layer0\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names={
        "norm_1": "norm0",
        "conv_1": "conv0",
        "emb": "affine",
        "norm_2": "norm1",
        "conv_2": "conv1",
        "norm": "norm2",
        "out": "proj",
    },
    # training passes an augmentation of its images to the network; samples are drawn without
    ignored_params=("augment_dim", "dropout", "label_dropout", "use_fp16", "epsilon_t"),
    unused=r"^map_augment\.|\.resample_filter$",
    adapt=adapt,
    null_class=True,
    network=EDMUNet,
)

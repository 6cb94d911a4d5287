"""The names of diffusers' autoencoders, `VQModel` and `AutoencoderKL`.

https://github.com/huggingface/diffusers
"""

from collections.abc import Iterator, Sequence
from typing import Any

from models.families import diffusers
from models.families.family import Family, autoencoder_names, levels
from models.networks.autoencoder import Autoencoder
from utils.errors import InputError

# block type: has attention
BLOCK_TYPES = {
    "DownEncoderBlock2D": False,
    "UpDecoderBlock2D": False,
    "AttnDownEncoderBlock2D": True,
    "AttnUpDecoderBlock2D": True,
}

# settings that this autoencoder does not have: only these values are supported
SUPPORTED_VALUES: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "norm_type": ("group",),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "shift_factor": (None,),
    "latents_mean": (None,),
    "latents_std": (None,),
    "down_block_types": tuple(name for name in BLOCK_TYPES if "Down" in name),
    "up_block_types": tuple(name for name in BLOCK_TYPES if "Up" in name),
}


def network_params(
    in_channels: int = 3,
    out_channels: int = 3,
    down_block_types: Sequence[str] = ("DownEncoderBlock2D",),
    up_block_types: Sequence[str] = ("UpDecoderBlock2D",),
    block_out_channels: Sequence[int] = (64,),
    layers_per_block: int = 1,
    latent_channels: int | None = None,
    norm_num_groups: int = 32,
    num_vq_embeddings: int | None = None,
    vq_embed_dim: int | None = None,
    mid_block_add_attention: bool = True,
    scaling_factor: float | None = None,
    **fixed: Any,
) -> dict[str, Any]:
    """Return the autoencoder's parameters from those of config.json: of a `VQModel` where it has `num_vq_embeddings`.

    A `VQModel` without `scaling_factor` is from before there was one, when its latents were taken as they are; today's
    diffusers would shrink them (huggingface/diffusers issue 6725).

    Raises:
        InputError: a block or a setting that is not supported.
    """
    stated = fixed | {"down_block_types": down_block_types, "up_block_types": up_block_types}
    diffusers.refuse_unsupported(stated, SUPPORTED_VALUES, "VQModel" if num_vq_embeddings else "AutoencoderKL")
    if not len(block_out_channels) == len(down_block_types) == len(up_block_types):
        raise InputError("block_out_channels, down_block_types and up_block_types must have the same length")
    if in_channels != out_channels:
        raise InputError("in_channels and out_channels must be the same")
    channels = latent_channels or (3 if num_vq_embeddings else 4)
    if scaling_factor is None:
        scaling_factor = 1.0 if num_vq_embeddings else 0.18215
    attention, attention_up = ([BLOCK_TYPES[kind] for kind in kinds] for kinds in (down_block_types, up_block_types))
    return {
        "image_channels": in_channels,
        "latent_channels": vq_embed_dim or channels,
        "coder_channels": channels,
        **levels(block_out_channels, layers_per_block, attention, "conv", attention_up[::-1]),
        "num_embeddings": num_vq_embeddings,
        "mid_attention": mid_block_add_attention,
        "num_groups": norm_num_groups,
        "scale": scaling_factor,
    }


def module_names(autoencoder: Autoencoder) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs."""
    yield from autoencoder_names(autoencoder, diffusers.module_names)


FAMILY = Family(
    mark=r"encoder\.down_blocks\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names=diffusers.FAMILY.leaf_names,
    ignored_params=("sample_size", "force_upcast", "lookup_from_codebook"),
    newer_names=diffusers.FAMILY.newer_names,
    network=Autoencoder,
)

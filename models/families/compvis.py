"""The names of CompVis/latent-diffusion for its first stage: `VQModelInterface` and `AutoencoderKL`.

https://github.com/CompVis/latent-diffusion (Rombach et al. 2022, arXiv:2112.10752). Its encoder and decoder are the
halves of pesser's `Model`.
"""

from collections.abc import Iterator
from typing import Any

from models.families import pesser
from models.families.family import Family, autoencoder_names, check_params
from models.networks.autoencoder import Autoencoder
from utils.errors import InputError


def network_params(
    ddconfig: dict, embed_dim: int, n_embed: int | None = None, scale_factor: float = 1.0
) -> dict[str, Any]:
    """Return the autoencoder's parameters from those of `first_stage_config`; raise InputError if `ddconfig` fits none.

    `n_embed` is there for a codebook only.
    """
    coder = {name: value for name, value in ddconfig.items() if name not in pesser.FAMILY.ignored_params}
    channels, double_z = coder.pop("z_channels"), coder.pop("double_z", True)
    if double_z == bool(n_embed):
        raise InputError("double_z must be false of a VQModelInterface, which has n_embed, else true")
    check_params(pesser.network_params, coder, "ddconfig")
    halves = pesser.network_params(**coder)
    if halves["in_channels"] != halves["out_channels"]:
        raise InputError("in_channels and out_ch must be the same")
    return {
        "image_channels": halves["in_channels"],
        "latent_channels": embed_dim,
        "coder_channels": channels,
        "down": halves["down"],
        "up": halves["up"],
        "num_embeddings": n_embed,
        "scale": scale_factor,
    }


def module_names(autoencoder: Autoencoder) -> Iterator[tuple[str, str]]:
    """Yield our modules and theirs."""
    yield from autoencoder_names(autoencoder, pesser.module_names)


FAMILY = Family(
    mark=r"encoder\.down\.",
    network_params=network_params,
    module_names=module_names,
    leaf_names=pesser.FAMILY.leaf_names,
    ignored_params=("monitor", "lossconfig", "ckpt_path", "ignore_keys", "image_key", "colorize_nlabels"),
    network=Autoencoder,
)

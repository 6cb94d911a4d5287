"""A network before its first training, and as the folder it is published in."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints import DIALECTS, build_unet
from models.unet import UNet
from utils.config import Config, Network
from utils.diffusers_folder import write_diffusers_folder


def new_unet(network: Network) -> UNet:
    """The network a config describes, on the CPU, with PyTorch's own random parameters.

    Raises:
        InputError: as `build_unet`.
    """
    unet = build_unet(network).to_empty(device="cpu")
    for module in unet.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.Embedding)):
            module.reset_parameters()
    return unet


def save_diffusers(unet: UNet, config: Config, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a network as the folder that `load_model` and diffusers read.

    Args:
        unet: the network.
        config: what it was built from, in the words of diffusers.
        folder: made if need be.
        dtype: of the parameters in the file.
    """
    names = DIALECTS["diffusers"].names(unet)
    state: dict[str, Tensor] = {}
    for name, parameter in unet.state_dict().items():
        parts = parameter.to("cpu", dtype).chunk(len(names[name]))
        state |= {theirs: part.contiguous() for theirs, part in zip(names[name], parts, strict=True)}
    write_diffusers_folder(folder, config.params, config.diffusion)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")

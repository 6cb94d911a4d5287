"""A network before its first training, and as the folder it is published in."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints import build_network
from models.config import Architecture, Config
from models.diffusers_folder import write_diffusers_folder
from models.families import FAMILIES
from models.network import Network


def new_network(architecture: Architecture) -> Network:
    """The network a config describes, on the CPU, with PyTorch's own random parameters.

    Raises:
        InputError: as `build_network`.
    """
    network = build_network(architecture).to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.Embedding)):
            module.reset_parameters()
    return network


def save_diffusers(network: Network, config: Config, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a network as the folder that `load_model` and diffusers read.

    Args:
        network: a UNet.
        config: what it was built from, in the words of diffusers.
        folder: made if need be.
        dtype: of the parameters in the file.
    """
    names = FAMILIES["diffusers"].names(network)
    state: dict[str, Tensor] = {}
    for name, parameter in network.state_dict().items():
        parts = parameter.to("cpu", dtype).chunk(len(names[name]))
        state |= {theirs: part.contiguous() for theirs, part in zip(names[name], parts, strict=True)}
    write_diffusers_folder(folder, config.params, config.diffusion)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")

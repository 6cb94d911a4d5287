"""A whole checkpoint: a network, the diffusion it was trained on, and its images; loaded, or made anew."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diffusions.process import Process
from models.conversion import build_network, convert
from models.files.checkpoint import SCALE, Checkpoint, architecture_for, config_for, open_checkpoint
from models.files.config import Architecture, Config
from models.networks.autoencoder import Autoencoder
from models.networks.network import Network
from models.networks.tiles import code_in_windows
from utils.errors import InputError


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint, called like its network. What a latent one draws has to be decoded.

    Attributes:
        network: in eval mode.
        process: the diffusion that the network was trained on.
        image_size: of the images it was trained on, in pixels per side.
        channels: of its images: 3 for colour, 1 for grey, or any other number.
        autoencoder: between images and the latents that the network works on; None where it works on pixels.
        notes: what was chosen in loading it, one line each, for the user to know.
    """

    network: Network
    process: Process
    image_size: int
    channels: int
    autoencoder: Autoencoder | None = None
    notes: tuple[str, ...] = ()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Call the network: x [B, C, H, W], t [B] to [B, C or 2C, H, W]."""
        return self.network(x, t)

    @property
    def factor(self) -> int:
        """Image pixels per latent along an axis, f; 1 without an autoencoder."""
        return self.autoencoder.factor if self.autoencoder else 1

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape of what the network works on for one image: [C', H/f, W/f]."""
        size = self.image_size // self.factor
        return self.autoencoder.latent_channels if self.autoencoder else self.channels, size, size

    def encode(self, images: Tensor) -> Tensor:
        """Encode images [B, C, H, W] in [-1, 1] as what the network works on, [B, C', H/f, W/f]."""
        if self.autoencoder is None:
            return images
        return code_in_windows(self.autoencoder.encode, images, (self.image_size, self.image_size), self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode [B, C', H/f, W/f] to images [B, C, H, W], in about [-1, 1]."""
        if self.autoencoder is None:
            return latents
        return code_in_windows(self.autoencoder.decode, latents, self.latent_shape[1:])


def load_model(
    weights: str | Path | Checkpoint,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    raw_weights: bool = False,
) -> Model:
    """Load a checkpoint, ready to sample.

    Args:
        weights: a checkpoint file, a diffusers folder, a hub id, or a checkpoint that is open.
        config: a YAML file, or the same as a dict; None where the weights say it all (a diffusers folder).
        raw_weights: take the last weights of training rather than their average, unless the checkpoint is open.

    Returns:
        The model, its network in eval mode, float32, on the CPU.

    Raises:
        InputError: a config or weights that cannot be read or do not fit each other.
    """
    checkpoint = weights if isinstance(weights, Checkpoint) else open_checkpoint(weights, raw_weights)
    config, source = config_for(checkpoint, config), str(checkpoint.path)
    process = config.make_process()
    network: Network = _load(config, checkpoint.tensors, source)
    autoencoder, described = None, config.autoencoder
    if described:
        state = dict(checkpoint.autoencoder)
        if not state:
            raise InputError(f"weights {source}: hold no autoencoder, which {described.source} describes")
        if SCALE in state:
            described = replace(described, params={**described.params, SCALE: state.pop(SCALE).tolist()})
        autoencoder = _load(described, state, source)
    notes = tuple(filter(None, [config.note, checkpoint.note]))
    model = Model(network, process, config.image_size, config.image_channels, autoencoder, notes)

    channels, multiple = model.latent_shape[0], network.size_multiple * model.factor
    if autoencoder and autoencoder.image_channels != model.channels:
        maps = f"the autoencoder takes images of {autoencoder.image_channels} channels"
        raise InputError(f"{config.source}: image_channels is {model.channels}, but {maps}")
    if network.in_channels != channels or network.out_channels not in (channels, 2 * channels):
        shape = f"{network.in_channels} to {network.out_channels}"
        wanted = "the autoencoder has latents of" if autoencoder else "image_channels is"
        raise InputError(f"{config.source}: {wanted} {channels}, but the model maps {shape} channels")
    if model.image_size % multiple:
        fault = f"image_size is {model.image_size}, but the model only takes multiples of {multiple}"
        raise InputError(f"{config.source}: {fault}")
    return model


def load_network(
    weights: str | Path | Checkpoint,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    raw_weights: bool = False,
) -> Network:
    """Load a checkpoint's network alone, as `load_model` does; a folder need not state its diffusion."""
    checkpoint = weights if isinstance(weights, Checkpoint) else open_checkpoint(weights, raw_weights)
    return _load(architecture_for(checkpoint, config), checkpoint.tensors, str(checkpoint.path))


def _load(architecture: Architecture, state: Mapping[str, Tensor], source: str) -> Any:
    """Return the network, or the autoencoder, with its parameters."""
    network = build_network(architecture)
    network.load_state_dict(convert(state, network, architecture, source), assign=True)
    return network.eval()


def new_network(architecture: Architecture) -> Network:
    """Build the network that a config describes, on the CPU, with PyTorch's own random parameters."""
    network = build_network(architecture).to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.Embedding)):
            module.reset_parameters()
    return network

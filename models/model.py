"""What a checkpoint is, whole: a network, what it was trained on, and the images it draws."""

from dataclasses import dataclass

from torch import Tensor

from diffusions import Process
from models.network import Network


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint, called like its network.

    Attributes:
        network: in eval mode.
        process: the diffusion that the network was trained on.
        image_size: of the images it was trained on, in pixels per side.
        channels: 3 for colour, 1 for grey.
        notes: what was chosen on the way, a line each, for whoever runs it to know.
    """

    network: Network
    process: Process
    image_size: int
    channels: int
    notes: tuple[str, ...] = ()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x [B, C, H, W], t [B] → [B, C or 2C, H, W]."""
        return self.network(x, t)

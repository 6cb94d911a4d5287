"""What a checkpoint is, whole: a network, what it was trained on, and the images it draws."""

from dataclasses import dataclass

from torch import Tensor

from diffusions.process import Process
from models.autoencoder import Autoencoder
from models.network import Network
from models.tiles import code_in_windows


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint, called like its network. What a latent one draws is to be decoded.

    Attributes:
        network: in eval mode.
        process: the diffusion that the network was trained on.
        image_size: of the images it was trained on, in pixels per side.
        channels: 3 for colour, 1 for grey.
        autoencoder: between images and the latents that the network works on; None where it works on pixels.
        undescribed: there is an autoencoder, but the config does not say how it is built: what is drawn stays latents.
        notes: what was chosen in loading it, one line each, for the user to know.
    """

    network: Network
    process: Process
    image_size: int
    channels: int
    autoencoder: Autoencoder | None = None
    undescribed: bool = False
    notes: tuple[str, ...] = ()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x [B, C, H, W], t [B] → [B, C or 2C, H, W]."""
        return self.network(x, t)

    @property
    def factor(self) -> int:
        """f, image pixels per latent along an axis; 1 without an autoencoder."""
        return self.autoencoder.factor if self.autoencoder else 1

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of what the network works on for one image: [C', H/f, W/f]."""
        size = self.image_size // self.factor
        return self.autoencoder.latent_channels if self.autoencoder else self.channels, size, size

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] → what the network works on, [B, C', H/f, W/f]."""
        if self.autoencoder is None:
            return images
        return code_in_windows(self.autoencoder.encode, images, (self.image_size, self.image_size), self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        """The way back: [B, C', H/f, W/f] → images [B, C, H, W], in about [-1, 1]."""
        if self.autoencoder is None:
            return latents
        return code_in_windows(self.autoencoder.decode, latents, self.latent_shape[1:])

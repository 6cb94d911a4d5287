"""The autoencoder around a latent diffusion model: images to small latents and back (Rombach et al. 2022).

Encoder and decoder are the UNet's two halves without time embedding and skip connections. The latents are regularised
by a codebook (VQ) or by a Gaussian prior (KL): arXiv:2112.10752, section 3.1.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import Attention, Block, ResBlock, Style
from models.networks.unet import Level, build_stages

PIXELS_AT_ONCE = 1024  # their distances to all entries of a codebook are in memory together: 32 MiB for 8192 entries


class Autoencoder(nn.Module):
    """Images [B, C, H, W] to latents [B, C', H/f, W/f] and back, one image at a time.

    A batch that fits the diffusion network may be too large for the decoder, whose images are f² times as large.

    Args:
        image_channels: C.
        latent_channels: C'.
        coder_channels: between encoder or decoder and their 1×1 convolutions.
        down: the encoder's levels from the full resolution down; the last has no `resample`.
        up: the decoder's, from the lowest resolution up.
        num_embeddings: entries of the codebook; None for a KL autoencoder.
        mid_attention: attention between the two blocks at the bottom.
        num_groups: of all group normalisations.
        scale: what the latents are multiplied by for the diffusion network.

    Raises:
        ValueError: channels that cannot be divided among the groups, too many blocks or none, or a scale that
            is not above 0.
    """

    def __init__(
        self,
        image_channels: int,
        latent_channels: int,
        coder_channels: int,
        down: Sequence[Level],
        up: Sequence[Level],
        num_embeddings: int | None,
        mid_attention: bool = True,
        num_groups: int = 32,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be above 0, not {scale}")
        self.image_channels = image_channels
        self.latent_channels = latent_channels
        self.factor = 2 ** sum(level.resample is not None for level in down)
        self.scale = scale
        moments = 1 if num_embeddings else 2  # the latents, or their mean and log variance
        style = Style(emb_channels=0, num_groups=num_groups, asymmetric_padding=True)
        self.encoder = Coder(style, mid_attention, image_channels, moments * coder_channels, down, ())
        self.quant_conv = nn.Conv2d(moments * coder_channels, moments * latent_channels, 1)
        self.codebook = nn.Embedding(num_embeddings, latent_channels) if num_embeddings else None
        self.post_quant_conv = nn.Conv2d(latent_channels, coder_channels, 1)
        self.decoder = Coder(style, mid_attention, coder_channels, image_channels, (), up)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images [B, C, H, W] in [-1, 1] as latents before the codebook, or their mean: [B, C', H/f, W/f]."""
        moments = torch.cat([self.quant_conv(self.encoder(image)) for image in images.split(1)])
        return self.scale * moments[:, : self.latent_channels]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C', H/f, W/f] to images [B, C, H, W], which may leave [-1, 1] a little."""
        images = []
        for one in (latents / self.scale).split(1):
            if self.codebook is not None:
                one = nearest_entries(one, self.codebook.weight)
            images.append(self.decoder(self.post_quant_conv(one)))
        return torch.cat(images)


def nearest_entries(latents: Tensor, entries: Tensor) -> Tensor:
    """Replace each pixel of [B, C, H, W] by the nearest of a codebook's entries [N, C] (van den Oord et al. 2017)."""
    pixels = latents.movedim(1, -1)
    half_norms = entries.square().sum(1) / 2  # |p - e|² = |p|² + 2 (|e|²/2 - p·e)
    nearest = [
        torch.addmm(half_norms, some, entries.T, alpha=-1).argmin(1)
        for some in pixels.flatten(0, 2).split(PIXELS_AT_ONCE)
    ]
    return entries[torch.cat(nearest)].view(pixels.shape).movedim(-1, 1)


class Coder(nn.Module):
    """An encoder, whose levels lead down and `up` is empty, or a decoder, whose levels lead up: C to C' channels."""

    def __init__(
        self,
        style: Style,
        mid_attention: bool,
        in_channels: int,
        out_channels: int,
        down: Sequence[Level],
        up: Sequence[Level],
    ) -> None:
        super().__init__()
        bottom = down[-1].channels if down else up[0].channels
        top = down[0].channels if down else bottom
        self.conv_in = nn.Conv2d(in_channels, top, 3, padding=1)
        self.down = nn.Sequential(*build_stages(down, "down", top, 1, style))
        attention = Attention(bottom, 1, style) if mid_attention else None
        blocks = [Block(ResBlock(bottom, bottom, style), attention), Block(ResBlock(bottom, bottom, style))]
        self.mid = nn.Sequential(*blocks)
        self.up = nn.Sequential(*build_stages(up, "up", bottom, 1, style))
        channels = up[-1].channels if up else bottom
        self.norm_out = style.norm(channels)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H', W']."""
        x = self.up(self.mid(self.down(self.conv_in(x.to(self.conv_in.weight.dtype)))))
        return self.conv_out(F.silu(self.norm_out(x), inplace=True))

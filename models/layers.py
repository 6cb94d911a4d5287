"""The parts of the UNet: time embedding, residual block, attention, and changes of resolution."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resample = Literal["conv", "residual", "plain"]
Direction = Literal["down", "up"]


class TimestepEmbedding(nn.Module):
    """Sinusoids of the timestep (Vaswani et al. 2017), then a two-layer perceptron.

    Args:
        channels: sinusoids, half of them sines.
        out_channels: width of the perceptron and of its result.
        cos_first: cosines before sines.
        spread: the frequencies fall from 1 to 10000^-(k/spread) at k = channels/2 - 1; channels/2 - 1 lets
            them reach 1/10000, channels/2 stops just before.
    """

    def __init__(self, channels: int, out_channels: int, cos_first: bool, spread: int) -> None:
        super().__init__()
        self.channels = channels
        self.cos_first = cos_first
        self.spread = spread
        self.linear_1 = nn.Linear(channels, out_channels)
        self.linear_2 = nn.Linear(out_channels, out_channels)

    def forward(self, t: Tensor) -> Tensor:
        """t [B] → [B, out_channels]."""
        exponents = torch.arange(self.channels // 2, dtype=torch.float32, device=t.device) / self.spread
        angles = t[:, None].float() * torch.exp(-math.log(10000) * exponents)
        waves = (angles.cos(), angles.sin()) if self.cos_first else (angles.sin(), angles.cos())
        embedding = F.pad(torch.cat(waves, dim=1), (0, self.channels % 2))
        return self.linear_2(F.silu(self.linear_1(embedding.to(self.linear_1.weight.dtype))))


class ResBlock(nn.Module):
    """Two normalised convolutions around the time embedding, plus the input.

    Args:
        in_channels, out_channels: C and C'; where they differ, a 1×1 convolution carries the input over.
        emb_channels: E, the width of the embedding.
        num_groups, norm_eps: of the group normalisations.
        scale_shift_norm: the embedding scales and shifts the second normalisation (Dhariwal & Nichol 2021)
            rather than being added before it.
        resample: halve ("down") or double ("up") the resolution inside the block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        num_groups: int,
        norm_eps: float,
        scale_shift_norm: bool,
        resample: Direction | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift_norm = scale_shift_norm
        self.resample = resample
        self.norm_1 = nn.GroupNorm(num_groups, in_channels, norm_eps)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.emb = nn.Linear(emb_channels, out_channels * (2 if scale_shift_norm else 1))
        self.norm_2 = nn.GroupNorm(num_groups, out_channels, norm_eps)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x [B, C, H, W], emb [B, E] (already through its activation) → [B, C', H', W']."""
        h = F.silu(self.norm_1(x), inplace=True)
        if self.resample is not None:
            h, x = plain_resample(h, self.resample), plain_resample(x, self.resample)
        h = self.conv_1(h)
        emb = self.emb(emb)[:, :, None, None]
        if self.scale_shift_norm:
            scale, shift = emb.chunk(2, dim=1)
            h = self.norm_2(h).mul_(1 + scale).add_(shift)
        else:
            h = self.norm_2(h.add_(emb))
        return self.conv_2(F.silu(h, inplace=True)).add_(self.skip(x))


class Attention(nn.Module):
    """Multi-head self-attention over the pixels, plus the input.

    `qkv` holds the queries', keys' and values' weights one after the other, each head after head.
    Without `num_groups` the input is not normalised.
    """

    def __init__(self, channels: int, num_heads: int, num_groups: int | None, norm_eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(num_groups, channels, norm_eps) if num_groups else nn.Identity()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H, W]."""
        pixels = self.norm(x).flatten(2).mT  # [B, HW, C]
        q, k, v = self.qkv(pixels).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(attended).mT.unflatten(2, x.shape[2:]).add_(x)


class ConvResample(nn.Module):
    """Halve the resolution with a strided 3×3 convolution, or double it and convolve.

    Args:
        asymmetric_padding: pad below and on the right only when halving (Ho et al.'s TensorFlow code) rather
            than on all sides.
    """

    def __init__(self, channels: int, direction: Direction, asymmetric_padding: bool) -> None:
        super().__init__()
        self.direction = direction
        self.asymmetric_padding = asymmetric_padding and direction == "down"
        stride, padding = (2 if direction == "down" else 1), (0 if self.asymmetric_padding else 1)
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H/2, W/2] or [B, C, 2H, 2W]."""
        if self.direction == "up":
            x = plain_resample(x, "up")
        elif self.asymmetric_padding:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class PlainResample(nn.Module):
    """Halve or double the resolution without parameters."""

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        self.direction: Direction = direction

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H/2, W/2] or [B, C, 2H, 2W]."""
        return plain_resample(x, self.direction)


def plain_resample(x: Tensor, direction: Direction) -> Tensor:
    """Mean of each 2×2 square ("down"), or each pixel four times ("up"): what these networks were trained with."""
    return F.avg_pool2d(x, 2) if direction == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")

"""The UNet of lucidrains/denoising-diffusion-pytorch (since May 2024), from which many a first model has been trained.

https://github.com/lucidrains/denoising-diffusion-pytorch, class `Unet`. A relative of the DDPM network: normalised by
root mean squares, attention at every level (linear but for the lowest), the stem's result handed to the very end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import TimestepEmbedding
from models.networks.network import Network

MEMORIES = 4  # learned keys and values besides those of the pixels


@dataclass(frozen=True)
class AttentionShape:
    """Of one level's attention: its heads, the width of each, and whether it is full rather than linear."""

    num_heads: int
    head_channels: int
    full: bool


class LucidrainsUNet(Network):
    """A time-conditioned UNet with skip connections.

    Args:
        in_channels, out_channels: as a `Network` has them.
        stem_channels: width of the first convolution, and of the first level.
        level_channels: the width after each level's change of resolution; the last level has none and only convolves.
        attention: of each level; the last is also that between the two blocks at the bottom, where it is full.
        time_channels, max_period: see `TimestepEmbedding`; the embedding is four times as wide as the sinusoids.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stem_channels: int,
        level_channels: Sequence[int],
        attention: Sequence[AttentionShape],
        time_channels: int,
        max_period: float = 10000,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.num_classes = in_channels, out_channels, 0
        self.size_multiple = 2 ** (len(level_channels) - 1)
        emb_channels, spread = 4 * time_channels, time_channels // 2 - 1
        self.time_embed = TimestepEmbedding(time_channels, emb_channels, False, spread, max_period, F.gelu)
        self.conv_in = nn.Conv2d(in_channels, stem_channels, 7, padding=3)
        widths = [stem_channels, *level_channels]
        levels = list(zip(widths, widths[1:], attention, strict=False))
        down, up = [], []
        for i, (above, below, shape) in enumerate(levels):
            last = i == len(levels) - 1
            down.append(LucidrainsStage(above, above, shape, emb_channels, _downsample(above, below, last)))
            up.append(LucidrainsStage(above + below, below, shape, emb_channels, _upsample(below, above, i == 0)))
        self.down = cast(Sequence[LucidrainsStage], nn.ModuleList(down))
        self.mid_1 = LucidrainsBlock(widths[-1], widths[-1], emb_channels)
        self.mid_attn = LucidrainsAttention(widths[-1], replace(attention[-1], full=True))
        self.mid_2 = LucidrainsBlock(widths[-1], widths[-1], emb_channels)
        self.up = cast(Sequence[LucidrainsStage], nn.ModuleList(up[::-1]))
        self.block_out = LucidrainsBlock(2 * stem_channels, stem_channels, emb_channels)
        self.conv_out = nn.Conv2d(stem_channels, out_channels, 1)

    def forward(self, x: Tensor, t: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Predict what the network was trained for: [B, C, H, W], t [B] to [B, out_channels, H, W]; no class_id."""
        emb = F.silu(self.time_embed(t))
        x = stem = self.conv_in(x.to(self.conv_in.weight.dtype))
        skips = []
        for stage in self.down:
            x = stage.block_1(x, emb)
            skips.append(x)
            x = stage.attn(stage.block_2(x, emb))
            skips.append(x)
            x = stage.resample(x)
        x = self.mid_2(self.mid_attn(self.mid_1(x, emb)), emb)
        for stage in self.up:
            x = stage.block_1(torch.cat([x, skips.pop()], dim=1), emb)
            x = stage.attn(stage.block_2(torch.cat([x, skips.pop()], dim=1), emb))
            x = stage.resample(x)
        return self.conv_out(self.block_out(torch.cat([x, stem], dim=1), emb))


class LucidrainsStage(nn.Module):
    """Two blocks, attention, and the change to the next resolution."""

    def __init__(
        self, in_channels: int, channels: int, shape: AttentionShape, emb_channels: int, resample: nn.Module
    ) -> None:
        super().__init__()
        self.block_1 = LucidrainsBlock(in_channels, channels, emb_channels)
        self.block_2 = LucidrainsBlock(in_channels, channels, emb_channels)
        self.attn = LucidrainsAttention(channels, shape)
        self.resample = resample


def _downsample(in_channels: int, out_channels: int, last: bool) -> nn.Module:
    if last:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, out_channels, 1))


def _upsample(in_channels: int, out_channels: int, last: bool) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return conv if last else nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv)


class RMSNorm(nn.Module):
    """Each pixel divided by the root mean square of its channels (Zhang & Sennrich 2019), and scaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return F.normalize(x, dim=1) * self.g * x.shape[1] ** 0.5


class LucidrainsBlock(nn.Module):
    """Two normalised convolutions, the first scaled and shifted by the time embedding, plus the input."""

    def __init__(self, in_channels: int, out_channels: int, emb_channels: int) -> None:
        super().__init__()
        self.emb = nn.Linear(emb_channels, 2 * out_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_1 = RMSNorm(out_channels)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm_2 = RMSNorm(out_channels)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map x [B, C, H, W] and emb [B, E] (already activated) to [B, C', H, W]."""
        scale, shift = self.emb(emb)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm_1(self.conv_1(x)) * (scale + 1) + shift)
        return F.silu(self.norm_2(self.conv_2(h))) + self.skip(x)


class LucidrainsAttention(nn.Module):
    """Self-attention over the pixels and a few learned memories, plus the input.

    The cost of the linear kind grows with the pixels and not with their square (Shen et al. 2021, arXiv:1812.01243).
    """

    def __init__(self, channels: int, shape: AttentionShape) -> None:
        super().__init__()
        self.shape = shape
        hidden = shape.num_heads * shape.head_channels
        memory = (MEMORIES, shape.head_channels) if shape.full else (shape.head_channels, MEMORIES)
        self.norm = RMSNorm(channels)
        self.mem_kv = nn.Parameter(torch.zeros(2, shape.num_heads, *memory))
        self.to_qkv = nn.Conv2d(channels, 3 * hidden, 1, bias=False)
        out = nn.Conv2d(hidden, channels, 1)
        self.to_out = out if shape.full else nn.Sequential(out, RMSNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        qkv = self.to_qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.shape.num_heads, -1))
        q, *own = qkv.unbind(1)  # [B, heads, head_channels, HW]
        memories = self.mem_kv.mT if self.shape.full else self.mem_kv
        k, v = (torch.cat([m.expand(len(x), -1, -1, -1), p], 3) for m, p in zip(memories, own, strict=True))
        attended = F.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT if self.shape.full else _linear(q, k, v)
        return self.to_out(attended.flatten(1, 2).unflatten(2, x.shape[2:])) + x


def _linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend linearly, each head alone: q [.., D, N], k and v [.., D, M] to [.., D, N]."""
    context = v @ k.softmax(dim=-1).mT
    return context @ (q.softmax(dim=-2) * q.shape[-2] ** -0.5)

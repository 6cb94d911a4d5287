"""The parts of the UNet: time embedding, residual block, attention, change of resolution, the image passed down."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.network import NO_CLASS

Resample = Literal["conv", "residual", "plain"]
Direction = Literal["down", "up"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """What all blocks of a network have in common.

    Args:
        emb_channels: E, the width of the embedding; 0 where there is none, in an autoencoder.
        num_groups: of all group normalisations; fewer where a group would have less than `min_group_channels`.
        norm_eps: of all group normalisations.
        head_channels: the width of an attention head, None where their number is given.
        scale_shift_norm: see `ResBlock`.
        asymmetric_padding: see `ConvResample`.
        residual_scale: what the sum of a block and its input is multiplied by (Song et al. 2021, arXiv:2011.13456,
            take √½).
        resample_skip_conv: a 1×1 convolution carries the input over wherever a residual block changes the resolution.
        smooth_resample: see `resample`.
    """

    emb_channels: int
    num_groups: int = 32
    min_group_channels: int | None = None
    norm_eps: float = 1e-6
    head_channels: int | None = None
    scale_shift_norm: bool = False
    asymmetric_padding: bool = False
    residual_scale: float = 1.0
    resample_skip_conv: bool = False
    smooth_resample: bool = False

    def norm(self, channels: int) -> nn.GroupNorm:
        """Return a group normalisation of these channels."""
        max_groups = channels // self.min_group_channels if self.min_group_channels else self.num_groups
        return nn.GroupNorm(min(self.num_groups, max_groups), channels, self.norm_eps)

    def add(self, block: Tensor, x: Tensor) -> Tensor:
        """Add a block's input to its result, in place."""
        total = block.add_(x)
        return total if self.residual_scale == 1 else total.mul_(self.residual_scale)


class TimestepEmbedding(nn.Module):
    """Sinusoids of the timestep (Vaswani et al. 2017), then a two-layer perceptron.

    Args:
        channels: sinusoids, half of them sines.
        out_channels: width of the perceptron and of its result.
        cos_first: cosines before sines.
        spread: the frequencies fall from 1 to 10000^-(k/spread) at k = channels/2 - 1; channels/2 - 1 lets
            them reach 1/10000, channels/2 stops just before. None for random frequencies, drawn once before training
            (Tancik et al. 2020).
        max_period: in place of 10000.
        act: the perceptron's activation.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        cos_first: bool,
        spread: int | None,
        max_period: float = 10000,
        act: Callable[[Tensor], Tensor] = F.silu,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.cos_first = cos_first
        self.spread = spread
        self.max_period = max_period
        self.act = act
        if spread is None:
            self.register_buffer("freqs", torch.empty(channels // 2))
        self.linear_1 = nn.Linear(channels, out_channels)
        self.linear_2 = nn.Linear(out_channels, out_channels)

    def forward(self, t: Tensor, shift: Tensor | None = None) -> Tensor:
        """Embed t [B] as [B, out_channels]; `shift` [B, channels] is added to the sinusoids."""
        if self.spread is None:
            frequencies = 2 * math.pi * self.get_buffer("freqs").float()
        else:
            exponents = torch.arange(self.channels // 2, dtype=torch.float32, device=t.device) / self.spread
            frequencies = torch.exp(-math.log(self.max_period) * exponents)
        angles = t[:, None].float() * frequencies  # in radians
        waves = (angles.cos(), angles.sin()) if self.cos_first else (angles.sin(), angles.cos())
        embedding = F.pad(torch.cat(waves, dim=1), (0, self.channels % 2))
        if shift is not None:
            embedding = embedding + shift
        return self.linear_2(self.act(self.linear_1(embedding.to(self.linear_1.weight.dtype))))


class ClassShift(nn.Module):
    """What a class adds to the sinusoids (Karras et al. 2022): a linear layer on √num_classes in its place."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, class_id: Tensor) -> Tensor:
        """Embed class_id, int64 [B], as [B, channels]; no class as the bias alone."""
        return embed_class(class_id, self.weight) * math.sqrt(len(self.weight)) + self.bias


def embed_class(class_id: Tensor, weight: Tensor) -> Tensor:
    """Look up class_id, int64 [B], in weight [classes, channels]: [B, channels], 0 where it is NO_CLASS."""
    return F.embedding(class_id.clamp(min=0), weight) * (class_id != NO_CLASS)[:, None]


class ResBlock(nn.Module):
    """Two normalised convolutions around the time embedding, plus the input.

    Where the embedding scales and shifts the second normalisation (`scale_shift_norm`, Dhariwal & Nichol 2021), it is
    not added before it. Where the channels change, a 1×1 convolution carries the input over.

    Args:
        in_channels, out_channels: C and C'.
        style: what it has in common with the other blocks.
        direction: halve ("down") or double ("up") the resolution inside the block.
    """

    def __init__(self, in_channels: int, out_channels: int, style: Style, direction: Direction | None = None) -> None:
        super().__init__()
        self.style = style
        self.direction = direction
        self.norm_1 = style.norm(in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        emb_outputs = out_channels * (2 if style.scale_shift_norm else 1)
        self.emb = nn.Linear(style.emb_channels, emb_outputs) if style.emb_channels else None
        self.norm_2 = style.norm(out_channels)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        plain = in_channels == out_channels and not (direction and style.resample_skip_conv)
        self.skip = nn.Identity() if plain else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """Map x [B, C, H, W] and emb [B, E] (already activated) to [B, C', H', W']."""
        h = F.silu(self.norm_1(x), inplace=True)
        if self.direction is not None:
            h, x = (resample(part, self.direction, self.style.smooth_resample) for part in (h, x))
        h = self.conv_1(h)
        shift = None if self.emb is None else self.emb(emb)[:, :, None, None]
        if shift is None:
            h = self.norm_2(h)
        elif self.style.scale_shift_norm:
            scale, shift = shift.chunk(2, dim=1)
            h = self.norm_2(h).mul_(1 + scale).add_(shift)
        else:
            h = self.norm_2(h.add_(shift))
        return self.style.add(self.conv_2(F.silu(h, inplace=True)), self.skip(x))


class Attention(nn.Module):
    """Multi-head self-attention over the pixels, plus the input.

    `qkv` holds the queries', keys' and values' weights one after the other, each head after head.

    Args:
        channels: C.
        num_heads: where the style has no `head_channels`.
        style: what it has in common with the other blocks.
        norm: of the input; the style's if left out.

    Raises:
        ValueError: channels that cannot be divided among the heads.
    """

    def __init__(self, channels: int, num_heads: int, style: Style, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.num_heads = channels // style.head_channels if style.head_channels else num_heads
        if not self.num_heads or channels % (style.head_channels or num_heads):
            raise ValueError(f"{channels} channels cannot be divided among attention heads")
        self.style = style
        self.norm = style.norm(channels) if norm is None else norm
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        pixels = self.norm(x).flatten(2).mT  # [B, HW, C]
        q, k, v = self.qkv(pixels).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.style.add(self.out(attended).mT.unflatten(2, x.shape[2:]), x)


class Block(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, res: ResBlock, attn: Attention | None = None) -> None:
        super().__init__()
        self.res = res
        self.attn = attn

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """Map x [B, C, H, W] and emb [B, E] to [B, C', H, W]."""
        x = self.res(x, emb)
        return x if self.attn is None else self.attn(x)


class InputPyramid(nn.Module):
    """Pass the image, or what the level above made of it, to a level (Song et al. 2021's residual input).

    Args:
        in_channels, out_channels: of the level above, or of the image; and of the level.
        style: what it has in common with the blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, style: Style) -> None:
        super().__init__()
        self.style = style
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=2 if style.smooth_resample else 1)

    def forward(self, above: Tensor, x: Tensor) -> Tensor:
        """Add what `above` [B, C, 2H, 2W] holds of the image to x [B, C', H, W]."""
        above = self.conv(above)
        # the convolution has padded for the filter as well
        halved = smooth_half(above, padding=0) if self.style.smooth_resample else resample(above, "down")
        return self.style.add(halved, x)


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

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """Change [B, C, H, W] to [B, C, H/2, W/2] or [B, C, 2H, 2W]; `emb` is ignored."""
        if self.direction == "up":
            x = resample(x, "up")
        elif self.asymmetric_padding:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class PlainResample(nn.Module):
    """Halve or double the resolution without parameters."""

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        self.direction: Direction = direction

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """Change [B, C, H, W] to [B, C, H/2, W/2] or [B, C, 2H, 2W]; `emb` is ignored."""
        return resample(x, self.direction)


def resample(x: Tensor, direction: Direction, smooth: bool = False) -> Tensor:
    """Halve or double the resolution: [B, C, H, W] to [B, C, H/2, W/2] or [B, C, 2H, 2W].

    Smooth is filtered with [1, 3, 3, 1] along each axis (Song et al. 2021, after StyleGAN2). If not, take the mean of
    each 2×2 square, or each pixel four times: what most of these networks were trained with.
    """
    if not smooth:
        return F.avg_pool2d(x, 2) if direction == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")
    if direction == "down":
        return smooth_half(x, padding=1)
    return F.conv_transpose2d(x, 4 * _smooth_kernel(x), stride=2, padding=1, groups=x.shape[1])


def smooth_half(x: Tensor, padding: int) -> Tensor:
    """Halve the resolution with the smooth filter: [B, C, H, W] to [B, C, H/2 + padding - 1, W/2 + padding - 1]."""
    return F.conv2d(x, _smooth_kernel(x), stride=2, padding=padding, groups=x.shape[1])


def _smooth_kernel(x: Tensor) -> Tensor:
    """Return the filter of each channel of `x`, [C, 1, 4, 4]."""
    weights = x.new_tensor([1, 3, 3, 1]) / 8
    return torch.outer(weights, weights).expand(x.shape[1], 1, 4, 4)

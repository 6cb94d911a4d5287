"""The one UNet that all checkpoints run in: Ho et al.'s DDPM network and Dhariwal & Nichol's ADM.

Published families differ in a handful of choices (where attention sits, how resolution changes, how the
time embedding enters), all of which are parameters here; `models/<dialect>.py` derives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Attention, ConvResample, Direction, PlainResample, Resample, ResBlock, TimestepEmbedding

MOST_BLOCKS = 1000  # beyond any network known; a slip in a config is told rather than built


@dataclass(frozen=True)
class Level:
    """One resolution on the way down or up: its blocks, then the change to the next resolution."""

    channels: int
    num_blocks: int
    attention: bool = False
    resample: Resample | None = None


class UNet(nn.Module):
    """A time-conditioned UNet with skip connections.

    Args:
        in_channels: C, of the image.
        out_channels: C, or 2C with learned variance.
        down: levels from the full resolution down; the last has no `resample`.
        up: levels from the lowest resolution up, as many as `down` and one more block in each.
        stem_channels: width of the first convolution.
        time_channels: number of sinusoids the timestep is told in; the embedding is four times as wide.
        time_cos_first, time_spread: see `TimestepEmbedding`.
        mid_attention: attention between the two blocks at the bottom.
        num_groups, norm_eps: of all group normalisations.
        mid_attention_groups: of the one before the attention at the bottom, None for no normalisation there.
        num_heads: attention heads; `num_heads_up` those on the way up, where they differ. Both are ignored where
            `head_channels`, the width of a head, is given.
        scale_shift_norm: see `ResBlock`.
        asymmetric_padding: see `ConvResample`.
        num_classes: of a class-conditional network, else None.

    Raises:
        ValueError: channels that cannot be divided among the heads or the groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        down: Sequence[Level],
        up: Sequence[Level],
        stem_channels: int,
        time_channels: int,
        time_cos_first: bool,
        time_spread: int,
        mid_attention: bool = True,
        num_groups: int = 32,
        mid_attention_groups: int | None = 32,
        norm_eps: float = 1e-6,
        num_heads: int = 1,
        num_heads_up: int | None = None,
        head_channels: int | None = None,
        scale_shift_norm: bool = False,
        asymmetric_padding: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if sum(level.num_blocks for level in (*down, *up)) > MOST_BLOCKS:
            raise ValueError(f"more than {MOST_BLOCKS} blocks")
        emb_channels = 4 * time_channels

        def res(c_in: int, c_out: int, resample: Direction | None = None) -> ResBlock:
            return ResBlock(c_in, c_out, emb_channels, num_groups, norm_eps, scale_shift_norm, resample)

        def attention(channels: int, heads: int = num_heads, groups: int | None = num_groups) -> Attention:
            heads = channels // head_channels if head_channels else heads
            if not heads or channels % (head_channels or heads):
                raise ValueError(f"{channels} channels cannot be divided among attention heads")
            return Attention(channels, heads, groups, norm_eps)

        def change(level: Level, direction: Direction) -> nn.Module | None:
            if level.resample == "conv":
                return ConvResample(level.channels, direction, asymmetric_padding)
            if level.resample == "residual":
                return res(level.channels, level.channels, direction)
            return PlainResample(direction) if level.resample == "plain" else None

        self.time_embed = TimestepEmbedding(time_channels, emb_channels, time_cos_first, time_spread)
        self.class_embed = nn.Embedding(num_classes, emb_channels) if num_classes else None
        self.conv_in = nn.Conv2d(in_channels, stem_channels, 3, padding=1)

        channels = stem_channels
        skips = [channels]
        stages = []
        for level in down:
            blocks = []
            for _ in range(level.num_blocks):
                blocks.append(
                    Block(res(channels, level.channels), attention(level.channels) if level.attention else None)
                )
                channels = level.channels
                skips.append(channels)
            stage = Stage(blocks, change(level, "down"))
            if stage.resample is not None:
                skips.append(channels)
            stages.append(stage)
        self.down = _module_list(stages)

        mid_attn = attention(channels, groups=mid_attention_groups) if mid_attention else None
        self.mid = _module_list([Block(res(channels, channels), mid_attn), Block(res(channels, channels))])

        stages = []
        for level in up:
            blocks = []
            for _ in range(level.num_blocks):
                block = res(channels + skips.pop(), level.channels)
                attn = attention(level.channels, num_heads_up or num_heads) if level.attention else None
                blocks.append(Block(block, attn))
                channels = level.channels
            stages.append(Stage(blocks, change(level, "up")))
        self.up = _module_list(stages)

        self.norm_out = nn.GroupNorm(num_groups, channels, norm_eps)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Predict what the network was trained for.

        Args:
            x: [B, C, H, W] in about [-1, 1]; H and W divisible by 2 for each level but the last.
            t: int64 [B], timesteps.
            class_id: int64 [B], for a class-conditional network.

        Returns:
            [B, out_channels, H, W].
        """
        emb = self.time_embed(t)
        if self.class_embed is not None:
            emb = emb + self.class_embed(class_id)
        emb = F.silu(emb)

        x = self.conv_in(x.to(self.conv_in.weight.dtype))
        skips = [x]
        for stage in self.down:
            for block in stage.blocks:
                x = block(x, emb)
                skips.append(x)
            if stage.resample is not None:
                x = stage.change_resolution(x, emb)
                skips.append(x)
        for block in self.mid:
            x = block(x, emb)
        for stage in self.up:
            for block in stage.blocks:
                x = block(torch.cat([x, skips.pop()], dim=1), emb)
            x = stage.change_resolution(x, emb)
        return self.conv_out(F.silu(self.norm_out(x), inplace=True))


M = TypeVar("M", bound=nn.Module)


def _module_list(modules: list[M]) -> Sequence[M]:
    """A ModuleList that the type checker knows the members of."""
    return cast(Sequence[M], nn.ModuleList(modules))


class Block(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, res: ResBlock, attn: Attention | None = None) -> None:
        super().__init__()
        self.res = res
        self.attn = attn

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.res(x, emb)
        return x if self.attn is None else self.attn(x)


class Stage(nn.Module):
    """The blocks of one level and its change of resolution."""

    def __init__(self, blocks: list[Block], resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = _module_list(blocks)
        self.resample = resample

    def change_resolution(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.resample is None:
            return x
        return self.resample(x, emb) if isinstance(self.resample, ResBlock) else self.resample(x)

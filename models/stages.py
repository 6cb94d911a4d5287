"""The UNet's stages: the blocks of one resolution, and the change to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from torch import Tensor, nn

from models.layers import Attention, ConvResample, Direction, PlainResample, Resample, ResBlock

MOST_BLOCKS = 1000  # beyond any network known; a slip in a config is told rather than built


@dataclass(frozen=True)
class Level:
    """One resolution on the way down or up: its blocks, then the change to the next resolution."""

    channels: int
    num_blocks: int
    attention: bool = False
    resample: Resample | None = None


def check_levels(levels: Sequence[Level]) -> None:
    """That they make a network.

    Raises:
        ValueError: too many blocks, or a level without.
    """
    if sum(level.num_blocks for level in levels) > MOST_BLOCKS:
        raise ValueError(f"more than {MOST_BLOCKS} blocks")
    if min(level.num_blocks for level in levels) < 1:
        raise ValueError("a level without blocks")


M = TypeVar("M", bound=nn.Module)


def module_list(modules: list[M]) -> Sequence[M]:
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
        self.blocks = module_list(blocks)
        self.resample = resample

    def change_resolution(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.resample is None:
            return x
        return self.resample(x, emb) if isinstance(self.resample, ResBlock) else self.resample(x)


@dataclass(frozen=True)
class Parts:
    """What all blocks of a network have in common, and the blocks made so."""

    emb_channels: int
    num_groups: int
    norm_eps: float
    head_channels: int | None
    scale_shift_norm: bool
    asymmetric_padding: bool

    def res(self, in_channels: int, out_channels: int, resample: Direction | None = None) -> ResBlock:
        """A residual block, which may change the resolution too."""
        return ResBlock(
            in_channels,
            out_channels,
            self.emb_channels,
            self.num_groups,
            self.norm_eps,
            self.scale_shift_norm,
            resample,
        )

    def attention(self, channels: int, num_heads: int, num_groups: int | None) -> Attention:
        """Attention with heads of `head_channels` or, without those, so many heads.

        Raises:
            ValueError: channels that cannot be divided among them.
        """
        num_heads = channels // self.head_channels if self.head_channels else num_heads
        if not num_heads or channels % (self.head_channels or num_heads):
            raise ValueError(f"{channels} channels cannot be divided among attention heads")
        return Attention(channels, num_heads, num_groups, self.norm_eps)

    def stage(self, level: Level, direction: Direction, in_channels: Sequence[int], num_heads: int) -> Stage:
        """A level's blocks, of which `in_channels` says what goes into each, and its change of resolution."""
        blocks = []
        for channels in in_channels:
            attention = self.attention(level.channels, num_heads, self.num_groups) if level.attention else None
            blocks.append(Block(self.res(channels, level.channels), attention))
        return Stage(blocks, self._resample(level, direction))

    def _resample(self, level: Level, direction: Direction) -> nn.Module | None:
        if level.resample == "conv":
            return ConvResample(level.channels, direction, self.asymmetric_padding)
        if level.resample == "residual":
            return self.res(level.channels, level.channels, direction)
        return PlainResample(direction) if level.resample == "plain" else None


def make_stages(
    parts: Parts,
    levels: Sequence[Level],
    direction: Direction,
    channels: int,
    num_heads: int,
    skips: list[int] | None = None,
) -> Sequence[Stage]:
    """All stages on the way down or up.

    Args:
        channels: what goes into the first.
        skips: the channels that each block takes in besides, the last first; they are used up.
    """
    stages = []
    for level in levels:
        inputs = [channels, *[level.channels] * (level.num_blocks - 1)]
        if skips is not None:
            inputs = [own + skips.pop() for own in inputs]
        stages.append(parts.stage(level, direction, inputs, num_heads))
        channels = level.channels
    return module_list(stages)


def skip_channels(down: Sequence[Level], stem_channels: int) -> list[int]:
    """The channels of what the way down leaves for the way up: of the stem, each block, each change of resolution."""
    left = [level.num_blocks + (level.resample is not None) for level in down]
    return [stem_channels, *(level.channels for level, n in zip(down, left, strict=True) for _ in range(n))]

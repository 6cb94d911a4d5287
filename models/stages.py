"""The UNet's stages: the blocks of one resolution, and the change to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from torch import Tensor, nn

from models.layers import Attention, InputPyramid, ResBlock, Style
from models.resampling import ConvResample, Direction, PlainResample, Resample

MOST_BLOCKS = 1000  # beyond any network known; a slip in a config is told rather than built


@dataclass(frozen=True)
class Level:
    """One resolution on the way down or up: its blocks, then the change to the next resolution.

    Attention follows every block of it, none of them, or the last.
    """

    channels: int
    num_blocks: int
    attention: bool | Literal["last"] = False
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
    """The blocks of one level, and its change of resolution.

    Args:
        level: what it is built for.
        direction: of the change.
        in_channels: of each block.
        num_heads: of the attention, where the style has no width for them.
        style: what all blocks have in common.
        pyramid: on the way down, what of the image is added after the change.
    """

    def __init__(
        self,
        level: Level,
        direction: Direction,
        in_channels: Sequence[int],
        num_heads: int,
        style: Style,
        pyramid: InputPyramid | None = None,
    ) -> None:
        super().__init__()
        blocks = []
        for number, channels in enumerate(in_channels, start=1):
            attends = level.attention is True or (level.attention == "last" and number == level.num_blocks)
            res = ResBlock(channels, level.channels, style)
            blocks.append(Block(res, Attention(level.channels, num_heads, style) if attends else None))
        self.blocks = module_list(blocks)
        self.resample = _make_resample(level, direction, style)
        self.pyramid = pyramid

    def change_resolution(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.resample is None:
            return x
        return self.resample(x, emb) if isinstance(self.resample, ResBlock) else self.resample(x)


def _make_resample(level: Level, direction: Direction, style: Style) -> nn.Module | None:
    if level.resample == "conv":
        return ConvResample(level.channels, direction, style.asymmetric_padding)
    if level.resample == "residual":
        return ResBlock(level.channels, level.channels, style, direction)
    return PlainResample(direction) if level.resample == "plain" else None


def stages_down(
    levels: Sequence[Level], channels: int, num_heads: int, style: Style, image_channels: int | None = None
) -> Sequence[Stage]:
    """The stages from the full resolution down.

    Args:
        channels: what goes into the first.
        image_channels: those of the image where it is handed down beside the stages, else None.
    """
    stages = []
    for level in levels:
        pyramid = None
        if image_channels is not None and level.resample is not None:
            pyramid = InputPyramid(image_channels, level.channels, style)
            image_channels = level.channels
        inputs = [channels, *[level.channels] * (level.num_blocks - 1)]
        stages.append(Stage(level, "down", inputs, num_heads, style, pyramid))
        channels = level.channels
    return module_list(stages)


def stages_up(
    levels: Sequence[Level], channels: int, skips: list[int], num_heads: int, style: Style
) -> Sequence[Stage]:
    """The stages from the lowest resolution up.

    Args:
        channels: what goes into the first.
        skips: the channels that each block takes in besides, the last first; they are used up.
    """
    stages = []
    for level in levels:
        inputs = [channels, *[level.channels] * (level.num_blocks - 1)]
        stages.append(Stage(level, "up", [own + skips.pop() for own in inputs], num_heads, style))
        channels = level.channels
    return module_list(stages)


def skip_channels(down: Sequence[Level], stem_channels: int) -> list[int]:
    """The channels of what the way down leaves for the way up: of the stem, each block, each change of resolution."""
    left = [level.num_blocks + (level.resample is not None) for level in down]
    return [stem_channels, *(level.channels for level, n in zip(down, left, strict=True) for _ in range(n))]

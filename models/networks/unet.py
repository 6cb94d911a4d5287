"""The UNet that nearly all checkpoints run in.

It is Ho et al.'s DDPM network, Dhariwal & Nichol's ADM, and Song et al.'s DDPM++ and NCSN++. Published families differ
in a handful of choices (where attention sits, how resolution changes, how the time embedding enters), all of which are
parameters here; `models/families/` derives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import (
    Attention,
    Block,
    ClassShift,
    ConvResample,
    Direction,
    InputPyramid,
    PlainResample,
    Resample,
    ResBlock,
    Style,
    TimestepEmbedding,
    embed_class,
)
from models.networks.network import NO_CLASS, Network

MAX_BLOCKS = 1000  # more than any known network has; a typo in a config is reported rather than built


@dataclass(frozen=True)
class Level:
    """One resolution on the way down or up: its blocks, then the change to the next resolution.

    Attention follows every block, none, or the last one.
    """

    channels: int
    num_blocks: int
    attention: bool | Literal["last"] = False
    resample: Resample | None = None


class Stage(nn.Module):
    """The blocks of one level, and its change of resolution.

    Args:
        level: what it is built for.
        direction: of the change.
        in_channels: of each block.
        num_heads: of the attention, where the style has no `head_channels`.
        style: what all blocks have in common.
        pyramid: on the way down, the part of the image that is added after the change.
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
        self.blocks = cast(Sequence[Block], nn.ModuleList(blocks))
        self.resample: nn.Module | None = None
        if level.resample == "conv":
            self.resample = ConvResample(level.channels, direction, style.asymmetric_padding)
        elif level.resample == "residual":
            self.resample = ResBlock(level.channels, level.channels, style, direction)
        elif level.resample == "plain":
            self.resample = PlainResample(direction)
        self.pyramid = pyramid

    def forward(self, x: Tensor) -> Tensor:
        """Run the stage without embedding and skip connections, as an autoencoder does."""
        for block in self.blocks:
            x = block(x)
        return x if self.resample is None else self.resample(x)


def build_stages(
    levels: Sequence[Level],
    direction: Direction,
    channels: int,
    num_heads: int,
    style: Style,
    skips: list[int] | None = None,
    image_channels: int | None = None,
) -> Sequence[Stage]:
    """Build the stages of one way, down or up.

    Args:
        levels: what they are built for, in the order they run.
        channels: the input channels of the first.
        direction, num_heads, style: see `Stage`.
        skips: of a network with skip connections, the channels that the way down leaves for the way up: of the stem,
            each block, each change of resolution. The way down adds its own, the way up uses them up from the end.
        image_channels: those of the image where it is passed down beside the stages, else None.

    Raises:
        ValueError: too many blocks, or a level without any.
    """
    if sum(level.num_blocks for level in levels) > MAX_BLOCKS:
        raise ValueError(f"more than {MAX_BLOCKS} blocks")
    if any(level.num_blocks < 1 for level in levels):
        raise ValueError("a level without blocks")
    stages = []
    for level in levels:
        inputs, pyramid = [channels, *[level.channels] * (level.num_blocks - 1)], None
        if image_channels is not None and level.resample is not None:
            pyramid = InputPyramid(image_channels, level.channels, style)
            image_channels = level.channels
        if skips is not None and direction == "up":
            inputs = [own + skips.pop() for own in inputs]
        elif skips is not None:
            skips += [level.channels] * (level.num_blocks + (level.resample is not None))
        stages.append(Stage(level, direction, inputs, num_heads, style, pyramid))
        channels = level.channels
    return cast(Sequence[Stage], nn.ModuleList(stages))


class UNet(Network):
    """A time-conditioned UNet with skip connections.

    Args:
        in_channels: C, of the image.
        out_channels: C, or 2C with learned variance.
        down: levels from the full resolution down; the last has no `resample`.
        up: levels from the lowest resolution up, as many as `down` and one more block in each.
        stem_channels: width of the first convolution.
        time_channels: number of sinusoids that encode the timestep.
        time_cos_first, time_spread: see `TimestepEmbedding`.
        emb_channels: width of the embedding; by default four times the sinusoids.
        mid_attention: attention between the two blocks at the bottom.
        mid_attention_groups: of the normalisation before it, None for no normalisation.
        num_heads: attention heads; `num_heads_up` those on the way up, where they differ. Both are ignored where
            `head_channels`, the width of a head, is given.
        num_classes: of a class-conditional network, else None.
        class_shifts_time: the class is added to the sinusoids rather than to the embedding made of them.
        input_pyramid: the image is passed down beside the blocks, see `InputPyramid`.
        **style: what all blocks have in common, see `Style`.

    Raises:
        ValueError: channels that cannot be divided among the heads or the groups, or too many blocks or none.
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
        time_spread: int | None,
        emb_channels: int | None = None,
        mid_attention: bool = True,
        mid_attention_groups: int | None = 32,
        num_heads: int = 1,
        num_heads_up: int | None = None,
        num_classes: int | None = None,
        class_shifts_time: bool = False,
        input_pyramid: bool = False,
        **style: Any,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_classes = num_classes or 0
        self.size_multiple = 2 ** sum(level.resample is not None for level in down)
        self.class_shifts_time = class_shifts_time

        emb_channels = emb_channels or 4 * time_channels
        parts = Style(emb_channels=emb_channels, **style)
        self.time_embed = TimestepEmbedding(time_channels, emb_channels, time_cos_first, time_spread)
        self.class_embed: nn.Embedding | ClassShift | None = None
        if num_classes and class_shifts_time:
            self.class_embed = ClassShift(num_classes, time_channels)
        elif num_classes:
            # not drawn at random, for which the meta device would import torch's compiler, which takes seconds
            self.class_embed = nn.Embedding.from_pretrained(torch.zeros(num_classes, emb_channels), freeze=False)
        self.conv_in = nn.Conv2d(in_channels, stem_channels, 3, padding=1)
        skips, image_channels = [stem_channels], in_channels if input_pyramid else None
        self.down = build_stages(down, "down", stem_channels, num_heads, parts, skips, image_channels)
        lowest, middle = down[-1].channels, None
        if mid_attention:
            groups = mid_attention_groups
            norm = nn.GroupNorm(groups, lowest, parts.norm_eps) if groups else nn.Identity()
            middle = Attention(lowest, num_heads, parts, norm)
        mid = [Block(ResBlock(lowest, lowest, parts), middle), Block(ResBlock(lowest, lowest, parts))]
        self.mid = cast(Sequence[Block], nn.ModuleList(mid))
        self.up = build_stages(up, "up", lowest, num_heads_up or num_heads, parts, skips)
        self.norm_out = parts.norm(up[-1].channels)
        self.conv_out = nn.Conv2d(up[-1].channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Predict what the network was trained for.

        Args:
            x: [B, C, H, W] in about [-1, 1]; H and W divisible by `size_multiple`.
            t: [B], the timestep values passed to the network.
            class_id: int64 [B], for a class-conditional network; None for no class at all, if it has a null class.

        Returns:
            [B, out_channels, H, W].

        Raises:
            ValueError: no class_id for a class-conditional network without a null class.
        """
        x = x.to(self.conv_in.weight.dtype)
        if class_id is None and self.num_classes:
            if not self.null_class:
                raise ValueError("the network is class-conditional: give it class_id, or call choose_class")
            class_id = torch.full([len(t)], NO_CLASS, device=t.device)
        if self.class_embed is None or class_id is None:
            emb = self.time_embed(t)
        elif isinstance(self.class_embed, ClassShift):
            emb = self.time_embed(t, self.class_embed(class_id))
        else:
            emb = self.time_embed(t) + embed_class(class_id, self.class_embed.weight)
        emb = F.silu(emb)
        image, x = x, self.conv_in(x)
        skips = [x]
        for stage in self.down:
            for block in stage.blocks:
                x = block(x, emb)
                skips.append(x)
            if stage.resample is not None:
                x = stage.resample(x, emb)
                if stage.pyramid is not None:
                    x = image = stage.pyramid(image, x)
                skips.append(x)
        for block in self.mid:
            x = block(x, emb)
        for stage in self.up:
            for block in stage.blocks:
                x = block(torch.cat([x, skips.pop()], dim=1), emb)
            if stage.resample is not None:
                x = stage.resample(x, emb)
        return self.conv_out(F.silu(self.norm_out(x), inplace=True))

"""The UNet that nearly all checkpoints run in.

It is Ho et al.'s DDPM network, Dhariwal & Nichol's ADM, and Song et al.'s DDPM++ and NCSN++. Published families differ
in a handful of choices (where attention sits, how resolution changes, how the time embedding enters), all of which are
parameters here; `models/families/` derives them.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Attention, ClassShift, FourierEmbedding, ResBlock, Style, TimestepEmbedding
from models.network import Network
from models.stages import Block, Level, check_levels, module_list, skip_channels, stages_down, stages_up


class UNet(Network):
    """A time-conditioned UNet with skip connections.

    Args:
        in_channels: C, of the image.
        out_channels: C, or 2C with learned variance.
        down: levels from the full resolution down; the last has no `resample`.
        up: levels from the lowest resolution up, as many as `down` and one more block in each.
        stem_channels: width of the first convolution.
        time_channels: number of sinusoids the timestep is told in.
        time_cos_first, time_spread: see `TimestepEmbedding`; no spread for the random frequencies of
            `FourierEmbedding`.
        emb_channels: width of the embedding, four times the sinusoids if left out.
        mid_attention: attention between the two blocks at the bottom.
        mid_attention_groups: of the normalisation before it, None for no normalisation.
        num_heads: attention heads; `num_heads_up` those on the way up, where they differ. Both are ignored where
            `head_channels`, the width of a head, is given.
        num_classes: of a class-conditional network, else None.
        class_shifts_time: the class is added to the sinusoids rather than to the embedding made of them.
        input_pyramid: the image is handed down beside the blocks, see `InputPyramid`.
        **style: what all blocks have in common, see `Style`.

    Attributes:
        in_channels, out_channels: as given.
        size_multiple: what the height and width of its images must be divisible by.
        num_classes: as given, 0 for an unconditional network.

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
        check_levels([*down, *up])
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_classes = num_classes or 0
        self.size_multiple = 2 ** sum(level.resample is not None for level in down)
        self.class_shifts_time = class_shifts_time

        emb_channels = emb_channels or 4 * time_channels
        parts = Style(emb_channels=emb_channels, **style)
        self.time_embed = _time_embedding(time_channels, emb_channels, time_cos_first, time_spread)
        self.class_embed = _class_embedding(num_classes, time_channels if class_shifts_time else None, emb_channels)
        self.conv_in = nn.Conv2d(in_channels, stem_channels, 3, padding=1)
        self.down = stages_down(down, stem_channels, num_heads, parts, in_channels if input_pyramid else None)
        self.mid = _bottom(down[-1].channels, num_heads, parts, mid_attention, mid_attention_groups)
        skips = skip_channels(down, stem_channels)
        self.up = stages_up(up, down[-1].channels, skips, num_heads_up or num_heads, parts)
        self.norm_out = parts.norm(up[-1].channels)
        self.conv_out = nn.Conv2d(up[-1].channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Predict what the network was trained for.

        Args:
            x: [B, C, H, W] in about [-1, 1]; H and W divisible by `size_multiple`.
            t: [B], what the network is told as timesteps.
            class_id: int64 [B], for a class-conditional network.

        Returns:
            [B, out_channels, H, W].
        """
        x = x.to(self.conv_in.weight.dtype)
        emb = self._embed(t, class_id)
        image, x = x, self.conv_in(x)
        skips = [x]
        for stage in self.down:
            for block in stage.blocks:
                x = block(x, emb)
                skips.append(x)
            if stage.resample is not None:
                x = stage.change_resolution(x, emb)
                if stage.pyramid is not None:
                    x = image = stage.pyramid(image, x)
                skips.append(x)
        for block in self.mid:
            x = block(x, emb)
        for stage in self.up:
            for block in stage.blocks:
                x = block(torch.cat([x, skips.pop()], dim=1), emb)
            x = stage.change_resolution(x, emb)
        return self.conv_out(F.silu(self.norm_out(x), inplace=True))

    def _embed(self, t: Tensor, class_id: Tensor | None) -> Tensor:
        """[B, E], of timestep and class, through its activation."""
        if self.class_embed is None:
            emb = self.time_embed(t)
        elif self.class_shifts_time:
            emb = self.time_embed(t, self.class_embed(class_id))
        else:
            emb = self.time_embed(t) + self.class_embed(class_id)
        return F.silu(emb)


def _time_embedding(channels: int, emb_channels: int, cos_first: bool, spread: int | None) -> TimestepEmbedding:
    if spread is None:
        return FourierEmbedding(channels, emb_channels)
    return TimestepEmbedding(channels, emb_channels, cos_first, spread)


def _class_embedding(num_classes: int | None, shift_channels: int | None, emb_channels: int) -> nn.Module | None:
    if not num_classes:
        return None
    if shift_channels:
        return ClassShift(num_classes, shift_channels)
    # not drawn at random, for which the meta device would import torch's compiler, which takes seconds
    return nn.Embedding.from_pretrained(torch.zeros(num_classes, emb_channels), freeze=False)


def _bottom(
    channels: int, num_heads: int, style: Style, attention: bool, attention_groups: int | None
) -> Sequence[Block]:
    """The two blocks at the lowest resolution, and attention between them."""
    middle = None
    if attention:
        norm = nn.GroupNorm(attention_groups, channels, style.norm_eps) if attention_groups else nn.Identity()
        middle = Attention(channels, num_heads, style, norm)
    return module_list([Block(ResBlock(channels, channels, style), middle), Block(ResBlock(channels, channels, style))])

"""The one UNet that all checkpoints run in: Ho et al.'s DDPM network and Dhariwal & Nichol's ADM.

Published families differ in a handful of choices (where attention sits, how resolution changes, how the
time embedding enters), all of which are parameters here; `models/families/` derives them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import TimestepEmbedding
from models.network import Network
from models.stages import Block, Level, Parts, check_levels, make_stages, module_list, skip_channels


class UNet(Network):
    """A time-conditioned UNet with skip connections.

    Attributes:
        in_channels, out_channels: as given.
        size_multiple: what the height and width of its images must be divisible by.
        num_classes: as given, 0 for an unconditional network.

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
        check_levels([*down, *up])
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_classes = num_classes or 0
        self.size_multiple = 2 ** sum(level.resample is not None for level in down)

        parts = Parts(4 * time_channels, num_groups, norm_eps, head_channels, scale_shift_norm, asymmetric_padding)
        self.time_embed = TimestepEmbedding(time_channels, parts.emb_channels, time_cos_first, time_spread)
        self.class_embed = nn.Embedding(num_classes, parts.emb_channels) if num_classes else None
        self.conv_in = nn.Conv2d(in_channels, stem_channels, 3, padding=1)
        self.down = make_stages(parts, down, "down", stem_channels, num_heads)
        channels = down[-1].channels
        attention = parts.attention(channels, num_heads, mid_attention_groups) if mid_attention else None
        self.mid = module_list([Block(parts.res(channels, channels), attention), Block(parts.res(channels, channels))])
        skips = skip_channels(down, stem_channels)
        self.up = make_stages(parts, up, "up", channels, num_heads_up or num_heads, skips)
        self.norm_out = nn.GroupNorm(num_groups, up[-1].channels, norm_eps)
        self.conv_out = nn.Conv2d(up[-1].channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Predict what the network was trained for.

        Args:
            x: [B, C, H, W] in about [-1, 1]; H and W divisible by `size_multiple`.
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

"""Guidance by regions: what the model draws as one takes the reference's colour as one. This project's own."""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusions.ilvr import ILVR
from diffusions.sampler import RandnLike
from diffusions.schedule import Transition

LEVEL = 0.02  # ᾱ: from here on x̂0 has outlines; the last 60 % of uniform steps with Ho et al.'s betas
WIDTH = 1.75  # s, in units of N
CONTRAST = 0.2  # r
ANCHORS = 16  # per side
ALIGNED = 16  # attention's fast kernels want vectors of a multiple of so many numbers
PLASTIC = (0.7548776662466927, 0.5698402909980532)  # 1/ρ and 1/ρ², with ρ³ = ρ + 1


class Regions(ILVR):
    """ILVR while x̂0 is vague; then a correction of x̂0 that keeps to the outlines in it.

    ILVR's φ_N(y_prev - x') is smooth. Where the reference is no image that the network could have drawn, it bleeds over
    the outlines, and what it does in the last steps stays: a blurred veil. So once ᾱ ≥ 0.02, a step leaves the sample
    alone and begins with

        c = φ_N(y_0 - x̂0),   x̂0(p) ← x̂0(p) + Σ_q w(p, q) c(q) / Σ_q w(p, q),
        w(p, q) = exp(-‖p - q‖² / (2 s²) - ‖x̂0(p) - x̂0(q)‖² / (2 r²)),

    which is c averaged over the pixels near p and alike in x̂0: a joint bilateral filter (Petschnigg et al., SIGGRAPH
    2004) guided by x̂0. s is 1.75·N pixels, r is 0.2, colours being in [-1, 1]. A face takes the reference's colour as a
    whole, hair takes it as a whole; outlines and surfaces stay the network's. A weaker φ, or none, would leave thin
    outlines the colour of what lies around them in the reference, and so fade them.

    q runs over a grid of 16×16 pixels rather than all of them, at another place in every step, by the sequence of
    Roberts ("The unreasonable effectiveness of quasirandom sequences", 2018): what one step misses, the next sees. The
    normalised weights are then the softmax of an attention from every pixel to the grid's, for which devices have fast
    kernels; it never waits for the host, and treats every image of a batch by itself.

    Args:
        reference, downsample_factor, interp_method, pad_mode, range_t, way_up: ILVR's own; a range leaves the last
            steps free of this correction, too.

    Raises:
        ValueError: as ILVR.
    """

    @cached_property
    def places(self) -> Tensor:
        """[2, H, W], where each pixel is, in widths of a region."""
        width = WIDTH * self.downsample_factor
        axes = [torch.arange(size).to(self.reference) / width for size in self.reference.shape[-2:]]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        """Correct x̂0, [B, C, H, W] → [B, C, H, W]; what comes out may leave [-1, 1] a little."""
        if transition.alphas_cumprod < LEVEL or transition.index < self.range_t:
            return pred_x0
        places = self.places.expand(len(pred_x0), -1, -1, -1)
        features = torch.cat([places, pred_x0 / CONTRAST], dim=1)
        grid = anchors(features, transition.index)
        correction = _points(self.correction(pred_x0), grid)
        mean = softmax_mean(_points(features), _points(features, grid), correction)
        return pred_x0 + mean.mT.unflatten(2, pred_x0.shape[-2:])

    def correction(self, pred_x0: Tensor) -> Tensor:
        """c, what x̂0 lacks of the reference: [B, C, H, W]."""
        return self.low_pass(self.reference - pred_x0)

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        """Refine what a reverse step made, as ILVR does, while x̂0 is vague."""
        if transition.alphas_cumprod >= LEVEL:
            return sample
        return super().guide_sample(sample, transition, randn_like)


def softmax_mean(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Means of `values` with weights exp(-‖query - key‖²/2), normalised. [B, n, D], [B, m, D], [B, m, C] → [B, n, C].

    The exponent is query·key - ‖key‖²/2 and a term of the query's, which normalising takes out again.
    """
    queries = F.pad(queries, (0, 1), value=1.0)
    keys = torch.cat([keys, -keys.square().sum(2, keepdim=True) / 2], dim=2)
    width = math.ceil(keys.shape[2] / ALIGNED) * ALIGNED
    heads = [F.pad(tensor, (0, width - tensor.shape[2]))[:, None] for tensor in (queries, keys, values)]
    means = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], scale=1.0)
    return means[:, 0, :, : values.shape[2]]


def anchors(image: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of an even grid on an image [..., H, W]; every index shifts it, index 0 has it centred."""
    shifts = [(0.5 + index * step) % 1 for step in PLASTIC]
    counts = [min(ANCHORS, size) for size in image.shape[-2:]]
    rows, columns = (
        ((torch.arange(count, device=image.device) + shift) * (size / count)).long()
        for count, shift, size in zip(counts, shifts, image.shape[-2:], strict=True)
    )
    return rows, columns


def _points(image: Tensor, grid: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """[B, C, H, W] → [B, pixels, C]: all of them, or those of a grid."""
    if grid is not None:
        image = image.index_select(2, grid[0]).index_select(3, grid[1])
    return image.flatten(2).mT

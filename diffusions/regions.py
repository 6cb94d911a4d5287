"""Guidance by regions: each region that the model draws takes on the reference's colour. This project's own."""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusions.ilvr import ILVR
from diffusions.sampler import RandnLike
from diffusions.schedule import Transition

MIN_LEVEL = 0.02  # ᾱ at which x̂0 begins to have outlines: the last 60 % of uniform steps with Ho et al.'s betas
WIDTH = 1.75  # s, in units of N
CONTRAST = 0.2  # r
ANCHORS = 16  # per side
ALIGNMENT = 16  # attention's fast kernels take vectors whose length is a multiple of this
PLASTIC = (0.7548776662466927, 0.5698402909980532)  # 1/ρ and 1/ρ², with ρ³ = ρ + 1


class Regions(ILVR):
    """ILVR while x̂0 is vague; then a correction of x̂0 that follows its outlines.

    ILVR's φ_N(y_prev - x') is smooth. If the reference is not an image that the network could have drawn, it bleeds
    over the outlines, and in the last steps this stays: a blurred veil. So once ᾱ ≥ 0.02, a step leaves the sample
    alone and begins with

        c = φ_N(y_0 - x̂0),   x̂0(p) ← x̂0(p) + Σ_q w(p, q) c(q) / Σ_q w(p, q),
        w(p, q) = exp(-‖p - q‖² / (2 s²) - ‖x̂0(p) - x̂0(q)‖² / (2 r²)),

    which is c averaged over the pixels near p that are similar in x̂0: a joint bilateral filter (Petschnigg et al.,
    SIGGRAPH 2004) guided by x̂0. s is 1.75·N pixels, r is 0.2, colours being in [-1, 1]. A face takes the reference's
    colour as a whole, and so does hair; outlines and surfaces stay the network's. With a weaker φ, or none, thin
    outlines would take the colour that surrounds them in the reference, and fade.

    q runs over a grid of 16×16 pixels rather than over all. The grid moves in every step, by the sequence of Roberts
    ("The unreasonable effectiveness of quasirandom sequences", 2018), so that the next step sees what one step misses.
    The normalised weights are then the softmax of an attention from every pixel to the grid's, for which devices have
    fast kernels; it never waits for the host, and treats every image of a batch by itself.

    The nearest relative is Filter-Guided Diffusion (Gu, Yang and Davis, SIGGRAPH 2024, arXiv:2306.17141), which adds
    w·B(y_0 - x̂0) to x̂0. Its joint bilateral filter B takes the weights from the reference, all through the early
    steps; here they come from x̂0, and φ_N comes first.

    Args:
        reference, downsample_factor, interp_method, pad_mode, range_t, low_pass, mask, weight: see `Guide`; range_t
            leaves the last steps free of this correction, too. c is multiplied by mask and weight before it is
            averaged.
    """

    @cached_property
    def places(self) -> Tensor:
        """The position of each pixel, [2, H, W]."""
        axes = [torch.arange(size).to(self.reference) for size in self.reference.shape[-2:]]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        """Correct x̂0, [B, C, H, W] → [B, C, H, W]; the result may leave [-1, 1] a little."""
        if transition.alphas_cumprod < MIN_LEVEL or transition.index < self.range_t:
            return pred_x0
        width = WIDTH * self.low_passes[transition.index].factor
        places = (self.places / width).expand(len(pred_x0), -1, -1, -1)
        features = torch.cat([places, pred_x0 / CONTRAST], dim=1)
        grid = anchors(features, transition.index)
        correction = _points(self.correction(pred_x0, transition), grid)
        mean = softmax_mean(_points(features), _points(features, grid), correction)
        return pred_x0 + mean.mT.unflatten(2, pred_x0.shape[-2:])

    def correction(self, pred_x0: Tensor, transition: Transition) -> Tensor:
        """Return c, the low frequencies of the reference that x̂0 lacks: [B, C, H, W]."""
        return self.bind(self.reference - pred_x0, transition)

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        """Refine the sample as ILVR does, while x̂0 is vague."""
        if transition.alphas_cumprod >= MIN_LEVEL:
            return sample
        return super().guide_sample(sample, transition, randn_like)


def softmax_mean(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Average `values` with weights exp(-‖query - key‖²/2), normalised. [B, n, D], [B, m, D], [B, m, C] → [B, n, C].

    The exponent is query·key - ‖key‖²/2, and a term of the query alone that normalising cancels.
    """
    queries = F.pad(queries, (0, 1), value=1.0)
    keys = torch.cat([keys, -keys.square().sum(2, keepdim=True) / 2], dim=2)
    width = math.ceil(keys.shape[2] / ALIGNMENT) * ALIGNMENT
    heads = [F.pad(tensor, (0, width - tensor.shape[2]))[:, None] for tensor in (queries, keys, values)]
    means = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], scale=1.0)
    return means[:, 0, :, : values.shape[2]]


def anchors(image: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Return rows and columns of an even grid on an image [..., H, W]; each index shifts it, index 0 centres it."""
    shifts = [(0.5 + index * step) % 1 for step in PLASTIC]
    counts = [min(ANCHORS, size) for size in image.shape[-2:]]
    rows, columns = (
        ((torch.arange(count, device=image.device) + shift) * (size / count)).long()
        for count, shift, size in zip(counts, shifts, image.shape[-2:], strict=True)
    )
    return rows, columns


def _points(image: Tensor, grid: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Flatten [B, C, H, W] to [B, pixels, C]: all pixels, or those of a grid."""
    if grid is not None:
        image = image.index_select(2, grid[0]).index_select(3, grid[1])
    return image.flatten(2).mT

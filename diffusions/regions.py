"""Guidance by regions: what the model draws as one takes the reference's colour as one. This project's own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusions.ilvr import ILVR
from diffusions.sampler import RandnLike
from diffusions.schedule import Transition

WIDTH = 2.5  # s, in units of N
CONTRAST = 0.2  # r
REFERENCE_CONTRAST = 2.0  # r'
ANCHORS = 16  # per side
ALIGNED = 16  # attention's fast kernels want vectors of a multiple of so many numbers
PLASTIC = (0.7548776662466927, 0.5698402909980532)  # 1/ρ and 1/ρ², with ρ³ = ρ + 1


class Regions(ILVR):
    """A correction of x̂0 that keeps to the outlines the network draws, in ILVR's place.

    ILVR's φ_N(y_prev - x') is smooth. Where the reference is no image that the network could have drawn, it bleeds over
    the outlines, and what it does in the last steps stays: a blurred veil. Here every step but the last `range_t` goes

        x̂0(p) ← x̂0(p) + Σ_q w(p, q) (y_0(q) - x̂0(q)) / Σ_q w(p, q),
        w(p, q) = exp(-‖p - q‖² / (2 s²) - ‖x̂0(p) - x̂0(q)‖² / (2 r²) - ‖y_0(p) - y_0(q)‖² / (2 r'²)),

    so that a pixel is corrected by the mean difference over the pixels near it and alike in x̂0, and, less strictly, in
    the reference. That is a joint bilateral filter (Petschnigg et al., SIGGRAPH 2004), guided by both. s is 2.5·N
    pixels, r is 0.2 and r' 2, colours being in [-1, 1]. While x̂0 is flat, early on, it is little but a Gaussian low
    pass, and settles the layout as ILVR does; later a face takes the reference's mean colour there as a whole, and
    outlines and surfaces stay the network's. No φ_N comes before the mean: it would bring the bleeding back.
    What else was tried is in benchmarks/ideas.py.

    q runs over a grid of 16×16 pixels rather than all of them, at another place in every step, by the sequence of
    Roberts ("The unreasonable effectiveness of quasirandom sequences", 2018): what one step misses, the next sees. The
    normalised weights are then the softmax of an attention from every pixel to the grid's, for which devices have
    kernels that need no memory for them, never wait for the host, and treat every image of a batch by itself.

    Args:
        reference, downsample_factor, interp_method, pad_mode, range_t, way_up: ILVR's own; φ_N serves only to show
            `low_frequencies`, and where a walk starts that leaves steps out.

    Raises:
        ValueError: as ILVR.
    """

    def __init__(
        self,
        reference: Tensor,
        downsample_factor: float = 8,
        interp_method: str = "cubic",
        pad_mode: str = "symmetric",
        range_t: int = 0,
        way_up: str = "resize",
    ) -> None:
        super().__init__(reference, downsample_factor, interp_method, pad_mode, range_t, way_up)
        rows, columns = (
            torch.arange(size).to(reference) / (WIDTH * downsample_factor) for size in reference.shape[-2:]
        )
        self.places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        """Correct x̂0, [B, C, H, W] → [B, C, H, W]; what comes out may leave [-1, 1] a little."""
        if transition.index < self.range_t:
            return pred_x0
        features = self.features(pred_x0)
        grid = anchors(features, transition.index)
        mean = softmax_mean(_points(features), _points(features, grid), _points(self.difference(pred_x0), grid))
        return pred_x0 + mean.mT.unflatten(2, pred_x0.shape[-2:])

    def features(self, pred_x0: Tensor) -> Tensor:
        """Pixels that are d apart here weigh exp(-d²/2) in each other's mean: [B, 2 + 2C, H, W]."""
        places = self.places.expand(len(pred_x0), -1, -1, -1)
        return torch.cat([places, pred_x0 / CONTRAST, self.reference / REFERENCE_CONTRAST], dim=1)

    def difference(self, pred_x0: Tensor) -> Tensor:
        """What x̂0 lacks of the reference: [B, C, H, W]."""
        return self.reference - pred_x0

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        """Nothing is left to do after the step."""
        return sample


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

"""How close the fast ways of averaging by regions come to the exact sum, and what they cost.

    python -m benchmarks.regions              # at 64×64, against a call of the embedded model in float32
    python -m benchmarks.regions --large      # at 256×256 too, against one of CelebA-HQ's architecture

The correction is the one that `diffusions.Regions` makes of held-out portraits after foreign references, N = 8 (32 at
256×256). error: RMSE against the sum over all pixels (at 256×256 over 64×64 of them), over the RMS of that sum. share:
of the network's time, a batch of 8 (1 at 256×256), the fastest of several calls.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import diffusions.regions
from benchmarks.foreign import load_foreign
from benchmarks.held_out import load_held_out
from benchmarks.networks import load_embedded, load_large
from benchmarks.samplers import timed
from diffusions import Regions
from diffusions.process import Denoiser
from diffusions.regions import CONTRAST, WIDTH
from diffusions.schedule import Transition

REPEATS = 5
EXACT = 64  # pixels per side of a grid that counts as all of them: at 64×64 it is
LAST = Transition(0, 0, 0.9999, 1.0, 0)


def by_anchors(guide: Regions, pred_x0: Tensor, count: int) -> Tensor:
    """Return what `Regions` adds to x̂0 with a grid of count × count pixels; a grid of all pixels is exact."""
    before, diffusions.regions.ANCHORS = diffusions.regions.ANCHORS, count
    try:
        return guide.guide_x0(pred_x0, pred_x0, LAST) - pred_x0
    finally:
        diffusions.regions.ANCHORS = before


def by_guided_filter(guide: Regions, pred_x0: Tensor, radius: int) -> Tensor:
    """Fit c as a linear function of x̂0's colours in every window (He et al. 2010, equations 14 to 16)."""
    c = guide.correction(pred_x0, LAST)
    mean_x, mean_c = box(pred_x0, radius), box(c, radius)
    x, y = pred_x0[:, :, None], c[:, None]
    pair = box((x * pred_x0[:, None]).flatten(1, 2), radius).unflatten(1, (3, 3)) - mean_x[:, :, None] * mean_x[:, None]
    cross = box((x * y).flatten(1, 2), radius).unflatten(1, (3, 3)) - mean_x[:, :, None] * mean_c[:, None]
    ridge = CONTRAST**2 * torch.eye(3)
    slope = torch.linalg.solve(pair.movedim((1, 2), (3, 4)) + ridge, cross.movedim((1, 2), (3, 4)))
    offset = mean_c - torch.einsum("bhwij,bihw->bjhw", slope, mean_x)
    smooth = box(slope.movedim((3, 4), (1, 2)).flatten(1, 2), radius).unflatten(1, (3, 3))
    return torch.einsum("bijhw,bihw->bjhw", smooth, pred_x0) + box(offset, radius)


def box(image: Tensor, radius: int) -> Tensor:
    """Average over a square window, as far as it is inside the image."""
    kernel = 2 * radius + 1
    return F.avg_pool2d(image, kernel, 1, radius, count_include_pad=False)


def fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several calls."""
    work()
    return min(timed(work) for _ in range(REPEATS))


@torch.no_grad()
def measure(network: Denoiser, size: int, batch: int) -> None:
    """Print the rows of one size."""
    reference, pred_x0 = (
        F.interpolate(images[:batch], size=(size, size)) for images in (load_foreign(), load_held_out())
    )
    guide = Regions(reference, downsample_factor=size / 8)
    exact = by_anchors(guide, pred_x0, EXACT)
    call = fastest(lambda: network(pred_x0, torch.full([batch], 300)))
    ways: dict[str, Callable[[], Tensor]] = {
        f"{count}×{count} pixels": partial(by_anchors, guide, pred_x0, count) for count in (8, 12, 16, 20)
    }
    ways["guided filter"] = partial(by_guided_filter, guide, pred_x0, round(WIDTH * size / 8))
    for name, way in ways.items():
        error = (way() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
        print(f"| {size}×{size} | {name} | {error:.3f} | {100 * fastest(way) / call:.1f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Averaging by regions: how near to the exact sum, at what cost")
    parser.add_argument("--large", action="store_true", help="at 256×256 too")
    args = parser.parse_args()
    print("| size | way | error | share |\n|---|---|---|---|")
    measure(load_embedded().network, 64, 8)
    if args.large:
        measure(load_large(), 256, 1)


if __name__ == "__main__":
    main()

"""Fidelity, diversity and realism of samples that follow references, each with a bootstrap over the references."""

from itertools import combinations

import torch
from torch import Tensor

from benchmarks.ms_ssim import ms_ssim
from benchmarks.patch_distance import PatchDistance
from benchmarks.realism import Realism
from benchmarks.sliced_wasserstein import laplacian_pyramid
from diffusions.low_pass import downsample_matrix
from utils.images import from_pixels, to_pixels
from utils.resize_right import apply_matrices

RESAMPLES = 100
FIDELITY_FACTORS = (8, 16, 32)  # N at which fidelity is compared between methods
Z95 = 1.96

# name: of every measure one estimate, then one for each of RESAMPLES resamplings of the references
Measures = dict[str, Tensor]


def resample(count: int, seed: int) -> Tensor:
    """Return how often each of `count` references counts: once, then in RESAMPLES random draws of as many.

    Returns:
        [1 + RESAMPLES, count]
    """
    drawn = torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(seed))
    return torch.cat(
        [torch.ones(1, count), torch.zeros(RESAMPLES, count).scatter_add_(1, drawn, torch.ones(drawn.shape))]
    )


def interval(values: Tensor) -> tuple[float, float, float]:
    """Return the estimate and its 95% interval, by the resamplings' standard deviation.

    Not by their quantiles: a resampled set repeats images, which lengthens its distance to any other.
    """
    half = Z95 * values[1:].std()
    return values[0].item(), (values[0] - half).item(), (values[0] + half).item()


def measure_realism(samples: Tensor, weights: Tensor, realism: Realism) -> Measures:
    """Measure distances to real images.

    Args:
        samples: [V·R, C, H, W] in [-1, 1], all references' first variation, then the second, …
        weights: [K, R], see `resample`.
        realism: the distance.
    """
    levels = realism(to_8_bit(samples), weights.repeat(1, len(samples) // weights.shape[1]))
    sides = [samples.shape[-1] >> level for level in range(levels.shape[1])]
    return {"realism": levels.mean(1)} | {f"realism_{side}": d for side, d in zip(sides, levels.mT, strict=True)}


def measure_diversity(samples: Tensor, weights: Tensor) -> Measures:
    """Measure the mean distances between a reference's variations; same arguments, V at least 2."""
    variations = to_8_bit(samples).chunk(len(samples) // weights.shape[1])
    one, other = (torch.cat(group) for group in zip(*combinations(variations, 2), strict=True))
    return {
        "diversity": _mean(rmse(one - other), weights),
        "diversity_ssim": _mean(1 - ms_ssim(one, other), weights),
    }


def measure_fidelity(samples: Tensor, references: Tensor, factor: float, weights: Tensor) -> Measures:
    """Measure distances to the references; `samples` before clipping, `references` like them."""
    down = downsample_matrix(samples.shape[-1], factor).to(samples)
    raw = rmse(apply_matrices(samples - references, down, down))
    difference = to_8_bit(samples) - references
    return {
        "fidelity": _mean(rmse(apply_matrices(difference, down, down)).square(), weights).sqrt(),
        "fidelity_raw": _mean(raw.square(), weights).sqrt(),
        "within_1": _mean((raw <= 1).float(), weights),
        "distance": _mean(rmse(difference).square(), weights).sqrt(),
    }


def measure_patches(samples: Tensor, weights: Tensor, distance: PatchDistance) -> Measures:
    """Measure the distance to the nearest real patches; same arguments as `measure_realism`."""
    return {"patch_distance": _mean(distance(to_8_bit(samples)), weights)}


def measure_detail(samples: Tensor, weights: Tensor, real: Tensor) -> Measures:
    """Measure the contrast of the finest details over that of real images: below 1, lines fade; above, it is noise."""
    return {"detail": _mean(fine_contrast(to_8_bit(samples)), weights) / fine_contrast(real).mean()}


def fine_contrast(images: Tensor) -> Tensor:
    """Return the deviation of each image's finest Laplacian level. [B, C, H, W] → [B]."""
    return laplacian_pyramid(images, 2)[0].square().mean((1, 2, 3)).sqrt()


def to_8_bit(samples: Tensor) -> Tensor:
    """Clip to [-1, 1] and round as an image file does. [B, C, H, W] → [B, C, H, W]."""
    return from_pixels(torch.from_numpy(to_pixels(samples)))


def rmse(difference: Tensor) -> Tensor:
    """Return the RMS of each image in grey levels. [B, C, H, W] with a range of 2 → [B]."""
    return 127.5 * difference.square().mean((1, 2, 3)).sqrt()


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Average over a reference's variations (or pairs of them), then over weighted references. [V·R], [K, R] → [K]."""
    return weights @ values.unflatten(0, (-1, weights.shape[1])).mean(0) / weights.sum(1)

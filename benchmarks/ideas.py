"""Guides that were tried and are not offered: rows of benchmarks/translation.py, so that nobody tries them again."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusions import ILVR, Guide, Regions
from diffusions.sampler import RandnLike
from diffusions.schedule import Transition

LEVEL = 0.02  # ᾱ, where x̂0 begins to have outlines: the last 60 % of the steps with linear betas


class Smoothed(Regions):
    """The mean of φ_N(y_0 - x̂0), not of the difference itself."""

    def difference(self, pred_x0: Tensor) -> Tensor:
        return self.low_pass(super().difference(pred_x0))


class Late(Regions):
    """The paper's refinement of the sample while x̂0 has no outlines yet."""

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        return pred_x0 if transition.alphas_cumprod < LEVEL else super().guide_x0(pred_x0, x, transition)

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        if transition.alphas_cumprod >= LEVEL:
            return sample
        return ILVR.guide_sample(self, sample, transition, randn_like)


class Twice(Regions):
    """The correction made again for what it left."""

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        return super().guide_x0(super().guide_x0(pred_x0, x, transition), x, transition)


class OwnOutlines(Regions):
    """Pixels must be alike in x̂0 alone."""

    def features(self, pred_x0: Tensor) -> Tensor:
        return super().features(pred_x0)[:, : 2 + pred_x0.shape[1]]


IDEAS: dict[str, Callable[..., Guide]] = {
    "regions of φ": Smoothed,
    "regions, late": Late,
    "regions, twice": Twice,
    "regions of x̂0 alone": OwnOutlines,
}

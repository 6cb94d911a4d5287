"""Guides that were tried and are not offered: rows of benchmarks/translation.py, so that nobody tries them again."""

from collections.abc import Callable

from torch import Tensor

from diffusions import Guide, Regions
from diffusions.schedule import Transition


class Unsmoothed(Regions):
    """The mean of y_0 - x̂0 itself. Thin outlines take the mean colour of the reference there, and fade."""

    def correction(self, pred_x0: Tensor) -> Tensor:
        return self.reference - pred_x0


class Twice(Regions):
    """The correction made again for what it left."""

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        return super().guide_x0(super().guide_x0(pred_x0, x, transition), x, transition)


IDEAS: dict[str, Callable[..., Guide]] = {
    "regions, unsmoothed": Unsmoothed,
    "regions, twice": Twice,
}

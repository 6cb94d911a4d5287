"""DDIM sampling (Song et al. 2021, arXiv:2010.02502): from deterministic (η = 0) to DDPM-like (η = 1)."""

import math

from torch import Tensor

from diffusions.process import Prediction, Process
from diffusions.sampler import RandnLike, Sampler
from diffusions.schedule import Transition


class DDIM(Sampler):
    """The sampler of Song et al.

    Args:
        process, respace_steps, respace_type: see `Sampler`.
        eta: η in 0 … 1, how much of a step's noise is fresh. 0 draws none.

    Raises:
        ValueError: η outside of 0 … 1, and whatever `Sampler` raises.
    """

    def __init__(
        self, process: Process, respace_steps: int | None = None, respace_type: str = "uniform", eta: float = 0.0
    ) -> None:
        super().__init__(process, respace_steps, respace_type)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in 0 … 1, not {eta}")
        self.eta = eta

    def step(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        """Step to x_prev = √ᾱ_prev x̂0 + √(1-ᾱ_prev-σ²) ε̂ + σ z (Song et al. 2021, equations 12 and 16).

        ε̂ = (x - √ᾱ x̂0) / √(1-ᾱ) is the noise that leads from x̂0, clipped or not, to x.

        Args:
            x: [B, C, H, W], the sample at `transition`.

        Returns:
            [B, C, H, W].
        """
        pred_x0, level, level_prev = prediction.pred_x0, transition.alphas_cumprod, transition.alphas_cumprod_prev
        eps = (x - math.sqrt(level) * pred_x0) / math.sqrt(1 - level)
        sigma = self.eta * math.sqrt(transition.posterior_variance)
        x_prev = math.sqrt(level_prev) * pred_x0 + math.sqrt(1 - level_prev - sigma**2) * eps
        return x_prev + sigma * randn_like(x) if sigma > 0 else x_prev

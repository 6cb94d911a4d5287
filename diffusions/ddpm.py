"""DDPM ancestral sampling (Ho et al. 2020, arXiv:2006.11239), on any subset of the training timesteps."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusions.process import Prediction, Process
from diffusions.sampler import RandnLike, Sampler
from diffusions.schedule import Transition

# name: σ of a step's noise, a number or [B, C, H, W], from the transition and the network's variance channels
VAR_TYPES: dict[str, Callable[[Transition, Tensor], Tensor | float]] = {
    "fixed_small": lambda transition, variance: math.sqrt(transition.posterior_variance),
    "fixed_large": lambda transition, variance: math.sqrt(transition.beta),
    "learned_range": lambda transition, variance: _learned_std(transition, variance),
}


class DDPM(Sampler):
    """The sampler of Ho et al.: each step draws from p(x_prev | x).

    Args:
        process, respace_steps, respace_type: see `Sampler`.
        var_type: variance of a reverse step: fixed_small β̃, fixed_large β, or learned_range, between the
            two by the network's extra channels (Nichol & Dhariwal 2021, equation 15).

    Raises:
        ValueError: an unknown var_type, and whatever `Sampler` raises.
    """

    def __init__(
        self,
        process: Process,
        respace_steps: int | None = None,
        respace_type: str = "uniform",
        var_type: str = "fixed_small",
    ) -> None:
        super().__init__(process, respace_steps, respace_type)
        if var_type not in VAR_TYPES:
            raise ValueError(f"var_type must be one of {', '.join(VAR_TYPES)}, not {var_type!r}")
        self.var_type = var_type
        self.needs_variance = var_type == "learned_range"

    def step(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        """Draw x_prev ~ p(x_prev | x) (Ho et al. 2020, equation 7 with x̂0 for x_0).

        Args:
            x: [B, C, H, W], the sample at `transition`.

        Returns:
            [B, C, H, W]. The last step draws nothing: it returns the mean.
        """
        tr = transition
        x0_share = math.sqrt(tr.alphas_cumprod_prev) * tr.beta / (1 - tr.alphas_cumprod)
        x_share = math.sqrt(tr.alpha) * (1 - tr.alphas_cumprod_prev) / (1 - tr.alphas_cumprod)
        mean = x0_share * prediction.pred_x0 + x_share * x
        if tr.is_last:
            return mean
        return mean + VAR_TYPES[self.var_type](tr, prediction.variance) * randn_like(x)


def _learned_std(transition: Transition, variance: Tensor) -> Tensor:
    low, high = math.log(transition.posterior_variance), math.log(transition.beta)
    log_variance = low + (high - low) * (variance + 1) / 2  # the network's channels are in [-1, 1]
    return torch.exp(log_variance / 2)

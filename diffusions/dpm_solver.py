"""DPM-Solver++(2M) in its SDE form: second-order steps with fresh noise (Lu et al. 2022, arXiv:2211.01095)."""

import math

from torch import Tensor

from diffusions.process import Prediction
from diffusions.sampler import RandnLike, Sampler, StepRule
from diffusions.schedule import Transition, half_log_snr


class SDEDPMSolver(Sampler):
    """SDE-DPM-Solver++(2M), also called DPM++ 2M SDE. Best with few steps and uniform-trailing timesteps.

    Args:
        process, respace_steps, respace_type: see `Sampler`.
    """

    def step_rule(self) -> StepRule:
        """See `Sampler.step_rule`; this rule remembers the previous step."""
        return _SecondOrder()


class _SecondOrder:
    """The step rule of one walk."""

    def __init__(self) -> None:
        self.extrapolate = Extrapolation()

    def __call__(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        """Step to σ_prev/σ e^-h x + a_prev (1 - e^-2h) D + σ_prev √(1 - e^-2h) z (Lu et al. 2022, equation 18).

        a = √ᾱ, σ = √(1-ᾱ), λ = log(a/σ), h = λ_prev - λ, and D is the extrapolated x̂0. The last step leads to x̂0.

        Args:
            x: [B, C, H, W], the sample at `transition`.

        Returns:
            [B, C, H, W].
        """
        if transition.is_last:
            return prediction.pred_x0
        pred_x0, h = self.extrapolate(prediction.pred_x0, transition)
        level, level_prev = transition.alphas_cumprod, transition.alphas_cumprod_prev
        shrink = math.sqrt((1 - level_prev) / (1 - level))
        fresh = -math.expm1(-2 * h)
        noise = math.sqrt((1 - level_prev) * fresh) * randn_like(x)
        return shrink * math.exp(-h) * x + math.sqrt(level_prev) * fresh * pred_x0 + noise


class Extrapolation:
    """x̂0 in the middle of each step of a walk, on the line in λ through the previous step and this one."""

    def __init__(self) -> None:
        self.previous: tuple[Tensor, float] | None = None  # x̂0 and λ

    def __call__(self, pred_x0: Tensor, transition: Transition) -> tuple[Tensor, float]:
        """Return D = x̂0 + (x̂0 - x̂0') h / (2 h'), x̂0' and h' being the previous step's; in the first step, x̂0.

        Args:
            pred_x0: x̂0, [B, C, H, W].

        Returns:
            D [B, C, H, W], and h, the step's length in λ.
        """
        here = half_log_snr(transition.alphas_cumprod)
        h = half_log_snr(transition.alphas_cumprod_prev) - here
        middle = pred_x0
        if self.previous is not None:
            middle = pred_x0 + (pred_x0 - self.previous[0]) * h / (2 * (here - self.previous[1]))
        self.previous = pred_x0, here
        return middle, h

"""Multistep solvers that may need fewer calls: for benchmarks/calls.py, which says whether they do."""

import math

from torch import Tensor

from diffusions.process import Prediction, Process
from diffusions.sampler import RandnLike, Sampler, StepRule
from diffusions.schedule import Transition


class DPMSolver(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2), or its SDE form (there, equation 18).

    Args:
        process, respace_steps, respace_type: as for any sampler.
        stochastic: the SDE form, which draws noise in every step but the last.
    """

    def __init__(
        self,
        process: Process,
        respace_steps: int | None = None,
        respace_type: str = "uniform",
        stochastic: bool = False,
    ) -> None:
        super().__init__(process, respace_steps, respace_type)
        self.stochastic = stochastic

    def step_rule(self) -> StepRule:
        """Of one walk; it remembers the step before."""
        return _Multistep(self.stochastic)


class _Multistep:
    """x_prev from x, x̂0, and the x̂0 of the step before, in λ = log(√ᾱ/√(1-ᾱ)), half the log of the SNR."""

    def __init__(self, stochastic: bool) -> None:
        self.stochastic = stochastic
        self.before: tuple[Tensor, float] | None = None  # x̂0 and λ

    def __call__(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        level, level_prev = transition.alphas_cumprod, transition.alphas_cumprod_prev
        if transition.is_last:  # λ is infinite there, and the first-order step leads to x̂0
            return prediction.pred_x0
        here, there = half_log_snr(level), half_log_snr(level_prev)
        h = there - here
        x0 = prediction.pred_x0
        if self.before is not None:
            x0 = x0 + (x0 - self.before[0]) * h / (2 * (here - self.before[1]))
        self.before = prediction.pred_x0, here
        shrink = math.sqrt((1 - level_prev) / (1 - level))
        signal = math.sqrt(level_prev)
        if not self.stochastic:
            return shrink * x - signal * math.expm1(-h) * x0
        fresh = -math.expm1(-2 * h)
        noise = math.sqrt((1 - level_prev) * fresh) * randn_like(x)
        return shrink * math.exp(-h) * x + signal * fresh * x0 + noise


def half_log_snr(level: float) -> float:
    """λ of ᾱ."""
    return math.log(level / (1 - level)) / 2

"""Solvers that were tried for few calls and not adopted: benchmarks/research/calls.py shows why."""

import math
from dataclasses import replace

from torch import Tensor

from diffusions.dpm_solver import Extrapolation
from diffusions.process import Prediction, Process
from diffusions.sampler import RandnLike, Sampler, StepRule
from diffusions.schedule import Transition, half_log_snr


class DPMSolver(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2)."""

    def step_rule(self) -> StepRule:
        """See `Sampler.step_rule`; this rule remembers the previous step."""
        return _Multistep()


class _Multistep:
    """x_prev from x and the extrapolated x̂0. At the last step λ is infinite, and leads to x̂0."""

    def __init__(self) -> None:
        self.extrapolate = Extrapolation()

    def __call__(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        if transition.is_last:
            return prediction.pred_x0
        pred_x0, h = self.extrapolate(prediction.pred_x0, transition)
        level, level_prev = transition.alphas_cumprod, transition.alphas_cumprod_prev
        return math.sqrt((1 - level_prev) / (1 - level)) * x - math.sqrt(level_prev) * math.expm1(-h) * pred_x0


class UniPC(Sampler):
    """UniPC-2 with B(h) = e^h - 1, predicting x̂0 (Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2).

    Its predictor is DPM-Solver++(2M). The next call's x̂0, which there must be anyway, then corrects the sample.
    """

    def step_rule(self) -> StepRule:
        """See `Sampler.step_rule`; this rule remembers two steps."""
        return _Corrected()


class _Corrected:
    """The correction is added to x as it is, so that what a guide did to x stays."""

    def __init__(self) -> None:
        self.predict = _Multistep()
        self.past: list[tuple[Tensor, float]] = []  # x̂0 and λ, the latest last

    def __call__(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        here = half_log_snr(transition.alphas_cumprod)
        if self.past:
            x = x + math.sqrt(transition.alphas_cumprod) * self._correction(prediction.pred_x0, here)
        self.past = [*self.past[-1:], (prediction.pred_x0, here)]
        return self.predict(x, prediction, transition, randn_like)

    def _correction(self, pred_x0: Tensor, here: float) -> Tensor:
        """Return what the corrector (the paper's equation 3) adds to the predictor, over √ᾱ."""
        latest, start = self.past[-1]
        h = here - start
        change, step = pred_x0 - latest, -math.expm1(-h)
        if len(self.past) == 1:
            return step / 2 * change
        before, ratio = self.past[0][0], (self.past[0][1] - start) / h
        moments = 1 / step - 1 / h, 1 / step - 2 / h * (1 / step - 1 / h)  # what the two weights' moments must be
        weight = (moments[1] - moments[0]) / (ratio - 1)
        return step * ((weight - 1 / 2) / ratio * (before - latest) + (moments[0] - weight) * change)


class Heun(Sampler):
    """Heun's method in σ = √(1-ᾱ)/√ᾱ (Karras et al. 2022, arXiv:2206.00364, algorithm 1): S steps, 2S - 1 calls.

    Args:
        process, respace_type: as for any sampler.
        calls: of the network; an even number is one less.
    """

    def __init__(self, process: Process, calls: int, respace_type: str = "uniform") -> None:
        super().__init__(process, (calls + 1) // 2, respace_type)
        *steps, last = self.transitions
        twice = [
            half
            for step, after in zip(steps, self.transitions[1:], strict=True)
            for half in (step, replace(after, alphas_cumprod_prev=after.alphas_cumprod))
        ]
        self.transitions = tuple(replace(step, index=i) for i, step in enumerate([last, *reversed(twice)]))[::-1]

    def step_rule(self) -> StepRule:
        """See `Sampler.step_rule`; this rule remembers the previous half step."""
        return _Halves()


class _Halves:
    """Euler's step; then the same step again, with the mean of the slopes at its two ends."""

    def __init__(self) -> None:
        self.begun: tuple[Tensor, Tensor, float] | None = None  # x/√ᾱ, its slope and σ, where Euler's step began

    def __call__(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        if transition.is_last:
            return prediction.pred_x0
        levels = transition.alphas_cumprod, transition.alphas_cumprod_prev
        sigma, sigma_prev = map(noise_over_signal, levels)
        scaled = x / math.sqrt(transition.alphas_cumprod)
        slope = (scaled - prediction.pred_x0) / sigma
        if self.begun is None:
            self.begun = scaled, slope, sigma
        else:
            scaled, first, sigma = self.begun
            slope, self.begun = (first + slope) / 2, None
        return math.sqrt(transition.alphas_cumprod_prev) * (scaled + (sigma_prev - sigma) * slope)


def noise_over_signal(level: float) -> float:
    """Return σ from ᾱ."""
    return math.sqrt((1 - level) / level)

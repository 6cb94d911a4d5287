"""The noise schedule of training, and the timesteps of it that sampling visits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transition:
    """The constants of one reverse step, from timestep `t` to the one visited after it (or to the image).

    ᾱ is the share of the signal's variance left at a noise level; ᾱ_prev is 1 when the step ends at the image.
    """

    index: int  # S-1 … 0, counting down to the image
    t: int  # 0 … T-1
    alphas_cumprod: float
    alphas_cumprod_prev: float
    model_t: float  # the timestep value passed to the network

    @property
    def alpha(self) -> float:
        """ᾱ/ᾱ_prev: the share of the variance that this step's forward process keeps."""
        return self.alphas_cumprod / self.alphas_cumprod_prev

    @property
    def beta(self) -> float:
        """1 - ᾱ/ᾱ_prev: the variance of the noise that this step's forward process adds."""
        return 1 - self.alpha

    @property
    def posterior_variance(self) -> float:
        """β̃, the variance of q(x_prev | x, x_0) (Ho et al. 2020, equation 7)."""
        return self.beta * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)

    @property
    def is_last(self) -> bool:
        """Whether this step ends at the clean image."""
        return self.index == 0


def half_log_snr(level: float) -> float:
    """λ = log(√ᾱ/√(1-ᾱ)) of ᾱ in 0 … 1, 1 excluded; -∞ of pure noise."""
    return math.log(level / (1 - level)) / 2 if level > 0 else -math.inf


def _cosine(total_steps: int) -> Tensor:
    steps = torch.arange(total_steps + 1, dtype=torch.float64)
    alphas_cumprod = torch.cos((steps / total_steps + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)


def _sigmoid(total_steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(-6, 6, total_steps, dtype=torch.float64).sigmoid() * (end - start) + start


def _sigmoid_alphas(total_steps: int) -> Tensor:
    """Let the share of the signal be a sigmoid of time between -3 and 3 (Jabri et al. 2022, figure 8)."""
    t = torch.linspace(-3, 3, total_steps + 1, dtype=torch.float64)
    alphas_cumprod = t.flip(0).sigmoid() - t[0].sigmoid()
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)


def _laplace(total_steps: int) -> Tensor:
    """Let log-SNR follow a Laplace distribution, as diffusers does (arXiv:2407.03297)."""
    t = torch.arange(total_steps + 1, dtype=torch.float64) / total_steps - 0.5
    log_snr = torch.where(t > 0, 0.5, -0.5) * torch.log(1 - 2 * t.abs() + 1e-6)
    alphas_cumprod = log_snr.sigmoid().sqrt()
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)


# name: β of all T timesteps, from T, β_start and β_end
BETA_SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": lambda T, start, end: torch.linspace(start, end, T, dtype=torch.float64),  # Ho et al. 2020
    "quad": lambda T, start, end: torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64).square(),
    "const": lambda T, start, end: torch.full([T], end, dtype=torch.float64),
    "cosine": lambda T, start, end: _cosine(T),  # Nichol & Dhariwal 2021, equation 17
    "sigmoid": _sigmoid,
    "sigmoid_alphas": lambda T, start, end: _sigmoid_alphas(T),
    "laplace": lambda T, start, end: _laplace(T),
}


def make_betas(beta_schedule: str, total_steps: int, beta_start: float, beta_end: float) -> Tensor:
    """Compute β_t of the forward process for t = 0 … T-1.

    Args:
        beta_schedule: linear, quad (linear in √β), const (β_end throughout) or sigmoid; or cosine, sigmoid_alphas or
            laplace, which use neither start nor end.
        total_steps: T.
        beta_start: β of timestep 0.
        beta_end: β of timestep T-1.

    Returns:
        [total_steps], float64, each in (0, 1).

    Raises:
        ValueError: an unknown schedule, fewer than one step, or betas outside of (0, 1).
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, not {total_steps}")
    if beta_schedule not in BETA_SCHEDULES:
        raise ValueError(f"beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, not {beta_schedule!r}")
    betas = BETA_SCHEDULES[beta_schedule](total_steps, beta_start, beta_end)
    if not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"betas must be between 0 and 1: choose others than {beta_start=} and {beta_end=}")
    return betas


def to_zero_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale the noise levels so that the last is pure noise; the first stays (Lin et al. 2024, algorithm 1).

    Args:
        alphas_cumprod: [T], ᾱ.

    Returns:
        [T], the last 0.
    """
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))).square()


def _quad(T: int, S: int) -> list[int]:
    last = max(S - 1, 1)
    return _distinct([4 * T * i**2 // (5 * last**2) for i in range(S)], T)


def _diffusers_leading(offset: int, T: int, S: int) -> list[int]:
    return [i * (T // S) + min(offset, T - 1 - (S - 1) * (T // S)) for i in range(S)]


def _diffusers_trailing(T: int, S: int) -> list[int]:
    step = (T - T / S) - T  # as numpy.arange rounds it, which decides where a half goes
    return [round(T + i * step) - 1 for i in reversed(range(S))]


def _diffusers_linspace(T: int, S: int) -> list[int]:
    return [round(i * ((T - 1) / max(S - 1, 1))) for i in range(S)]


# name: S of the T timesteps, our own in whole-number arithmetic, so that no rounding decides between two neighbours
RESPACINGS: dict[str, Callable[[int, int], list[int]]] = {
    "uniform": lambda T, S: [i * T // S for i in range(S)],
    "uniform-leading": lambda T, S: [i * T // S for i in range(S)],
    "uniform-trailing": lambda T, S: [T - 1 - i * T // S for i in reversed(range(S))],
    "uniform-linspace": lambda T, S: [i * (T - 1) // max(S - 1, 1) for i in range(S)],
    "quad": _quad,
    "diffusers-leading": partial(_diffusers_leading, 0),
    "diffusers-leading-1": partial(_diffusers_leading, 1),
    "diffusers-trailing": _diffusers_trailing,
    "diffusers-linspace": _diffusers_linspace,
}


def respace(respace_type: str, total_steps: int, respace_steps: int | None = None) -> list[int]:
    """Choose the timesteps that sampling visits, in increasing order.

    Args:
        respace_type: uniform (= uniform-leading) ⌊i·T/S⌋, uniform-trailing T-1-⌊i·T/S⌋, uniform-linspace
            ⌊i·(T-1)/(S-1)⌋, or quad ⌊0.8·T·(i/(S-1))²⌋ (Song et al. 2021, appendix D.3), whose repeated
            values are moved up to the next free one. The names that begin with `diffusers-` give the timesteps of
            its DDPMScheduler, rounded as it rounds: leading, leading-1 (steps_offset 1), trailing, linspace.
        total_steps: T, the steps of training.
        respace_steps: S, the steps of sampling; all T if None.

    Returns:
        Exactly S distinct timesteps out of 0 … T-1.

    Raises:
        ValueError: an unknown type, or S outside of 1 … T.
    """
    T, S = total_steps, total_steps if respace_steps is None else respace_steps
    if not 1 <= S <= T:
        raise ValueError(f"respace_steps must be in 1 … {T}, not {S}")
    if respace_type not in RESPACINGS:
        raise ValueError(f"respace_type must be one of {', '.join(RESPACINGS)}, not {respace_type!r}")
    return RESPACINGS[respace_type](T, S)


def _distinct(timesteps: list[int], total_steps: int) -> list[int]:
    """Move each repeated value up to the next free one, the whole staying below `total_steps`."""
    distinct: list[int] = []
    for i, t in enumerate(timesteps):
        free = max(t, distinct[-1] + 1) if distinct else t
        distinct.append(min(free, total_steps - len(timesteps) + i))
    return distinct

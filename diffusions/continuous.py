"""A process of continuous noise levels σ, x_σ = x_0 + σ·ε, and its networks (Karras et al. 2022, arXiv:2206.00364)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffusions.process import Denoiser, Prediction, Process
from diffusions.schedule import Transition


class Coefficients(NamedTuple):
    """How a network F becomes a denoiser: D(x_σ; σ) = skip·x_σ + out·F(scale·x_σ; noise) (equation 7)."""

    skip: float
    out: float
    scale: float
    noise: float


def _edm(sigma: float, sigma_min: float, sigma_data: float) -> Coefficients:
    total = sigma**2 + sigma_data**2
    out = sigma * sigma_data / math.sqrt(total)
    return Coefficients(sigma_data**2 / total, out, 1 / math.sqrt(total), math.log(sigma) / 4)


def _edm_openai(sigma: float, sigma_min: float, sigma_data: float) -> Coefficients:
    return _edm(sigma, sigma_min, sigma_data)._replace(noise=250 * math.log(sigma))


def _consistency(sigma: float, sigma_min: float, sigma_data: float) -> Coefficients:
    """Make D the sample itself at the lowest noise level (Song et al. 2023, arXiv:2303.01469, appendix C)."""
    above = sigma - sigma_min
    skip = sigma_data**2 / (above**2 + sigma_data**2)
    out = sigma_data * above / math.sqrt(sigma**2 + sigma_data**2)
    return _edm_openai(sigma, sigma_min, sigma_data)._replace(skip=skip, out=out)


def _vp(sigma: float, sigma_min: float, sigma_data: float) -> Coefficients:
    """Convert σ to the time of Song et al. 2021's VP process, whose β goes from 0.1 to 20; noise is 999 times that."""
    time = (math.sqrt(0.1**2 + 2 * 19.9 * math.log1p(sigma**2)) - 0.1) / 19.9
    return Coefficients(1, -sigma, 1 / math.sqrt(sigma**2 + 1), 999 * time)


def _ve(sigma: float, sigma_min: float, sigma_data: float) -> Coefficients:
    return Coefficients(1, sigma, 1, math.log(sigma / 2))


# name: the coefficients from σ, sigma_min and sigma_data (table 1; two are added by openai/consistency_models)
PRECONDITIONINGS: dict[str, Callable[[float, float, float], Coefficients]] = {
    "edm": _edm,
    "edm_openai": _edm_openai,
    "consistency": _consistency,
    "vp": _vp,
    "ve": _ve,
}


class ContinuousProcess(Process):
    """A diffusion process of continuous noise levels.

    Expressed as a `Process`, whose samples keep their variance: x = √ᾱ·x_σ with ᾱ = 1/(1+σ²). Timestep t is the t-th
    of T levels, spaced as the levels of sampling are.

    Args:
        preconditioning: how the network was trained: edm, edm_openai, consistency, vp or ve.
        sigma_min: the lowest noise level.
        sigma_max: the highest noise level.
        sigma_data: the standard deviation of the training images.
        rho: levels are evenly spaced in σ^(1/ρ) (equation 5).
        clip_denoised: clip x̂0 to [-1, 1] at every step.
        total_steps: T, the largest number of sampling steps.

    Raises:
        ValueError: an argument outside of its range.
    """

    def __init__(
        self,
        preconditioning: str = "edm",
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_data: float = 0.5,
        rho: float = 7.0,
        clip_denoised: bool = False,
        total_steps: int = 1000,
    ) -> None:
        if preconditioning not in PRECONDITIONINGS:
            raise ValueError(f"preconditioning must be one of {', '.join(PRECONDITIONINGS)}, not {preconditioning!r}")
        if not (0 < sigma_min < sigma_max < math.inf and 0 < sigma_data < math.inf and 0 < rho < math.inf):
            raise ValueError("sigma_min, sigma_max, sigma_data and rho must be above 0, and sigma_min below sigma_max")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, not {total_steps}")
        self.preconditioning = PRECONDITIONINGS[preconditioning]
        self.sigma_min, self.sigma_max, self.sigma_data, self.rho = sigma_min, sigma_max, sigma_data, rho
        self.clip_denoised, self.clip_range, self.dynamic_threshold = clip_denoised, 1.0, None
        self.objective_name = "pred_x0"  # of the wrapped network
        self.total_steps, self.alphas_cumprod = total_steps, _alphas_cumprod(self.sigmas(total_steps))

    def sigmas(self, steps: int) -> Tensor:
        """Return `steps` rising noise levels, [steps] float64 (equation 5); a single one is the highest."""
        ramp = torch.linspace(1, 0, steps, dtype=torch.float64).flip(0)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (low + ramp * (high - low)) ** self.rho

    def transitions(self, respace_type: str = "uniform", respace_steps: int | None = None) -> tuple[Transition, ...]:
        """Return the S reverse steps of sampling, in the order visited.

        Args:
            respace_type: uniform in σ^(1/ρ); there is no other.
            respace_steps: S, all T if None.

        Raises:
            ValueError: another type, or S outside of 1 … T.
        """
        T, S = self.total_steps, self.total_steps if respace_steps is None else respace_steps
        if not 1 <= S <= T:
            raise ValueError(f"respace_steps must be in 1 … {T}, not {S}")
        if respace_type != "uniform":
            raise ValueError(f"respace_type must be uniform for continuous noise levels, not {respace_type!r}")
        timesteps = [T - 1 - i * (T - 1) // max(S - 1, 1) for i in range(S)]
        levels = [*_alphas_cumprod(self.sigmas(S)).flip(0).tolist(), 1.0]
        return tuple(
            Transition(S - 1 - i, t, levels[i], levels[i + 1], self._coefficients(levels[i]).noise)
            for i, t in enumerate(timesteps)
        )

    def model_t(self, t: int) -> float:
        """Return the noise value passed to the network at timestep t."""
        return self._coefficients(self.alphas_cumprod[t].item()).noise

    def predict(self, model: Denoiser, x: Tensor, transition: Transition) -> Prediction:
        """Ask the network for the clean image.

        Args:
            model: the network F, called with scale·x_σ and its noise, float32 [B].
            x: [B, C, H, W], the sample at `transition`: √ᾱ·x_σ.

        Returns:
            x̂0 [B, C, H, W], clipped if the process clips.
        """
        skip, out, scale, noise = self._coefficients(transition.alphas_cumprod)
        noisy = x / math.sqrt(transition.alphas_cumprod)
        answer = model(scale * noisy, torch.full([len(x)], noise, device=x.device)).to(x.dtype)
        output, variance = answer.tensor_split([x.shape[1]], dim=1)
        return Prediction(self.clip(skip * noisy + out * output), variance)

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return what F should predict from x_σ: the output for which D is the clean image.

        Args:
            x0, t, noise: as for `q_sample`.

        Returns:
            [B, C, H, W].
        """
        levels = self.alphas_cumprod[t.cpu()]
        coefficients = x0.new_tensor([self._coefficients(level) for level in levels.tolist()])
        skip, out = coefficients.T[:2, :, None, None, None]
        return (x0 - skip * (x0 + (1 / levels - 1).sqrt().to(x0)[:, None, None, None] * noise)) / out

    def _coefficients(self, alphas_cumprod: float) -> Coefficients:
        return self.preconditioning(math.sqrt(1 / alphas_cumprod - 1), self.sigma_min, self.sigma_data)


def _alphas_cumprod(sigmas: Tensor) -> Tensor:
    return 1 / (1 + sigmas.square())

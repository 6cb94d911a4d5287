"""DDPM ancestral sampling (Ho et al. 2020, arXiv:2006.11239), on any subset of the training timesteps."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusions.schedule import Transition, make_betas, respace

OBJECTIVES = ("pred_eps", "pred_x0", "pred_v")
VAR_TYPES = ("fixed_small", "fixed_large", "learned_range")

Model = Callable[[Tensor, Tensor], Tensor]
RandnLike = Callable[[Tensor], Tensor]
Refine = Callable[[Tensor, Transition, RandnLike], Tensor]


@dataclass(frozen=True)
class Step:
    """What one reverse step made: `sample` [B, C, H, W] after it, `pred_x0` the image the network expects."""

    t: int
    sample: Tensor
    pred_x0: Tensor


class Prediction(NamedTuple):
    """The network's output, read: the clean image x̂0, and the raw variance channels, C or none of them."""

    pred_x0: Tensor
    variance: Tensor


class DDPM:
    """A respaced DDPM sampler.

    Args:
        total_steps: T, the timesteps of training.
        beta_schedule: linear, quad, const or cosine.
        beta_start: β of timestep 0.
        beta_end: β of timestep T-1.
        objective: what the network predicts: pred_eps, pred_x0 or pred_v (Salimans & Ho 2022).
        var_type: variance of a reverse step: fixed_small β̃, fixed_large β, or learned_range, between the
            two as the network's extra channels say (Nichol & Dhariwal 2021, equation 15).
        clip_denoised: clip x̂0 to [-1, 1] at every step.
        respace_type: how the timesteps of sampling are chosen, see `respace`.
        respace_steps: S, how many; None for all.

    Attributes:
        alphas_cumprod: [T] float64, ᾱ_t.
        transitions: the S reverse steps, in the order visited.

    Raises:
        ValueError: an argument that is none of the above, or S outside of 1 … T.
    """

    def __init__(
        self,
        total_steps: int = 1000,
        beta_schedule: str = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        objective: str = "pred_eps",
        var_type: str = "fixed_small",
        clip_denoised: bool = True,
        respace_type: str = "uniform",
        respace_steps: int | None = None,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective {objective!r} is none of {', '.join(OBJECTIVES)}")
        if var_type not in VAR_TYPES:
            raise ValueError(f"var_type {var_type!r} is none of {', '.join(VAR_TYPES)}")
        self.objective = objective
        self.var_type = var_type
        self.clip_denoised = clip_denoised
        self.alphas_cumprod = (1 - make_betas(beta_schedule, total_steps, beta_start, beta_end)).cumprod(0)
        if not ((self.alphas_cumprod > 0) & (self.alphas_cumprod < 1)).all() or (self.alphas_cumprod.diff() >= 0).any():
            raise ValueError("the betas are too large or too small for the numbers of a computer")

        timesteps = respace(respace_type, total_steps, respace_steps)
        levels = [1.0, *self.alphas_cumprod[timesteps].tolist()]
        self.transitions = tuple(
            Transition(i, t, levels[i + 1], levels[i]) for i, t in reversed(list(enumerate(timesteps)))
        )

    def predict(self, output: Tensor, x: Tensor, transition: Transition) -> Prediction:
        """Read the network's output for `x`.

        Args:
            output: [B, C or 2C, H, W], the prediction and, in a further C channels, the variance.
            x: [B, C, H, W], the noisy sample.

        Returns:
            x̂0 [B, C, H, W], clipped if the diffuser clips.
        """
        channels = x.shape[1]
        output, variance = output.to(x.dtype).split([channels, output.shape[1] - channels], dim=1)

        signal, noise = math.sqrt(transition.alphas_cumprod), math.sqrt(1 - transition.alphas_cumprod)
        if self.objective == "pred_eps":
            pred_x0 = (x - noise * output) / signal
        elif self.objective == "pred_x0":
            pred_x0 = output
        else:
            pred_x0 = signal * x - noise * output
        if self.clip_denoised:
            pred_x0 = pred_x0.clamp(-1, 1)
        return Prediction(pred_x0, variance)

    def reverse(self, x: Tensor, prediction: Prediction, transition: Transition, randn_like: RandnLike) -> Tensor:
        """Draw x_prev ~ p(x_prev | x) (Ho et al. 2020, equation 7 with x̂0 for x_0).

        Args:
            x: [B, C, H, W], the sample at `transition.t`.

        Returns:
            [B, C, H, W]. The last step draws nothing: it returns the mean.

        Raises:
            ValueError: `learned_range` and a network without variance channels.
        """
        tr = transition
        x0_share = math.sqrt(tr.alphas_cumprod_prev) * tr.beta / (1 - tr.alphas_cumprod)
        x_share = math.sqrt(tr.alpha) * (1 - tr.alphas_cumprod_prev) / (1 - tr.alphas_cumprod)
        mean = x0_share * prediction.pred_x0 + x_share * x
        if tr.is_last:
            return mean
        return mean + self._std(prediction.variance, tr) * randn_like(x)

    def _std(self, variance: Tensor, transition: Transition) -> Tensor | float:
        if self.var_type == "fixed_small":
            return math.sqrt(transition.posterior_variance)
        if self.var_type == "fixed_large":
            return math.sqrt(transition.beta)
        if variance.shape[1] == 0:
            raise ValueError("var_type learned_range needs a network that learned its variance, and this one did not")
        low, high = math.log(transition.posterior_variance), math.log(transition.beta)
        log_variance = low + (high - low) * (variance + 1) / 2  # the network's channels reach from -1 to 1
        return torch.exp(log_variance / 2)

    @torch.no_grad()
    def sample_loop(
        self,
        model: Model,
        init_noise: Tensor,
        refine: Refine | None = None,
        randn_like: RandnLike = torch.randn_like,
        steps: int | None = None,
    ) -> Iterator[Step]:
        """Walk from noise to image, one reverse step at a time.

        Args:
            model: maps x [B, C, H, W] and t (int64, [B]) to [B, C or 2C, H, W].
            init_noise: [B, C, H, W] from N(0, 1).
            refine: called after each reverse step with the new sample, the step's constants and
                `randn_like`; what it returns takes the sample's place.
            randn_like: every random draw: per step first the reverse noise, then the refinement's.
            steps: take only the last so many of the S steps (1 … S), from an `init_noise` that is then an image
                noised to the level of the first of them (`diffusions.start`).

        Yields:
            The steps, the last of which holds the image, in [-1, 1] where the model's data was.

        Raises:
            ValueError: steps outside of 1 … S.
        """
        steps = len(self.transitions) if steps is None else steps
        if not 1 <= steps <= len(self.transitions):
            raise ValueError(f"steps must lie in 1 … {len(self.transitions)}, not {steps}")
        x = init_noise
        for transition in self.transitions[-steps:]:
            t = torch.full([len(x)], transition.t, dtype=torch.int64, device=x.device)
            prediction = self.predict(model(x, t), x, transition)
            x = self.reverse(x, prediction, transition, randn_like)
            if refine is not None:
                x = refine(x, transition, randn_like)
            yield Step(transition.t, x, prediction.pred_x0)

    def sample(
        self,
        model: Model,
        init_noise: Tensor,
        refine: Refine | None = None,
        randn_like: RandnLike = torch.randn_like,
        steps: int | None = None,
    ) -> Tensor:
        """The image at the end of `sample_loop`, [B, C, H, W]; same arguments."""
        for step in self.sample_loop(model, init_noise, refine, randn_like, steps):
            x0 = step.sample
        return x0

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noise images as the forward process does: √ᾱ_t x_0 + √(1-ᾱ_t) ε (Ho et al. 2020, equation 4).

        Args:
            x0: [B, C, H, W] in [-1, 1]; t: int64 [B], any training timesteps; noise: like x0.

        Returns:
            [B, C, H, W].
        """
        signal, noise_level = self._levels(x0, t)
        return signal * x0 + noise_level * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the network should say of `q_sample(x0, t, noise)`: by objective ε, x_0, or v = √ᾱ_t ε - √(1-ᾱ_t) x_0.

        Args:
            x0, t, noise: as for `q_sample`.

        Returns:
            [B, C, H, W].
        """
        if self.objective == "pred_eps":
            return noise
        if self.objective == "pred_x0":
            return x0
        signal, noise_level = self._levels(x0, t)
        return signal * noise - noise_level * x0

    def _levels(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1-ᾱ_t), both [B, 1, 1, 1] like `x0`."""
        level = self.alphas_cumprod.to(x0.device)[t].to(x0.dtype)[:, None, None, None]
        return level.sqrt(), (1 - level).sqrt()

"""What training fixed: the noise levels, what the network predicts, and the timestep value it is given."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusions.schedule import Transition, make_betas, respace, to_zero_snr

Denoiser = Callable[[Tensor, Tensor], Tensor]  # x [B, C, H, W] and t [B] → [B, C or 2C, H, W]


class Prediction(NamedTuple):
    """What the network's output means: the clean image x̂0, and its raw variance channels, C of them or none."""

    pred_x0: Tensor
    variance: Tensor


class Objective(NamedTuple):
    """What a network was trained to predict from x = a·x_0 + s·ε, with a = √ᾱ and s = √(1-ᾱ)."""

    pred_x0: Callable[[Tensor, Tensor, float, float], Tensor]  # x_0 from the output, x, a and s
    target: Callable[[Tensor, Tensor, Any, Any], Tensor]  # the wanted output, from x_0, ε, a and s


OBJECTIVES = {
    "pred_eps": Objective(lambda output, x, a, s: (x - s * output) / a, lambda x0, eps, a, s: eps),
    "pred_x0": Objective(lambda output, x, a, s: output, lambda x0, eps, a, s: x0),
    # v = a·ε - s·x_0 (Salimans & Ho 2022)
    "pred_v": Objective(lambda output, x, a, s: a * x - s * output, lambda x0, eps, a, s: a * eps - s * x0),
}


class Process:
    """A diffusion process of T discrete timesteps (Ho et al. 2020, arXiv:2006.11239).

    Args:
        total_steps: T, the timesteps of training.
        beta_schedule: one of `BETA_SCHEDULES`, or `given`, for `betas`.
        beta_start: β of timestep 0.
        beta_end: β of timestep T-1.
        objective: what the network predicts: pred_eps, pred_x0 or pred_v.
        clip_denoised: clip x̂0 at every step.
        rescale_timesteps: pass t·1000/T to the network (Nichol & Dhariwal 2021) rather than t.
        betas: all T of them, if beta_schedule is `given`.
        zero_terminal_snr: make the last noise level pure noise, see `to_zero_snr`.
        clip_range: clip x̂0 to ± this.
        dynamic_threshold: a quantile q in 0 … 1 (Saharia et al. 2022, dynamic thresholding). x̂0 is clipped to the
            q-quantile of its absolute values, at least 1 and at most `clip_range`, and divided by it. None clips as
            `clip_denoised` says.

    Attributes:
        total_steps: T.
        alphas_cumprod: [T] float64, ᾱ_t.

    Raises:
        ValueError: an argument outside of its range.
    """

    def __init__(
        self,
        total_steps: int = 1000,
        beta_schedule: str = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        objective: str = "pred_eps",
        clip_denoised: bool = True,
        rescale_timesteps: bool = False,
        betas: Sequence[float] | None = None,
        zero_terminal_snr: bool = False,
        clip_range: float = 1.0,
        dynamic_threshold: float | None = None,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
        self.objective_name = objective  # a function without a name cannot be pickled
        self.clip_denoised = clip_denoised
        self.rescale_timesteps = rescale_timesteps
        if not clip_range > 0:
            raise ValueError(f"clip_range must be above 0, not {clip_range}")
        if dynamic_threshold is not None and not 0 < dynamic_threshold <= 1:
            raise ValueError(f"dynamic_threshold must be in 0 … 1, not {dynamic_threshold}")
        self.clip_range = clip_range
        self.dynamic_threshold = dynamic_threshold
        if beta_schedule == "given" or betas is not None:
            values = _given_betas(betas, beta_schedule, total_steps)
        else:
            values = make_betas(beta_schedule, total_steps, beta_start, beta_end)
        self.total_steps = total_steps
        self.alphas_cumprod = (1 - values).cumprod(0)
        if not ((self.alphas_cumprod > 0) & (self.alphas_cumprod < 1)).all() or (self.alphas_cumprod.diff() >= 0).any():
            raise ValueError("the betas are too large or too small: some noise levels are equal in float64")
        if zero_terminal_snr:
            self.alphas_cumprod = to_zero_snr(self.alphas_cumprod)

    @property
    def objective(self) -> Objective:
        """What the network predicts."""
        return OBJECTIVES[self.objective_name]

    def transitions(self, respace_type: str = "uniform", respace_steps: int | None = None) -> tuple[Transition, ...]:
        """Return the S reverse steps of sampling, in the order visited.

        Args:
            respace_type, respace_steps: see `respace`.

        Raises:
            ValueError: an unknown type, S outside of 1 … T, or a visit to pure noise, from which ε does not give x_0.
        """
        timesteps = respace(respace_type, self.total_steps, respace_steps)
        levels = [1.0, *self.alphas_cumprod[timesteps].tolist()]
        if levels[-1] == 0 and self.objective_name == "pred_eps":
            raise ValueError(
                f"timestep {timesteps[-1]} is pure noise (zero_terminal_snr), from which a network that predicts noise "
                "cannot recover the image: choose timesteps that leave it out, for example respace_type uniform"
            )
        return tuple(
            Transition(i, t, levels[i + 1], levels[i], self.model_t(t)) for i, t in reversed(list(enumerate(timesteps)))
        )

    def model_t(self, t: int) -> float:
        """Return the timestep value passed to the network at timestep t."""
        return t * (1000.0 / self.total_steps) if self.rescale_timesteps else t

    def predict(self, model: Denoiser, x: Tensor, transition: Transition) -> Prediction:
        """Ask the network for the clean image.

        Args:
            model: the network, called with x and t, int64 or (rescaled) float32 [B].
            x: [B, C, H, W], the sample at `transition`.

        Returns:
            x̂0 [B, C, H, W], clipped if the process clips.
        """
        output = model(x, torch.full([len(x)], transition.model_t, device=x.device))
        channels = x.shape[1]
        output, variance = output.to(x.dtype).split([channels, output.shape[1] - channels], dim=1)
        signal, noise_level = math.sqrt(transition.alphas_cumprod), math.sqrt(1 - transition.alphas_cumprod)
        pred_x0 = self.objective.pred_x0(output, x, signal, noise_level)
        return Prediction(self.clip(pred_x0), variance)

    def clip(self, pred_x0: Tensor) -> Tensor:
        """Clip x̂0, [B, C, H, W], to the range that this process allows."""
        if self.dynamic_threshold is not None:
            limit = torch.quantile(pred_x0.abs().flatten(1), self.dynamic_threshold, dim=1)
            limit = limit.clamp(1, max(1.0, self.clip_range))[:, None, None, None]
            return pred_x0.clamp(-limit, limit) / limit
        return pred_x0.clamp(-self.clip_range, self.clip_range) if self.clip_denoised else pred_x0

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
        """Return what the network should predict from `q_sample(x0, t, noise)`: ε, x_0, or v = √ᾱ_t ε - √(1-ᾱ_t) x_0.

        Args:
            x0, t, noise: as for `q_sample`.

        Returns:
            [B, C, H, W].
        """
        return self.objective.target(x0, noise, *self._levels(x0, t))

    def _levels(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return √ᾱ_t and √(1-ᾱ_t), both [B, 1, 1, 1] like `x0`."""
        levels = self.alphas_cumprod.to(x0.dtype).to(x0.device)  # in this order: some devices have no float64
        level = levels[t][:, None, None, None]
        return level.sqrt(), (1 - level).sqrt()


def _given_betas(betas: Sequence[float] | None, beta_schedule: str, total_steps: int) -> Tensor:
    """Check a list of betas against the other arguments and return it, [T] float64."""
    if betas is None or beta_schedule != "given":
        raise ValueError("betas needs beta_schedule 'given', and the other way round")
    values = torch.tensor(betas, dtype=torch.float64)
    if values.shape != (total_steps,):
        raise ValueError(f"betas must be a list of total_steps numbers, {total_steps}")
    if not ((values > 0) & (values < 1)).all():
        raise ValueError("betas must be between 0 and 1")
    return values

"""How much the loss at each timestep counts."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Weighting(Protocol):
    """Maps a batch's timesteps, int64 [B], and their losses, [B], to weights, [B]; may learn from what it sees."""

    def __call__(self, t: Tensor, losses: Tensor) -> Tensor: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class P2:
    """Spares the nearly noise-free timesteps: 1/(k + SNR)^γ, of mean 1 (Choi et al., CVPR 2022, equation 8).

    Args:
        alphas_cumprod: [T].
        gamma: 0 weighs all equally; 1 hardly trains the last steps, which shows as speckle.
    """

    def __init__(self, alphas_cumprod: Tensor, gamma: float, k: float = 1.0) -> None:
        weights = (k + alphas_cumprod / (1 - alphas_cumprod)) ** -gamma
        self.weights = (weights / weights.mean()).float()

    def __call__(self, t: Tensor, losses: Tensor) -> Tensor:
        return self.weights[t]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Balanced:
    """Weighs every noise level equally: by the inverse of its loss, tracked by a running mean.

    This is what learned uncertainties converge to (Kendall et al. 2018; for diffusion Karras et al. 2024,
    arXiv:2312.02696), in shares of the timesteps rather than as a small network.

    Args:
        total_steps: T.
        device: of the timesteps and losses.
        shares: of the timesteps, each with a mean of its own.
        rate: of the running means.
    """

    def __init__(self, total_steps: int, device: torch.device, shares: int = 32, rate: float = 0.03) -> None:
        self.total_steps = total_steps
        self.rate = rate
        self.means = torch.full([shares], 0.2, device=device)

    def __call__(self, t: Tensor, losses: Tensor) -> Tensor:
        share = t * len(self.means) // self.total_steps
        moved = torch.lerp(self.means[share], losses.detach(), self.rate)
        self.means = self.means.scatter_reduce(0, share, moved, "mean", include_self=False)
        weights = 1 / self.means
        return (weights / weights.mean())[share]

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.means = state["means"].to(self.means)

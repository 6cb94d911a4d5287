"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for convolutions as well as matrices."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class Muon(torch.optim.Muon):
    """torch's Muon on any weights of two dimensions or more: each output channel's filter is a row of a matrix.

    The matrices are views of the parameters, so that a step changes the parameters themselves; they must be
    contiguous and stay where they are. The step is scaled so that AdamW's learning rates suit (Liu et al. 2025,
    arXiv:2502.16982).
    """

    def __init__(self, params: Iterable[nn.Parameter], **settings: Any) -> None:
        self.weights = list(params)
        matrices = [nn.Parameter(weight.detach().flatten(1)) for weight in self.weights]
        super().__init__(matrices, adjust_lr_fn="match_rms_adamw", **settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step along the weights' gradients."""
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        return super().step(closure)

"""The walk from noise to image, and the two things it asks for: a step rule, and a guide."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusions.process import Denoiser, Prediction, Process
from diffusions.schedule import Transition

RandnLike = Callable[[Tensor], Tensor]

# x [B, C, H, W] at a transition's noise level, and the prediction there → x at the level the transition leads to
StepRule = Callable[[Tensor, Prediction, Transition, RandnLike], Tensor]


@dataclass(frozen=True)
class Step:
    """What one reverse step made: `sample` [B, C, H, W] after it, `pred_x0` the image it went towards."""

    t: int
    sample: Tensor
    pred_x0: Tensor


class Guide:
    """Steers a walk; by itself it changes nothing. A guide overrides one of the hooks, or both.

    Attributes:
        reference: [B, C, H, W] in [-1, 1], one image per sample.
        low_frequencies: [B, C, H, W], what of the reference binds: a rough estimate of the clean image.
    """

    reference: Tensor
    low_frequencies: Tensor

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        """Change the prediction x̂0 before the step: [B, C, H, W] → [B, C, H, W]. `x` is the sample it is of."""
        return pred_x0

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike) -> Tensor:
        """Change the sample after the step, at the level that `transition` leads to: [B, C, H, W] → [B, C, H, W]."""
        return sample


class Sampler(ABC):
    """Walks from noise to image in S of a process's steps; a subclass says how one step goes.

    Args:
        process: what the network was trained on.
        respace_steps: S; None for all.
        respace_type: which timesteps, see `diffusions.schedule.respace`.

    Attributes:
        transitions: the S reverse steps, in the order visited.
        needs_variance: whether the step rule reads the variance that a network predicts.

    Raises:
        ValueError: an unknown respace_type, or S outside of 1 … T.
    """

    needs_variance = False

    def __init__(self, process: Process, respace_steps: int | None = None, respace_type: str = "uniform") -> None:
        self.process = process
        self.transitions = process.transitions(respace_type, respace_steps)

    @abstractmethod
    def step_rule(self) -> StepRule:
        """The rule for one walk; a rule that remembers earlier steps is made anew here."""

    def check_variance(self, channels: int) -> None:
        """See that the network predicts a variance, where the step rule needs one.

        Args:
            channels: of the network's output beyond the image's.

        Raises:
            ValueError: there are none.
        """
        if self.needs_variance and channels == 0:
            raise ValueError("var_type learned_range needs a model that learned its variance, and this one did not")

    @torch.no_grad()
    def sample_loop(
        self,
        model: Denoiser,
        x: Tensor,
        guide: Guide | None = None,
        randn_like: RandnLike = torch.randn_like,
        walk_steps: int | None = None,
    ) -> Iterator[Step]:
        """Walk from noise to image, one reverse step at a time.

        Args:
            model: maps x [B, C, H, W] and t [B] to [B, C or 2C, H, W].
            x: [B, C, H, W], where the walk begins: noise from N(0, 1), or what `noised_start` made.
            guide: steers each step; None for samples that follow nothing.
            randn_like: every random draw: per step first the reverse noise, then the guide's.
            walk_steps: walk only the last so many of the S steps (1 … S); None for all.

        Yields:
            The steps, the last of which holds the image. It may leave [-1, 1] a little, where a guide acts after
            the last clip: clip it where pixels are made.

        Raises:
            ValueError: walk_steps outside of 1 … S, or a network whose output the step rule cannot use.
        """
        guide = guide or Guide()
        step_rule = self.step_rule()
        for transition in self.last_transitions(walk_steps):
            prediction = self.process.predict(model, x, transition)
            self.check_variance(prediction.variance.shape[1])
            prediction = prediction._replace(pred_x0=guide.guide_x0(prediction.pred_x0, x, transition))
            x = step_rule(x, prediction, transition, randn_like)
            x = guide.guide_sample(x, transition, randn_like)
            yield Step(transition.t, x, prediction.pred_x0)

    def sample(self, model: Denoiser, x: Tensor, *args: Any, **options: Any) -> Tensor:
        """The image at the end of `sample_loop`, [B, C, H, W]; all arguments are its."""
        for step in self.sample_loop(model, x, *args, **options):
            image = step.sample
        return image

    def last_transitions(self, walk_steps: int | None = None) -> tuple[Transition, ...]:
        """The last so many of the S transitions; None for all.

        Raises:
            ValueError: walk_steps outside of 1 … S.
        """
        total = len(self.transitions)
        walk_steps = total if walk_steps is None else walk_steps
        if not 1 <= walk_steps <= total:
            raise ValueError(f"walk_steps must lie in 1 … {total}, not {walk_steps}")
        return self.transitions[-walk_steps:]

"""The walk from noise to image, and the two things it asks for: a step rule, and a guide."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusions.low_pass import LowPass
from diffusions.process import Denoiser, Prediction, Process
from diffusions.schedule import Transition

RandnLike = Callable[[Tensor], Tensor]

# x [B, C, H, W] at a transition's noise level, and the prediction there → x at the level the transition leads to
StepRule = Callable[[Tensor, Prediction, Transition, RandnLike], Tensor]

MAX_FILTERS = 12  # different N along one walk


@dataclass(frozen=True)
class Step:
    """The result of one reverse step: `sample` [B, C, H, W] after it, and `pred_x0`, the image it moved towards."""

    t: int
    sample: Tensor
    pred_x0: Tensor


def check_images(images: Tensor, name: str) -> None:
    """Raise ValueError if a tensor is not [B, C, H, W], with any number of channels, of a floating-point type."""
    if images.ndim != 4 or not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise ValueError(f"{name} must be a floating-point tensor [B, C, H, W], not {kind} {list(images.shape)}")


class Guide:
    """Steers a walk towards a reference. A subclass overrides one of the two hooks, or both; this one does nothing.

    Args:
        reference: y_0, [B, C, H, W] in [-1, 1], one image per sample, of any C and any floating-point type, on the
            sample's device.
        downsample_factor: N ≥ 1; the larger, the less of the reference binds. Two of them, (A, B), change N along the
            walk, geometrically from A at the first refined step to B at the last, in at most 12 values.
        interp_method: kernel of φ_N: cubic, lanczos2, lanczos3, linear or box.
        pad_mode: how φ_N continues the image beyond its border; symmetric, the authors' choice, keeps constants
            constant.
        range_t: b; guide only at respaced steps S-1 … b (Choi et al. 2021, section 4.2). 0 is every step.
        low_pass: which φ_N: resize, the paper's, projection, gaussian or dft, see `LowPass`.
        mask: m, [B, 1, H, W] in 0 … 1, where the reference binds; None for everywhere. At N = 1, this is inpainting.
        weight: W in 0 … 1, how much of its correction a guide makes; 1 is the paper's.

    Attributes:
        low_pass: φ_N; of a walk along which N changes, the one of the smallest N.
        low_passes: the φ_N of each step, by its index.
        low_frequencies: φ_N(y_0), [B, C, H, W]: what of the reference binds, a rough estimate of the clean image.

    Raises:
        ValueError: a reference of another kind, a factor below 1 or above the image's shorter side, a negative range_t,
            an unknown low_pass, or a mask or weight of another shape, type or range.
    """

    def __init__(
        self,
        reference: Tensor,
        downsample_factor: float | Sequence[float] = 8,
        interp_method: str = "cubic",
        pad_mode: str = "symmetric",
        range_t: int = 0,
        low_pass: str = "resize",
        mask: Tensor | None = None,
        weight: float = 1.0,
    ) -> None:
        check_images(reference, "reference")
        if range_t < 0:
            raise ValueError(f"range_t must be at least 0, not {range_t}")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be in 0 … 1, not {weight}")
        if mask is not None:
            shape = [len(reference), 1, *reference.shape[-2:]]
            if not isinstance(mask, Tensor) or list(mask.shape) != shape or not ((mask >= 0) & (mask <= 1)).all():
                raise ValueError(f"mask must be a tensor of shape {shape} with values in 0 … 1")
        self.reference = reference
        self.range_t = range_t
        self.factors = downsample_factor if isinstance(downsample_factor, Sequence) else (downsample_factor,) * 2
        if len(self.factors) != 2:
            raise ValueError(f"downsample_factor must be one number, or two to go along, not {downsample_factor}")
        self.make_low_pass = lambda factor: LowPass(reference, factor, interp_method, pad_mode, low_pass)
        self.low_pass = min(map(self.make_low_pass, {*self.factors}), key=lambda low_pass: low_pass.factor)
        self.low_passes: Mapping[int, LowPass] = defaultdict(lambda: self.low_pass)
        self.share = weight if mask is None else weight * mask
        self.low_frequencies = self.low_pass(reference)

    def begin(self, walk: Sequence[Transition]) -> None:
        """Choose the φ_N of every step of a walk; `Sampler.sample_loop` calls this before the first."""
        first, last = self.factors
        if first == last:
            return
        refined = [transition.index for transition in walk if transition.index >= self.range_t]
        count = min(MAX_FILTERS, len(refined))
        shares = [i / max(count - 1, 1) for i in range(count)]
        filters = [self.make_low_pass(first ** (1 - share) * last**share) for share in shares]
        self.low_passes = {index: filters[i * count // len(refined)] for i, index in enumerate(refined)}

    def bind(self, difference: Tensor, transition: Transition) -> Tensor:
        """Return w·m ⊙ φ_N of the difference between the reference and an image: [B, C, H, W] → [B, C, H, W]."""
        return self.share * self.low_passes[transition.index](difference)

    def veil(self, pred_x0: Tensor) -> Tensor:
        """Return how far the network's colours are from those that bind: the RMS of φ_N(y_0 - x̂0), in grey levels.

        If every step is refined, a sample has the reference's low frequencies whatever the network makes of them. Where
        it could not have drawn the reference, it predicts others, and the reference's stay a veil over its drawing.
        [B, C, H, W] → [B].
        """
        return 127.5 * self.low_pass(self.reference - pred_x0).square().mean((1, 2, 3)).sqrt()

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        """Change the prediction x̂0 before the step: [B, C, H, W] → [B, C, H, W]. It was predicted from `x`."""
        return pred_x0

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike) -> Tensor:
        """Change the sample after the step, at the level that `transition` leads to: [B, C, H, W] → [B, C, H, W]."""
        return sample


class Sampler:
    """Walks from noise to image in S of a process's steps; a subclass defines one step.

    Args:
        process: what the network was trained on.
        respace_steps: S; None for all.
        respace_type: which timesteps, see `diffusions.schedule.respace`.

    Attributes:
        transitions: the S reverse steps, in the order visited.
        needs_variance: whether the step rule reads the variance that a network predicts.
        step: the step rule of a subclass that remembers no earlier steps; another overrides `step_rule`.

    Raises:
        ValueError: an unknown respace_type, or S outside of 1 … T.
    """

    needs_variance = False
    step: StepRule

    def __init__(self, process: Process, respace_steps: int | None = None, respace_type: str = "uniform") -> None:
        self.process = process
        self.transitions = process.transitions(respace_type, respace_steps)

    def step_rule(self) -> StepRule:
        """Return the rule for one walk: a new one each time, if it remembers earlier steps."""
        return self.step

    def check_variance(self, channels: int) -> None:
        """Raise if the step rule needs a variance that the network does not predict.

        Args:
            channels: of the network's output beyond the image's.

        Raises:
            ValueError: there are none, but they are needed.
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
            x: [B, C, H, W], of any floating-point type, where the walk begins: noise from N(0, 1), or the result of
                `noised_start`.
            guide: steers each step; None for unconditional samples.
            randn_like: makes every random draw: in each step first the reverse noise, then the guide's.
            walk_steps: walk only this many of the S steps, the last (1 … S); None for all.

        Yields:
            The steps; the last one holds the image. It may leave [-1, 1] a little if a guide acts after the last
            clip: clip it when making pixels.

        Raises:
            ValueError: x of another kind or of another shape than the reference, walk_steps outside of 1 … S, or a
                network whose output the step rule cannot use.
        """
        check_images(x, "x")
        if guide is not None and guide.reference.shape[1:] != x.shape[1:]:
            wanted, found = list(guide.reference.shape[1:]), list(x.shape[1:])
            raise ValueError(f"x must have images of the reference's shape {wanted}, not {found}")
        step_rule = self.step_rule()
        walk = self.last_transitions(walk_steps)
        if guide is not None:
            guide.begin(walk)
        for transition in walk:
            prediction = self.process.predict(model, x, transition)
            self.check_variance(prediction.variance.shape[1])
            if guide is not None:
                prediction = prediction._replace(pred_x0=guide.guide_x0(prediction.pred_x0, x, transition))
            x = step_rule(x, prediction, transition, randn_like)
            if guide is not None:
                x = guide.guide_sample(x, transition, randn_like)
            yield Step(transition.t, x, prediction.pred_x0)

    def sample(self, model: Denoiser, x: Tensor, *args: Any, **options: Any) -> Tensor:
        """Return the image at the end of `sample_loop`, [B, C, H, W]; takes the same arguments."""
        for step in self.sample_loop(model, x, *args, **options):
            image = step.sample
        return image

    def last_transitions(self, walk_steps: int | None = None) -> tuple[Transition, ...]:
        """Return the last `walk_steps` of the S transitions; None for all.

        Raises:
            ValueError: walk_steps outside of 1 … S.
        """
        total = len(self.transitions)
        walk_steps = total if walk_steps is None else walk_steps
        if not 1 <= walk_steps <= total:
            raise ValueError(f"walk_steps must be in 1 … {total}, not {walk_steps}")
        return self.transitions[-walk_steps:]


def noised_start(sampler: Sampler, estimate: Tensor, noise: Tensor, walk_steps: int) -> Tensor:
    """Make the start of a walk of only the last steps: a rough estimate of the image, noised.

    The early steps settle only what the estimate, here the low-passed reference, already contains. Noised far enough,
    estimate and image are almost the same, and the reverse steps shrink the difference ("Come-Closer-Diffuse-Faster",
    Chung et al., CVPR 2022, arXiv:2112.05146, theorem 1), so the early steps can be left out.

    Args:
        sampler: whose last steps will be walked.
        estimate: [B, C, H, W] in [-1, 1], roughly the clean image: φ_N(y_0) for ILVR.
        noise: like `estimate`, from N(0, 1).
        walk_steps: 1 … S. All S begin with pure noise and take nothing from the estimate, though the last noise
            level of training would let a little of it through.

    Returns:
        [B, C, H, W], the estimate noised to the level of the first step walked.

    Raises:
        ValueError: walk_steps outside of 1 … S.
    """
    first = sampler.last_transitions(walk_steps)[0]
    if first is sampler.transitions[0]:
        return noise
    level = torch.tensor(first.alphas_cumprod, dtype=estimate.dtype, device=estimate.device)
    return level.sqrt() * estimate + (1 - level).sqrt() * noise

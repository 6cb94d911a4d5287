"""Ideas that were tried and not adopted, as rows of benchmarks/research/translation.py."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from diffusions import ILVR, Guide, Process, Regions
from diffusions.process import Denoiser
from diffusions.regions import CONTRAST, MIN_LEVEL, softmax_mean
from diffusions.sampler import RandnLike
from diffusions.schedule import Transition

COLOURS = 512  # of a palette
WIDTH, COLOUR_WIDTH = 3, 0.3  # σ of Filter-Guided Diffusion's bilateral filter, in pixels and in colours of -1 … 1
JUDGED = 50, 150, 300  # timesteps
FREE = 0.8  # ᾱ above which the gradient leaves the sample alone
PUSH = 1.0  # the gradient's weight; 4 and 16 are worse


class Unsmoothed(Regions):
    """The mean of y_0 - x̂0 itself. Thin outlines take the reference's mean colour there, and fade."""

    def correction(self, pred_x0: Tensor, transition: Transition) -> Tensor:
        return self.reference - pred_x0


class Twice(Regions):
    """The correction, applied twice."""

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        return super().guide_x0(super().guide_x0(pred_x0, x, transition), x, transition)


class Fading(ILVR):
    """The paper's refinement with a weight that falls with the noise: √(1-ᾱ) of the level that a step leads to."""

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        refined = super().guide_sample(sample, transition, randn_like)
        return torch.lerp(sample, refined, math.sqrt(1 - transition.alphas_cumprod_prev))


class Gradient(ILVR):
    """The paper's refinement while x̂0 is vague, then steps down ∇_x ‖φ_N(y_0 - x̂0)‖ (DPS), then nothing.

    Chung et al. 2023 (arXiv:2209.14687). It costs one more forward pass and a backward pass per call.
    """

    def __init__(self, model: Denoiser, process: Process, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.model, self.process = model, process

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        self.push = torch.zeros_like(x)
        if MIN_LEVEL <= transition.alphas_cumprod < FREE:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                lacking = self.low_pass(self.reference - self.process.predict(self.model, x, transition).pred_x0)
                self.push = -PUSH * torch.autograd.grad(lacking.square().sum((1, 2, 3)).sqrt().sum(), x)[0]
        return pred_x0

    def guide_sample(self, sample: Tensor, transition: Transition, randn_like: RandnLike = torch.randn_like) -> Tensor:
        if transition.alphas_cumprod < MIN_LEVEL:
            return super().guide_sample(sample, transition, randn_like)
        return sample + self.push


class FilterGuided(Guide):
    """Filter-Guided Diffusion (Gu, Yang and Davis, SIGGRAPH 2024, arXiv:2306.17141), without its normalisation.

    x̂0 + B(y_0 - x̂0), B being a joint bilateral filter that takes its weights from the reference. It has no φ_N, and so
    no N.
    """

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        if transition.index < self.range_t:
            return pred_x0
        axes = [torch.arange(size).to(pred_x0) / WIDTH for size in pred_x0.shape[-2:]]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(pred_x0), -1, -1, -1)
        features = torch.cat([places, self.reference / COLOUR_WIDTH], dim=1).flatten(2).mT
        mean = softmax_mean(features, features, (self.reference - pred_x0).flatten(2).mT)
        return pred_x0 + mean.mT.unflatten(2, pred_x0.shape[-2:])


def in_colours(palette: Tensor, references: Tensor) -> Tensor:
    """Replace every pixel by the mean of the palette's colours near it. [n, C], [B, C, H, W] → [B, C, H, W]."""
    colours = palette.expand(len(references), -1, -1)
    pixels = references.flatten(2).mT / CONTRAST
    return softmax_mean(pixels, colours / CONTRAST, colours).mT.unflatten(2, references.shape[-2:])


def palette_of(real: Tensor) -> Tensor:
    """Pick colours from real images' pixels. [N, C, H, W] → [COLOURS, C]."""
    pixels = real.movedim(1, -1).flatten(0, 2)
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:COLOURS]]


IDEAS = "regions, unsmoothed", "regions, twice", "fading", "gradient", "palette", "regions, palette", "FGD"


def make_ideas(model: Denoiser, process: Process, real: Tensor) -> dict[str, Callable[..., Guide]]:
    """Return what makes a guide from references, by name, as `GUIDES` does.

    Args:
        model: the network.
        process: what it was trained on.
        real: [N, C, H, W], images that the model could have drawn.
    """
    palette = palette_of(real)
    guides: list[Callable[..., Guide]] = [
        Unsmoothed,
        Twice,
        Fading,
        partial(Gradient, model, process),
        lambda references, **options: ILVR(in_colours(palette, references), **options),
        lambda references, **options: Regions(in_colours(palette, references), **options),
        FilterGuided,
    ]
    return dict(zip(IDEAS, guides, strict=True))


def best_of(model: Denoiser, process: Process, candidates: Sequence[Tensor]) -> Tensor:
    """Choose from each sample's candidates the one with the lowest denoising loss.

    Args:
        model: the network.
        process: what it was trained on.
        candidates: each [B, C, H, W], finished.

    Returns:
        [B, C, H, W].
    """
    losses = torch.stack([denoising_loss(model, process, drawn.clamp(-1, 1)) for drawn in candidates])
    return torch.stack(list(candidates))[losses.argmin(0), torch.arange(len(candidates[0]))]


@torch.no_grad()
def denoising_loss(model: Denoiser, process: Process, images: Tensor) -> Tensor:
    """Average ‖ε̂ - ε‖² over `JUDGED`, with the same ε for every image. [B, C, H, W] → [B]."""
    levels = {transition.t: transition for transition in process.transitions()}
    losses = []
    for t in JUDGED:
        level = levels[t].alphas_cumprod
        eps = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(t)).expand_as(images)
        noised = math.sqrt(level) * images + math.sqrt(1 - level) * eps
        off = torch.cat([process.predict(model, x, levels[t]).pred_x0 for x in noised.split(16)]) - images
        losses.append(level / (1 - level) * off.square().mean((1, 2, 3)))
    return torch.stack(losses).mean(0)

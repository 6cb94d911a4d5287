"""ILVR in a loop that someone else wrote: a callback for the pipelines of diffusers, which it does not import."""

import inspect
from typing import Any

import torch
from torch import Tensor

from diffusions.sampler import Guide


class ILVRCallback:
    """Refinement of a pipeline's latents after each step: x = x' + w·m ⊙ φ_N(y - x') (Choi et al. 2021, algorithm 1).

    y are the reference's latents, noised by the pipeline's own scheduler to the level at which the network sees the
    latents next, and clean after the last step. Pass an object of this class to any pipeline that takes
    `callback_on_step_end`. The arithmetic is float32, whatever the pipeline's precision.

    A scheduler of second order (Heun, KDPM2) looks ahead in every other call, and its next step does not begin from
    what it saw there: those latents are left alone. UniPC's corrector computes each step's latents anew from the step
    before, so there the reference acts through the network's predictions until the last step; for more of it give the
    scheduler `disable_corrector`.

    Args:
        reference_latents: y_0, [B, C, H, W] or [1, C, H, W] for all, on the device of the pipeline's latents and as it
            scales them: for Stable Diffusion, what `pipe.vae` encodes times `pipe.vae.config.scaling_factor`.
        downsample_factor: N ≥ 1, in latents: with an autoencoder of factor 8, N = 4 binds squares of 32 pixels.
        interp_method: kernel of φ_N: cubic, lanczos2, lanczos3, linear or box.
        range_t: b; leave the last b of the scheduler's timesteps unrefined. 0 refines all.
        low_pass: how φ_N comes back to full size: resize, the paper's, or projection, the exact one.
        weight: w in 0 … 1; 0 changes nothing, 1 is the paper's.
        mask: m in 0 … 1, [1 or B, 1, H, W] in latents, one for each reference: where it binds; None for everywhere.
        generator: draws the reference's noise; None for torch's own.
        pipe: the pipeline, to see at once whether it takes this. Some swallow arguments that they do not know.

    Raises:
        ValueError: an argument outside of its range, or `pipe` has no `callback_on_step_end`. When called: latents of
            another shape or device than the reference's, or a scheduler that cannot noise them.
    """

    def __init__(
        self,
        reference_latents: Tensor,
        downsample_factor: float = 8,
        interp_method: str = "cubic",
        range_t: int = 0,
        low_pass: str = "resize",
        weight: float = 1.0,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        pipe: Any = None,
    ) -> None:
        if pipe is not None and "callback_on_step_end" not in inspect.signature(pipe.__call__).parameters:
            raise ValueError(f"{type(pipe).__name__} takes no callback_on_step_end: ILVR cannot act in it")
        self.reference = reference_latents.float()
        mask = None if mask is None else mask.to(self.reference)
        options: dict[str, Any] = {"range_t": range_t, "low_pass": low_pass, "mask": mask, "weight": weight}
        self.guide = Guide(self.reference, float(downsample_factor), interp_method, **options)
        self.generator = generator

    @torch.no_grad()
    def __call__(self, pipe: Any, step: int, timestep: Any, callback_kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Refine the latents after a step, as a pipeline of diffusers calls it.

        Args:
            pipe: the pipeline; its scheduler has just made the step.
            step: the step's number, from 0.
            timestep: the one that the step began at.
            callback_kwargs: `latents`, [B, C, H, W], and whatever else the pipeline passes.

        Returns:
            `latents`, refined, of the same dtype.
        """
        if "latents" not in callback_kwargs:
            raise ValueError('ILVRCallback needs "latents" among callback_on_step_end_tensor_inputs')
        latents = callback_kwargs["latents"]
        shape, own = tuple(latents.shape), tuple(self.reference.shape)
        if own[1:] != shape[1:] or own[0] not in {1, shape[0]}:
            raise ValueError(f"reference_latents are of shape {list(own)}, but the pipeline's latents {list(shape)}")
        if self.reference.device != latents.device:
            raise ValueError(f"reference_latents are on {self.reference.device}, but the latents on {latents.device}")
        scheduler = pipe.scheduler
        if not hasattr(scheduler, "add_noise") and not hasattr(scheduler, "scale_noise"):
            raise ValueError(f"{type(scheduler).__name__} has neither add_noise nor scale_noise, which ILVR needs")
        left = scheduler.timesteps[_next_index(pipe, step, timestep) :]
        looks_ahead = len(left) and not getattr(scheduler, "state_in_first_order", True)
        if len(left) < self.guide.range_t or looks_ahead:
            return {"latents": latents}
        x = latents.float()
        refined = x + self.guide.share * self.guide.low_pass(self._noised(scheduler, x, left[:1]) - x)
        return {"latents": refined.to(latents.dtype)}

    def _noised(self, scheduler: Any, x: Tensor, timestep: Tensor) -> Tensor:
        """Return y, like x: the reference at a timestep [1]; clean at none [0]."""
        reference = self.reference.expand_as(x)
        if not len(timestep):
            return reference
        device = x.device if self.generator is None else self.generator.device
        noise = torch.randn(x.shape, generator=self.generator, device=device).to(x.device)
        if hasattr(scheduler, "scale_noise"):  # flow matching
            return scheduler.scale_noise(reference, timestep, noise)
        return scheduler.add_noise(reference, noise, timestep)


def _next_index(pipe: Any, step: int, timestep: Any) -> int:
    """Return which of the scheduler's timesteps comes next: their number if there is none.

    A pipeline may walk only some of them. Most schedulers count; for the others the timestep just used is looked up,
    and where it comes twice (PNDM), the place is taken that an image-to-image pipeline, which leaves out the first
    ones, has at this step.
    """
    scheduler = pipe.scheduler
    if getattr(scheduler, "step_index", None) is not None:
        return scheduler.step_index
    places = (scheduler.timesteps == timestep).nonzero().flatten().tolist()
    expected = len(scheduler.timesteps) - getattr(pipe, "num_timesteps", len(scheduler.timesteps)) + step
    return 1 + min(places, key=lambda place: abs(place - expected))

"""A word of advice where references will shine through the samples."""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from diffusions import Step
from diffusions.low_pass import LowPass
from diffusions.schedule import Transition
from utils.run.job import Job
from utils.run.samples import Sample

CLEAR = 0.3, 0.7  # ᾱ between which the network expects colours, and can still be led to others
VEILED = 18  # grey levels; benchmarks/veil.py shows what lies below and above


class Veil:
    """Sees on the first batch whether the reference's colours will lie over the samples like a veil, and says so once.

    Refined at every step, a sample has the reference's low frequencies whatever the network makes of them. The network
    expects others where it could not have drawn the reference: then they stay what is laid over its drawing.

    Args:
        job: whose samples are seen. Only the paper's refinement of every step, of pixels, is judged.
    """

    def __init__(self, job: Job) -> None:
        self.settings = job.plan.settings
        judged = self.settings.refine == "sample" and not any(self.settings.range_t) and job.model.autoencoder is None
        walk = job.sampler.last_transitions(self.settings.walk_steps)
        self.t = clear_timestep(walk) if judged else None  # what is waited for

    def see(self, step: Step, batch: Sequence[Sample], references: Sequence[Tensor]) -> None:
        """Look at a step of a batch of one binding; the host waits for it once.

        Args:
            references: one per sample, [C, H, W] in [-1, 1].
        """
        if step.t != self.t:
            return
        self.t = None
        reference = torch.stack(list(references)).to(step.pred_x0)
        factor = batch[0].binding.downsample_factor
        low_pass = LowPass(reference, factor, self.settings.interp_method, low_pass=self.settings.low_pass)
        apart = veil(low_pass, reference, step.pred_x0).mean().item()
        if apart > VEILED:
            tqdm.write(
                f"At N = {factor:g} the references' colours are {apart:.0f} of 255 grey levels off what the model "
                "expects, and will lie over its images like a veil: range_t 20% or refine regions makes cleaner ones."
            )


def clear_timestep(walk: Sequence[Transition]) -> int | None:
    """The middle one of a walk's timesteps at which to look, if it has any."""
    clear = [step.t for step in walk if CLEAR[0] <= step.alphas_cumprod <= CLEAR[1]]
    return clear[len(clear) // 2] if clear else None


def veil(low_pass: LowPass, reference: Tensor, pred_x0: Tensor) -> Tensor:
    """RMS of φ_N(y_0 - x̂0) of each image, in grey levels. [B, C, H, W] twice → [B]."""
    return 127.5 * low_pass(reference - pred_x0).square().mean((1, 2, 3)).sqrt()

"""One micro-batch: from references and sample numbers to images."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from diffusions import GUIDES, Guide, Sampler, Step, noised_start
from diffusions.process import Denoiser
from utils.noise import SampleNoise
from utils.run.settings import Binding, Settings


def make_guide(reference: Tensor, binding: Binding, settings: Settings) -> Guide:
    """The guide that the settings name.

    Args:
        reference: [B, C, H, W] in [-1, 1], one image per sample, on the device to sample on.
        binding: how much of it binds.
    """
    return GUIDES[settings.refine](
        reference,
        binding.downsample_factor,
        settings.interp_method,
        range_t=binding.range_t,
        way_up=settings.low_pass,
    )


def sample_batch(
    model: Denoiser, sampler: Sampler, guide: Guide, seed: int, numbers: Sequence[int], walk_steps: int
) -> Iterator[Step]:
    """Walk from noise to images that follow the guide's references; each sample's noise is its own.

    Args:
        guide: of one reference per sample, on the device to sample on.
        seed: of the run.
        numbers: the samples' own, as many as there are references.
        walk_steps: how many of the sampler's last steps are walked; all of them begin with pure noise.

    Returns:
        The steps, as `Sampler.sample_loop` yields them.
    """
    reference = guide.reference
    noise = SampleNoise(seed, numbers, reference.device)
    x = noised_start(sampler, guide.low_frequencies, noise.randn(*reference.shape[1:]), walk_steps)
    return sampler.sample_loop(model, x, guide, noise.randn_like, walk_steps)

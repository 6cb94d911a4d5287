"""One micro-batch: from references and sample numbers to images."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from diffusions import GUIDES, Guide, Sampler, Step, noised_start
from diffusions.process import Denoiser
from models import Model
from utils.errors import InputError
from utils.noise import SampleNoise
from utils.run.samples import Binding
from utils.run.settings import Settings


def check_latents(model: Model, settings: Settings) -> None:
    """See that what the model draws can be decoded, and that references can bind in it.

    Raises:
        InputError: an autoencoder that the config does not describe, or a factor below the autoencoder's own.
    """
    if model.autoencoder_not_configured:
        raise InputError(
            f"weights {settings.weights} hold an autoencoder, which {settings.config.source} does not describe: add "
            "autoencoder, with dialect and params, as configs/ldm_*.yaml have it"
        )
    for factor in settings.downsample_factor:
        if factor < model.factor:
            raise InputError(
                f"downsample_factor must be at least {model.factor}, not {factor}: so many pixels along a side are one "
                "latent of this model"
            )


def make_guide(model: Model, reference: Tensor, binding: Binding, settings: Settings) -> Guide:
    """The guide that the settings name. It binds what the model works on: pixels, or the latents of an autoencoder.

    Args:
        reference: [B, C, H, W] in [-1, 1], one image per sample, on the device to sample on.
        binding: how much of it binds, its N in pixels of the image.
    """
    return GUIDES[settings.refine](
        model.encode(reference),
        binding.downsample_factor / model.factor,
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

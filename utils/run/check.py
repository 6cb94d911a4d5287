"""What can be asked of a model without sampling: its config, and whether its settings fit.

Settings that the shapes in the file do not show can be wrong, and the model still loads and draws something. With the
right ones, it predicts the noise in a picture best. `python -m benchmarks.check_model` measures how reliable that is.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffusions import DDIM, Process
from diffusions.process import Denoiser
from models import Checkpoint, Config, choose_class, load_model, load_network
from models.families import FAMILIES
from utils.errors import InputError, RunError, one_line
from utils.files import check_replaceable, write_atomically
from utils.images import read_reference
from utils.run.resolve import find_model
from utils.run.settings import Settings

MAX_PICTURES, OWN_SAMPLES, SAMPLE_STEPS = 4, 2, 10
SHARES = (0.05, 0.2)  # of T: the timesteps at which the loss is measured; later ones hardly differ

# a setting is clearly better if nearly all pictures and timesteps have a smaller loss with it, by this much on average
CLEAR_SHARE, CLEAR_RATIO = 0.8, 0.98

OBJECTIVES_TRIED = ("pred_eps", "pred_v", "pred_x0")
BETA_SCHEDULES_TRIED = ("linear", "quad", "cosine")


@dataclass(frozen=True)
class Comparison:
    """How another setting does beside the model's own.

    Attributes:
        change: what differs from the settings as they are.
        ratio: its loss over theirs, on average over pictures and timesteps.
        share: of the pictures and timesteps where its loss is less.
        own_ratio: as `ratio`, on the model's own samples.
    """

    change: Mapping[str, Any]
    ratio: float
    share: float
    own_ratio: float

    @property
    def is_clearly_better(self) -> bool:
        """Whether the pictures favour it."""
        return self.ratio < CLEAR_RATIO and self.share >= CLEAR_SHARE

    @property
    def name(self) -> str:
        """The setting, in the words of a config."""
        return ", ".join(f"{key} {'null' if v is None else str(v).lower()}" for key, v in self.change.items())


@torch.no_grad()
def compare(
    checkpoint: Checkpoint, config: Config, class_id: int | None, pictures: Tensor
) -> tuple[float, list[Comparison]]:
    """Measure a checkpoint's denoising loss with the settings as they are and with others that differ in one thing.

    Args:
        checkpoint: the model's.
        config: the settings.
        class_id: of a class-conditional model.
        pictures: [B, C, H, W] in [-1, 1]; or their latents, of a model that works on those; on the device to use.

    Returns:
        The loss with the settings as they are; and how the others compare, the best first.
    """
    pictures = pictures[:MAX_PICTURES]
    noises = torch.randn(len(SHARES), *pictures.shape, generator=torch.Generator().manual_seed(0)).to(pictures)

    def load(config: Config) -> Denoiser:
        return choose_class(load_network(checkpoint, config).to(pictures.device), class_id)

    def losses(network: Denoiser, process: Process, images: Tensor) -> Tensor:
        """Return the mean squared error of the predicted noise, of each timestep and image: [S, B]."""
        rows = []
        for share, noise in zip(SHARES, noises[:, : len(images)], strict=True):
            t = round(share * process.total_steps)
            transition = next(each for each in process.transitions() if each.t == t)
            x = process.q_sample(images, torch.full([len(images)], t, device=images.device), noise)
            pred_x0 = process.predict(network, x, transition).pred_x0
            snr = transition.alphas_cumprod / (1 - transition.alphas_cumprod)
            rows.append((pred_x0 - images).square().flatten(1).mean(1) * snr)
        return torch.stack(rows).clamp(min=1e-12)

    network, process = load(config), config.make_process()
    samples = DDIM(process, SAMPLE_STEPS).sample(network, noises[0, :OWN_SAMPLES])
    samples = samples.clamp(-1, 1) if process.clip_denoised else samples
    as_it_is, own_as_it_is = (losses(network, process, images) for images in (pictures, samples))
    found = []
    for change, other in neighbours(config):
        try:
            changed = network if other.params == config.params else load(other)
            process = other.make_process()
        except InputError:  # of heads or groups that do not divide the channels
            continue
        ratios = losses(changed, process, pictures) / as_it_is
        own_ratios = losses(changed, process, samples) / own_as_it_is
        means = [each.log().mean().exp().item() for each in (ratios, own_ratios)]
        found.append(Comparison(change, means[0], (ratios < 1).float().mean().item(), means[1]))
    return as_it_is.mean().item(), sorted(found, key=lambda comparison: comparison.ratio)


def neighbours(config: Config) -> Iterator[tuple[Mapping[str, Any], Config]]:
    """Yield the settings that differ from a config's in one thing that the shapes of its weights do not show."""
    family = FAMILIES[config.family]
    said = family.defaults() | dict(config.params)
    for change in family.alternatives:
        if any(said.get(key) != value for key, value in change.items()):
            yield change, replace(config, params={**config.params, **change})
    if "objective" not in config.diffusion:  # of continuous noise levels, which have none of these
        return
    changes: list[dict[str, Any]] = [{"objective": objective} for objective in OBJECTIVES_TRIED]
    changes += [{"beta_schedule": schedule} for schedule in BETA_SCHEDULES_TRIED]
    if config.total_steps != 1000:
        changes += [{"rescale_timesteps": rescale} for rescale in (False, True)]
    known = {"rescale_timesteps": False, **config.diffusion}
    for change in changes:
        if any(known[key] != value for key, value in change.items()):
            yield change, replace(config, diffusion={**config.diffusion, **change})


def report(loss: float, comparisons: Sequence[Comparison]) -> list[str]:
    """Return what was found, in lines."""
    width = max(len(comparison.name) for comparison in comparisons) if comparisons else 0
    lines = [
        f"{'as it is':{width}}   loss {loss:.3g} on the references; others relative to it (on samples in brackets):"
    ]
    lines += [f"{each.name:{width}}   × {each.ratio:<6.3g} (× {each.own_ratio:.3g})" for each in comparisons]
    best = comparisons[0] if comparisons else None
    if best is not None and best.is_clearly_better:
        lines.append(f"{best.name} is clearly better: its loss is {best.ratio:.2f} times that of the setting as it is.")
    else:
        lines.append("No other setting is clearly better.")
    lines.append(
        "Trust this only if the references are of the kind that the model was trained on. The model's own samples "
        "cannot reveal the number of heads, nor anything if the settings are far off."
    )
    return lines


def write_config(args: Mapping[str, Any]) -> None:
    """Write the config that the weights go with, once they are seen to fit it; comments say where values are from.

    Raises InputError for weights or a config that cannot be used, or a file that exists.
    """
    checkpoint, config = find_model(args)
    for note in load_model(checkpoint, config).notes:
        print(note)
    path = args["write_config"]
    if os.path.exists(path) and not args.get("overwrite"):  # Path.exists raises on names too long
        raise InputError(f"--write_config {path}: exists; choose another file or pass --overwrite")
    check_replaceable(path)
    config = replace(config, weights=config.weights or str(args["weights"]))
    try:
        write_atomically(path, config.as_yaml().encode())
    except RunError as error:
        raise InputError(f"--write_config {str(error).partition(';')[0]}") from None
    print(one_line(f"{path} is written; sample with -c {path}"))


def check_model(settings: Settings, checkpoint: Checkpoint, device: torch.device) -> None:
    """Print the denoising loss of a few references, and of samples of the model's own, under several settings.

    Raises InputError for a reference or a checkpoint that cannot be read.
    """
    model = load_model(checkpoint, settings.config)
    few = settings.references[:: max(1, len(settings.references) // MAX_PICTURES)][:MAX_PICTURES]
    images = [read_reference(each.path, model.image_size, settings.reading) for each in few]
    pictures = model.encode(torch.stack(images)).to(device)
    loss, comparisons = compare(checkpoint, settings.config, (*settings.class_id, None)[0], pictures)
    print(*report(loss, comparisons), sep="\n")

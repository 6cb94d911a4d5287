"""What is drawn of a run's finished images: the grid, and one sample's steps."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.files import write_atomically
from utils.images import make_grid, make_labelled_grid, read_pixels, save_png, to_pixels
from utils.run.job import Job
from utils.run.outputs import FIGURE_EXIF, FILM, Preview, signed
from utils.run.plan import Plan
from utils.run.references import Reference
from utils.run.samples import Sample
from utils.run.sampling import sample
from utils.run.sizes import crop

GRID_ROWS, GRID_VARIATIONS = 64, 8  # what a grid shows of a large run
MAX_CELL = 256  # pixels of a side; larger images are shrunk into it
ANIMATION_FRAMES, STRIP_FRAMES = 50, 10
FRAME_MS, LAST_FRAME_MS = 80, 2000


def draw_grid(plan: Plan) -> np.ndarray:
    """Draw one row per reference: the reference, what of it binds, its samples; of a sweep its samples per binding.

    All the run's images must be there, and the previews of its references.

    Returns:
        [H, W, 3] uint8.
    """

    def read(image: Sample | Preview) -> np.ndarray:
        with Image.fromarray(read_pixels(plan.outputs.path(image))) as picture:
            picture.thumbnail((MAX_CELL, MAX_CELL))
            return np.asarray(picture)

    settings, samples, bindings = plan.settings, plan.samples, plan.settings.bindings
    references = [first.reference for first in samples.variations(bindings[0], 1)]
    shown: dict[Reference, list[np.ndarray | None]]
    shown = {reference: [read(Preview(reference))] for reference in references[:GRID_ROWS]}
    labels = ["reference"]
    if len(bindings) == 1:
        factor = bindings[0].downsample_factor
        labels.append(f"what binds at N = {factor:g}")
        for reference, row in shown.items():
            row.append(read(Preview(reference, factor)))
    variations = 1 + samples[-1].variation
    for binding in bindings:
        names = [f"N = {binding.downsample_factor:g}"] if len(settings.downsample_factor) > 1 else []
        names += [f"range {binding.range_t}"] if len(settings.range_t) > 1 else []
        labels += [", ".join(names) or "samples"] + [""] * (min(variations, GRID_VARIATIONS) - 1)
        for each in samples.variations(binding, GRID_VARIATIONS):
            if each.reference in shown:
                shown[each.reference].append(read(each))
        for row in shown.values():
            row += [None] * (len(labels) - len(row))
    limits = ((GRID_ROWS, len(references), "references"), (GRID_VARIATIONS, variations, "variations"))
    note = ", ".join(f"{most} of {count:,} {noun}" for most, count, noun in limits if count > most)
    return make_labelled_grid(list(shown.values()), labels, note)


def draw_progress(job: Job, shown: Sample) -> None:
    """Draw one sample once more, by itself, and show it over its steps.

    Raises:
        RunError: its reference has been replaced, or a file cannot be written.
    """
    settings = job.plan.settings
    shape = settings.shapes[shown.reference.name]
    channels = settings.show_channels
    progress = Progress(
        settings.walk_steps, lambda latents: to_pixels(crop(job.model.decode(latents), shape), channels)
    )
    reference = job.plan.read(shown.reference)
    sample(job, [shown], [reference], lambda step: progress.add(step.sample[0], step.pred_x0[0]))
    progress.save(settings.save_dir / shown.binding.folder / FILM)


class Progress:
    """One image on its way: looks at the steps as they are made, keeps some, and shows them.

    Args:
        steps: how many there will be.
        draw: makes pictures [B, H, W, 3 or 1] uint8 of what the steps are of, [B, C, H, W] each.
    """

    def __init__(self, steps: int, draw: Callable[[Tensor], np.ndarray]) -> None:
        self.draw = draw
        self.kept = set(spread(steps, ANIMATION_FRAMES))
        self.seen = 0
        self.frames: list[list[np.ndarray]] = []  # the sample, and the x̂0 expected of it, [H, W, 3] uint8 each

    def add(self, sample: Tensor, pred_x0: Tensor) -> None:
        """Look at a step's sample and x̂0, [C, H, W] each."""
        if self.seen in self.kept:
            self.frames.append(list(self.draw(torch.stack([sample, pred_x0]))))
        self.seen += 1

    def strip(self) -> np.ndarray:
        """Draw a few frames from left to right: the sample above, what the network expects below. [H', W', 3] uint8."""
        chosen = [self.frames[i] for i in spread(len(self.frames), STRIP_FRAMES)]
        return make_grid(list(zip(*chosen, strict=True)))

    def save(self, path: Path) -> None:
        """Write the strip as `path`.png, and an animation, sample and expectation side by side, as `path`.webp."""
        save_png(self.strip(), path.with_suffix(".png"), signed({"figure": "progress"}))
        first, *rest = (Image.fromarray(make_grid([frame])) for frame in self.frames)
        durations = [FRAME_MS] * len(rest) + [LAST_FRAME_MS]
        file = io.BytesIO()
        exif = Image.Exif()
        exif.update(FIGURE_EXIF)
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=75, exif=exif)
        write_atomically(path.with_suffix(".webp"), file.getvalue())


def spread(count: int, most: int) -> list[int]:
    """Return all of 0 … count-1, or `most` of them spread evenly from the first to the last."""
    return list(range(count)) if count <= most else [i * (count - 1) // (most - 1) for i in range(most)]

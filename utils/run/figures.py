"""What is drawn of a run's finished images: the grid, one sample's steps, and the page of it all."""

import io
import os
import sys
import webbrowser
from collections.abc import Callable
from functools import partial
from itertools import count

import numpy as np
import torch
from PIL import Image

from diffusions import Guide, Step
from utils.errors import one_line
from utils.files import write_atomically
from utils.images import crop, make_grid, make_labelled_grid, read_pixels, save_png, to_pixels
from utils.run.job import Job
from utils.run.outputs import FIGURE_EXIF, FILM, GRID, Preview, check_figure, signed
from utils.run.page import Page
from utils.run.plan import Plan
from utils.run.references import Reference
from utils.run.samples import Sample
from utils.run.sampling import make_guide, sample, save_previews

GRID_ROWS, GRID_VARIATIONS = 64, 8  # what a grid shows of a large run
MAX_CELL = 256  # pixels of a side; larger images are shrunk into it
ANIMATION_FRAMES, STRIP_FRAMES = 50, 10
FRAME_MS, LAST_FRAME_MS = 80, 2000


def finish(job: Job, page: Page) -> None:
    """Draw the grid, one sample's progress if that is asked for, and the page of the finished run.

    What cannot be drawn is said in a line: the images are what counts. Raises RunError if a reference was replaced.
    """
    plan, settings, samples = job.plan, job.plan.settings, job.plan.samples
    for binding in settings.bindings:  # previews of references whose samples had all been made before
        for first in samples.variations(binding, 1):
            previews = Preview(first.reference), Preview(first.reference, binding)
            if not all(os.path.exists(plan.outputs.path(preview)) for preview in previews):
                reference, mask = plan.read(first.reference)
                guide = make_guide(job.model, reference[None].to(job.device), None, binding, settings)
                save_previews(plan, [first], [reference], [mask], job.model.decode(guide.low_frequencies))
    figures: dict[str, Callable[[], None]] = {GRID: partial(draw_grid, plan)}
    for shown in samples.numbered(settings.progress_grid) if settings.progress_grid is not None else ():
        figures[f"{shown.binding.folder}/{FILM}".strip("/")] = partial(draw_progress, job, shown)
    figures["index.html"] = partial(page.write, running=False)
    done = f"{len(samples)} images and index.html"
    for name, draw in figures.items():
        try:
            draw()
        except Exception as error:  # of any kind: meanwhile, what was finished may have become anything
            print(f"sample_ilvr: {name} could not be drawn: {one_line(error)}", file=sys.stderr)
            done = f"{len(samples)} images"
    print(one_line(f"{done} are in {settings.save_dir}"))
    if settings.open and not webbrowser.open((settings.save_dir / "index.html").resolve().as_uri()):
        print("no browser was found to open index.html")


def draw_grid(plan: Plan) -> None:
    """Draw one row per reference: the reference, what of it binds, its samples; of a sweep its samples per binding.

    All the run's images must be there, and the previews of its references. Raises InputError or RunError if something
    is in the grid's place, an image cannot be read, or the grid not be written.
    """
    path = plan.settings.save_dir / GRID
    check_figure(path, plan.settings.overwrite)

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
        labels.append(f"what binds at N = {bindings[0].words}")
        for reference, row in shown.items():
            row.append(read(Preview(reference, bindings[0])))
    variations = 1 + samples[-1].variation
    for binding in bindings:
        names = [f"N = {binding.words}"] if len(settings.downsample_factor) > 1 else []
        names += [f"range {binding.range_t}"] if len(settings.range_t) > 1 else []
        labels += [", ".join(names) or "samples"] + [""] * (min(variations, GRID_VARIATIONS) - 1)
        for each in samples.variations(binding, GRID_VARIATIONS):
            if each.reference in shown:
                shown[each.reference].append(read(each))
        for row in shown.values():
            row += [None] * (len(labels) - len(row))
    limits = ((GRID_ROWS, len(references), "references"), (GRID_VARIATIONS, variations, "variations"))
    note = ", ".join(f"{most} of {count:,} {noun}" for most, count, noun in limits if count > most)
    save_png(make_labelled_grid(list(shown.values()), labels, note), path, signed({"figure": "grid"}))


def draw_progress(job: Job, shown: Sample) -> None:
    """Draw one sample once more, by itself, and show it over its steps.

    It writes a strip, the sample above and what the network expects below; and an animation of the two side by side.
    Raises InputError or RunError if something is in their place, or the reference has been replaced.
    """
    settings = job.plan.settings
    path = settings.save_dir / shown.binding.folder / FILM
    for ending in (".png", ".webp"):
        check_figure(path.with_suffix(ending), settings.overwrite)
    kept = set(spread(settings.walk_steps, ANIMATION_FRAMES))
    frames: list[list[np.ndarray]] = []  # the sample, and the x̂0 expected of it, [H, W, 3] uint8 each
    numbers = count()

    def keep(step: Step, _: Guide) -> None:
        if next(numbers) in kept:
            images = job.model.decode(torch.stack([step.sample[0], step.pred_x0[0]]))
            pixels = to_pixels(crop(images, settings.shapes[shown.reference.name]), settings.show_channels)
            frames.append(list(pixels))

    reference, mask = job.plan.read(shown.reference)
    sample(job, [shown], [reference], [mask], keep)
    chosen = [frames[i] for i in spread(len(frames), STRIP_FRAMES)]
    save_png(make_grid(list(zip(*chosen, strict=True))), path.with_suffix(".png"), signed({"figure": "progress"}))
    first, *rest = (Image.fromarray(make_grid([frame])) for frame in frames)
    durations = [FRAME_MS] * len(rest) + [LAST_FRAME_MS]
    file, exif = io.BytesIO(), Image.Exif()
    exif.update(FIGURE_EXIF)
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=75, exif=exif)
    write_atomically(path.with_suffix(".webp"), file.getvalue())


def spread(total: int, most: int) -> list[int]:
    """Return all of 0 … total-1, or `most` of them spread evenly from the first to the last."""
    return list(range(total)) if total <= most else [i * (total - 1) // (most - 1) for i in range(most)]

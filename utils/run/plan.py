"""The plan of a run: which samples are left to make, as the files themselves say by the text inside them."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models import Checkpoint
from utils.arrays import ArrayForm
from utils.errors import InputError, RunError, one_line
from utils.images import Shape, read_reference
from utils.run.outputs import Outputs, Preview
from utils.run.references import THREADS, Reference, Seen, examine
from utils.run.samples import Samples, make_batches
from utils.run.settings import Settings

MAX_ASPECT = 2  # a longer strip is not sampled as the middle of a square
MAX_NAMED = 20  # samples that a summary names
READ_AT_ONCE = 10_000  # files; each takes some memory while it waits for its thread


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. The main process makes it, and every process works by it.

    Attributes:
        settings: the run's, without the references that cannot be read.
        notes: what there is to say of the references, one line each.
        num_processes: the processes that share the work.
        todo: [N] bool, of each sample, by its index, whether it is not finished.
        previews: those that are not finished.
    """

    settings: Settings
    samples: Samples
    outputs: Outputs
    notes: tuple[str, ...]
    num_processes: int
    todo: np.ndarray
    previews: tuple[Preview, ...] = ()

    def read(self, reference: Reference) -> tuple[Tensor, Tensor | None]:
        """Read a reference and its mask on the canvas of its images; raise RunError if one is no longer what it was.

        Returns:
            [C, H, W] in [-1, 1]; and where it binds, [1, H, W] in 0 … 1, rounded as in a file, or None for everywhere.
        """
        settings, name, is_free = self.settings, reference.name, self.settings.transparent == "free"
        shape, canvas, channels = settings.shapes[name], settings.canvases[name], settings.reading.channels
        sha256 = self.outputs.reference_sha256s[name]
        try:
            picture = read_reference(reference.path, shape, settings.reading, sha256, canvas, is_free)
        except InputError as error:
            raise RunError(str(error)) from None
        levels = [_levels(picture[channels:])] if is_free else []
        levels += [self.read_mask(reference)] if settings.masks else []
        return picture[:channels], torch.stack(levels).prod(0) if levels else None

    def read_mask(self, reference: Reference) -> Tensor:
        """Read a reference's mask alone, [1, H, W] in 0 … 1; raises as `read`."""
        settings, sha256s, name = self.settings, self.outputs.mask_sha256s, reference.name
        shape, canvas = settings.shapes[name], settings.canvases[name]
        try:
            return _levels(read_reference(settings.masks[name], shape, settings.reading_masks, sha256s[name], canvas))
        except InputError as error:
            raise RunError(str(error)) from None

    def is_complete(self) -> bool:
        """Return whether every sample has its file.

        A network file system may show an old list of a folder for a while, but asks its server for a name that it has
        not met: what the list lacks is looked for by name, up to the first that is missing.
        """
        missing = np.ones(len(self.samples), dtype=bool)
        missing[self.samples.existing(self.settings.save_dir)] = False
        return all(os.path.lexists(self.outputs.path(self.samples[i])) for i in np.flatnonzero(missing).tolist())

    def progress(self) -> str:
        """Return how far the run has come, and what to do about the rest."""
        total, done = len(self.samples), len(self.samples.existing(self.settings.save_dir))
        if done == total:
            return f"all {total} images are done; run the same command again to draw the grid"
        return f"{done} of {total} images are done; run the same command again to finish"

    def summary(self) -> str:
        """Return what the run would do, in lines."""
        settings = self.settings
        batches = make_batches(self.samples, self.todo, settings.micro_batch, self.num_processes, settings.shapes)
        images, left = len(self.samples), int(self.todo.sum())
        sizes = [f"{height}×{width}" for height, width in sorted(set(settings.shapes.values()))]
        named = [self.samples[i] for i in np.flatnonzero(self.todo)[:MAX_NAMED].tolist()]
        return "\n".join(
            [
                f"samples      {images}, of which {images - left} are finished",
                f"references   {len(self.outputs.reference_sha256s)} read, {len(settings.skipped)} skipped",
                f"steps        {settings.walk_steps} per sample",
                *([f"sizes        {', '.join(sizes[:5])}{', …' * (len(sizes) > 5)}"] if settings.is_larger else []),
                f"model calls  {len(batches) * settings.walk_steps}, of up to {settings.micro_batch} samples, "
                f"shared by {self.num_processes} process(es)",
                f"files        {left} images, index.html and run.yaml in {one_line(settings.save_dir)}",
                *(f"  {one_line(self.outputs.path(sample))}" for sample in named),
                *([f"  … and {left - len(named)} more"] if left > len(named) else []),
            ]
        )


def canvas_of(shape: Shape) -> Shape:
    """Return the square around a rectangle, unless that is a long strip: a model of squares knows how to fill it."""
    return (max(shape),) * 2 if max(shape) <= MAX_ASPECT * min(shape) else shape


def is_alike(shape: Shape, other: Shape) -> bool:
    """Return whether one shape is the other, enlarged or reduced, to a pixel."""
    (height, width), (rows, columns) = sorted([shape, other])
    return abs(height * columns - rows * width) <= max(rows, columns)


def _levels(mask: Tensor) -> Tensor:
    """Map a mask from [-1, 1] to 0 … 1, rounded as in a file."""
    return ((mask + 1) * 127.5).round() / 255


def make_plan(settings: Settings, checkpoint: Checkpoint, num_processes: int) -> Plan:
    """Check the references and the output folder, and see what is finished. Nothing is written.

    Raises InputError for references that cannot be read (all of them, unless `skip_bad_inputs`), or a folder that
    contains images of other settings (unless `overwrite`).
    """
    found, faults, notes = examine(settings.references, max(settings.image_size), settings.reading)
    if unknown := [value for seen in found.values() if seen.value_range is None for value in seen.extremes]:
        raise InputError(
            "--value_range LOW HIGH: give the values that training mapped to -1 and 1; those of the references are "
            f"{min(unknown):.9g} … {max(unknown):.9g}"
        )
    if faults and not settings.skip_bad_inputs:
        raise InputError(*faults.values())
    settings = replace(settings, skipped={**settings.skipped, **faults})
    samples = Samples(settings.references, settings.skipped, settings.n_samples, settings.bindings, settings.class_id)
    if not samples:
        raise InputError(*faults.values(), "no sample has a reference that can be read")
    shown = settings.progress_grid
    if shown is not None and settings.references[shown % len(settings.references)].name in settings.skipped:
        raise InputError(f"--progress_grid {shown}: the reference of sample {shown} is skipped; choose another sample")
    shapes = {reference.name: settings.image_size for reference in settings.references}
    if settings.keep_aspect:
        short, multiple = settings.image_size[0], settings.size_multiple
        for name, seen in found.items():
            height, width = (max(1, round(side * short / min(seen.shape) / multiple)) for side in seen.shape)
            shapes[name] = height * multiple, width * multiple
    squared = settings.detail < 1
    canvases = {n: canvas_of(s) if squared and max(s) > settings.config.image_size else s for n, s in shapes.items()}
    forms = {name: ArrayForm(seen.axes, seen.value_range) for name, seen in found.items() if seen.value_range}
    settings = replace(settings, shapes=shapes, canvases=canvases, forms=forms)
    notes = [*settings.input_notes, *notes]
    if settings.walk_steps in settings.range_t and settings.walk_steps == settings.diffusion["respace_steps"]:
        notes.append(f"--range_t {settings.walk_steps} leaves every step unrefined: its images follow no reference")

    mask_sha256s = examine_masks(settings, found, notes) if settings.masks else {}
    firsts = samples.variations(settings.bindings[0], 1)
    existing = samples.existing(settings.save_dir)
    record = {"weights_sha256": checkpoint.sha256(), **settings.identity}
    outputs = Outputs(settings, samples, record, {name: seen.sha256 for name, seen in found.items()}, mask_sha256s)
    outputs.check()
    todo = np.ones(len(samples), dtype=bool)
    previews = [Preview(first.reference, binding) for first in firsts for binding in (None, *settings.bindings)]
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(existing), READ_AT_ONCE):
            here = existing[start : start + READ_AT_ONCE]
            todo[here] = [not finished for finished in pool.map(lambda i: outputs.is_finished(samples[i]), here)]
        finished = list(pool.map(outputs.is_finished, previews))
    unfinished = [preview for preview, is_finished in zip(previews, finished, strict=True) if not is_finished]
    plan = Plan(settings, samples, outputs, tuple(notes), num_processes, todo, tuple(unfinished))
    if settings.masks or settings.transparent == "free":
        check_masks(plan, [first.reference for first in firsts])
    return plan


def examine_masks(settings: Settings, found: Mapping[str, Seen], notes: list[str]) -> dict[str, str]:
    """Decode every mask once, and add to the notes; return the SHA-256 of each reference's, by the reference's name.

    Raises InputError for masks that cannot be read, or are of another shape than their references and the images.
    """
    paths = {name: settings.masks[name] for name in found}
    masks = [Reference(path, str(path)) for path in dict.fromkeys(paths.values())]
    its, wrong, more_notes = examine(masks, max(settings.image_size), settings.reading_masks, "mask")
    faults = list(wrong.values())
    for name, path in paths.items():
        shapes = found[name].shape, settings.shapes[name]
        if str(path) in its and not any(is_alike(its[str(path)].shape, shape) for shape in shapes):
            (height, width), (rows, columns) = its[str(path)].shape, shapes[0]
            faults.append(f"--mask_dir: {path} is {width}×{height}, of another shape than {name}, {columns}×{rows}")
    if faults:
        raise InputError(*faults)
    notes += more_notes
    return {name: its[str(path)].sha256 for name, path in paths.items()}


def check_masks(plan: Plan, references: Sequence[Reference]) -> None:
    """Raise InputError if a reference binds nowhere, a line for each."""
    faults = []

    def binds(reference: Reference) -> bool:
        mask = plan.read(reference)[1] if plan.settings.transparent == "free" else plan.read_mask(reference)
        return mask is None or bool(mask.any())

    with ThreadPoolExecutor(THREADS) as pool:
        for reference, is_bound in zip(references, pool.map(binds, references), strict=True):
            if not is_bound:
                path = plan.settings.masks.get(reference.name)
                why = f"--mask_dir: {path} is black" if path else f"--transparent free: {reference.path} is transparent"
                faults.append(f"{why} where the image is, so that nothing of {reference.name} binds")
    if faults:
        raise InputError(*faults)

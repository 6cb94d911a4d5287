"""What the grid of a run shows, read from its finished images."""

import numpy as np

from utils.images import make_labelled_grid, read_pixels
from utils.run.pictures import Picture
from utils.run.references import Reference
from utils.run.samples import Binding, Sample
from utils.run.settings import Settings

GRID_ROWS, GRID_VARIATIONS = 64, 8  # what a grid shows of a large run


def grid_of(settings: Settings) -> np.ndarray:
    """One row per reference: the reference, what of it binds, its samples; of a sweep one block of samples per binding.

    All the run's images must be there, and the pictures of its references.

    Returns:
        [H, W, 3] uint8.
    """

    height, width = (max(sides) for sides in zip(*settings.all_shapes, strict=True))

    def read(image: Sample | Picture) -> np.ndarray:
        pixels = read_pixels(settings.save_dir / image.file_name)
        beyond = (0, height - len(pixels)), (0, width - pixels.shape[1]), (0, 0)
        return np.pad(pixels, beyond, constant_values=255)  # white

    references = [first.reference for first in settings.samples.variations(settings.bindings[0], 1)]
    shown = references[:GRID_ROWS]
    labels: list[str] = ["reference"]
    rows: list[list[np.ndarray | None]] = [[read(Picture(reference))] for reference in shown]
    if len(settings.bindings) == 1:
        (factor,) = settings.downsample_factor
        labels.append(f"what binds at N = {factor:g}")
        for row, reference in zip(rows, shown, strict=True):
            row.append(read(Picture(reference, factor)))
    for binding, samples in _samples(settings, shown).items():
        most = max(map(len, samples))
        labels += [_label(settings, binding), *[""] * (most - 1)]
        for row, its in zip(rows, samples, strict=True):
            row += [*map(read, its), *[None] * (most - len(its))]
    variations = 1 + settings.samples[-1].variation
    limits = ((GRID_ROWS, len(references), "references"), (GRID_VARIATIONS, variations, "variations"))
    note = ", ".join(f"{most} of {count:,} {noun}" for most, count, noun in limits if count > most)
    return make_labelled_grid(rows, labels, note)


def _samples(settings: Settings, shown: list[Reference]) -> dict[Binding, list[list[Sample]]]:
    """The samples to show: per binding, per reference."""
    found = {binding: {reference: list[Sample]() for reference in shown} for binding in settings.bindings}
    for binding, its in found.items():
        for sample in settings.samples.variations(binding, GRID_VARIATIONS):
            if sample.reference in its:
                its[sample.reference].append(sample)
    return {binding: list(rows.values()) for binding, rows in found.items()}


def _label(settings: Settings, binding: Binding) -> str:
    """What tells a binding from the run's others."""
    parts = [f"N = {binding.downsample_factor:g}"] if len(settings.downsample_factor) > 1 else []
    parts += [f"range {binding.range_t}"] if len(settings.range_t) > 1 else []
    return ", ".join(parts) or "samples"

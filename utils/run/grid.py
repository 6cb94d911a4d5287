"""What the grid of a run shows, read from its finished images."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from utils.images import read_pixels, read_reference, to_pixels
from utils.run.batch import make_guide
from utils.run.figures import draw_grid
from utils.run.settings import Binding, Sample, Settings
from utils.run.shapes import crop

GRID_ROWS, GRID_VARIATIONS = 64, 8  # what a grid shows of a large run


def grid_of(settings: Settings) -> np.ndarray:
    """The run's references and samples, see `draw_grid`; [H, W, 3] uint8. All its images must be there."""
    firsts: dict[str, Sample] = {}
    for sample in settings.samples:
        firsts.setdefault(sample.reference.name, sample)
    shown = dict(islice(firsts.items(), GRID_ROWS))

    def rows(binding: Binding) -> list[list[np.ndarray]]:
        found: dict[str, list[np.ndarray]] = {name: [] for name in shown}
        for sample in settings.samples:
            if sample.binding == binding and sample.variation < GRID_VARIATIONS and sample.reference.name in found:
                found[sample.reference.name].append(read_pixels(settings.save_dir / sample.file_name))
        return list(found.values())

    references, low_frequencies = zip(*(_seen(settings, sample) for sample in shown.values()), strict=True)
    blocks = {binding.folder.replace("/", " "): rows(binding) for binding in settings.bindings}
    return draw_grid(references, low_frequencies, blocks)


def _seen(settings: Settings, sample: Sample) -> Iterator[np.ndarray]:
    """A sample's reference, and what of it binds, [H, W, 3] uint8 each."""
    shape, canvas = settings.shape_of(sample), settings.canvas(sample)
    reference = read_reference(sample.reference.path, shape, settings.config.image_channels, canvas)
    guide = make_guide(reference[None], settings.bindings[0], settings)
    for images in (guide.reference, guide.low_frequencies):
        yield to_pixels(crop(images[0], shape))

"""What the grid of a run shows, read from its finished images."""

import numpy as np
import torch

from utils.images import read_pixels, to_pixels
from utils.run.batch import make_guide
from utils.run.figures import draw_grid
from utils.run.plan import Plan
from utils.run.settings import Binding

GRID_ROWS, GRID_VARIATIONS = 64, 8  # what a grid shows of a large run


def grid_of(plan: Plan) -> np.ndarray:
    """The run's references and samples, see `draw_grid`; [H, W, 3] uint8. All its images must be there."""
    settings = plan.settings
    shown = [sample.reference for sample in settings.samples.variations(settings.bindings[0], 1)[:GRID_ROWS]]
    references = torch.stack([plan.read(reference) for reference in shown])

    def rows(binding: Binding) -> list[list[np.ndarray]]:
        found: dict[str, list[np.ndarray]] = {reference.name: [] for reference in shown}
        for sample in settings.samples.variations(binding, GRID_VARIATIONS):
            if sample.reference.name in found:
                found[sample.reference.name].append(read_pixels(settings.save_dir / sample.file_name))
        return list(found.values())

    low_frequencies = make_guide(references, settings.bindings[0], settings).low_frequencies
    blocks = {binding.folder.replace("/", " "): rows(binding) for binding in settings.bindings}
    return draw_grid(list(to_pixels(references)), list(to_pixels(low_frequencies)), blocks)

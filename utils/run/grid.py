"""What the grid of a run shows, read from its finished images."""

from itertools import islice

import numpy as np
import torch

from models import Model
from utils.images import read_pixels, read_reference, to_pixels
from utils.run.batch import make_guide
from utils.run.figures import draw_grid
from utils.run.settings import Binding, Settings

GRID_ROWS, GRID_VARIATIONS = 64, 8  # what a grid shows of a large run


def grid_of(settings: Settings, model: Model, device: torch.device) -> np.ndarray:
    """The run's references and samples, see `draw_grid`; [H, W, 3] uint8. All its images must be there."""
    size, channels = settings.config.image_size, settings.config.image_channels
    shown = list(islice(dict.fromkeys(sample.reference for sample in settings.samples), GRID_ROWS))
    references = torch.stack([read_reference(reference.path, size, channels) for reference in shown])

    def rows(binding: Binding) -> list[list[np.ndarray]]:
        found: dict[str, list[np.ndarray]] = {reference.name: [] for reference in shown}
        for sample in settings.samples:
            if sample.binding == binding and sample.variation < GRID_VARIATIONS and sample.reference.name in found:
                found[sample.reference.name].append(read_pixels(settings.save_dir / sample.file_name))
        return list(found.values())

    blocks = {binding.folder.replace("/", " "): rows(binding) for binding in settings.bindings}
    if len(blocks) > 1:
        return draw_grid(list(to_pixels(references)), [], blocks)
    guide = make_guide(model, references.to(device), settings.bindings[0], settings)
    return draw_grid(list(to_pixels(references)), list(to_pixels(model.decode(guide.low_frequencies))), blocks)

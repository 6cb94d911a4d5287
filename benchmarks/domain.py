"""What a benchmark measures: a model, held-out images of its domain, and references that it could not have drawn.

They are the embedded portraits', unless the command names others, for example

    python -m benchmarks.veil --domain weights/atlas64 data/atlas/val.bin assets/maps
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.foreign import load_foreign
from benchmarks.held_out import load_held_out
from benchmarks.networks import WEIGHTS
from benchmarks.sheet import SIZE
from utils.images import from_pixels, read_reference
from utils.run.references import find_references
from weights.data import read_images


class Domain(NamedTuple):
    """A model's weights, and images for it, [N, 3, 64, 64] in [-1, 1]."""

    weights: Path
    held_out: Tensor
    foreign: Tensor


def add_domain(parser: argparse.ArgumentParser) -> None:
    """Add the argument that `read_domain` takes."""
    parser.add_argument(
        "--domain",
        nargs=3,
        type=Path,
        metavar=("WEIGHTS", "HELD_OUT", "FOREIGN"),
        help="a diffusers folder, a file of held-out images (see weights/atlas64/crops.py), and a folder of references "
        "that the model could not have drawn; the embedded portraits', if left out",
    )


def read_domain(paths: Sequence[Path] | None = None) -> Domain:
    """Read what the argument names; as many held-out images as there are portraits."""
    portraits = load_held_out()
    if paths is None:
        return Domain(WEIGHTS, portraits, load_foreign())
    weights, held_out, foreign = paths
    return Domain(weights, from_pixels(read_images(held_out, SIZE, 3)[: len(portraits)]), read_folder(foreign))


def read_folder(folder: Path) -> Tensor:
    """Read a folder's pictures as references, sorted by path, [N, 3, 64, 64] in [-1, 1]."""
    found, _ = find_references(folder)
    return torch.stack([read_reference(each.path, SIZE) for each in found])

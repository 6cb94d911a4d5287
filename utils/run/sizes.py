"""How large images are made, and what around them is made along with them."""

import math
from collections.abc import Iterable

import torch

from utils.batching import available_memory
from utils.errors import InputError
from utils.images import Shape

MAX_ASPECT = 2  # a longer strip is not sampled as the middle of a square
TENSORS = 15  # of an image's size, in float32, are held while it is sampled; 14 were measured at 1024×1024


def own_shape(shape: Shape, short_side: int, multiple: int) -> Shape:
    """Return the shape that keeps a picture's aspect: its short side is `short_side`, the other a multiple."""
    height, width = (max(1, round(side * short_side / min(shape) / multiple)) * multiple for side in shape)
    return height, width


def is_alike(shape: Shape, other: Shape) -> bool:
    """Return whether one shape is the other, enlarged or reduced, to a pixel."""
    (height, width), (rows, columns) = sorted([shape, other])
    return abs(height * columns - rows * width) <= max(rows, columns)


def canvas_of(shape: Shape) -> Shape:
    """Return the square around a rectangle, unless that is a long strip: a model of squares knows how to fill it."""
    return (max(shape),) * 2 if max(shape) <= MAX_ASPECT * min(shape) else shape


def check_memory(shapes: Iterable[Shape], batch: int, channels: int, device: torch.device) -> str:
    """Compare what the largest images take with the memory that is free; the network is not counted.

    Returns:
        The estimate, in words.

    Raises:
        InputError: they do not fit.
    """
    height, width = max(shapes, key=math.prod)
    needed = TENSORS * 4 * batch * channels * height * width
    words = f"{batch} images of {height}×{width} take about {needed / 2**30:.3g} GiB"
    free = available_memory(device)
    if needed > free:
        raise InputError(
            f"{words}, and {free / 2**30:.3g} GiB are free: give a smaller --image_size, --upscale or --micro_batch"
        )
    return words

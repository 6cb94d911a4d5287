"""How large images are made, and what around them is made along with them."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from utils.batching import available_memory
from utils.errors import InputError
from utils.images import Shape

MAX_ASPECT = 2  # a longer strip is not sampled as the middle of a square
TENSORS = 15  # of an image's size, in float32, are held while it is sampled; 14 were measured at 1024×1024


def check_shape(shape: Shape, multiple: int) -> None:
    """Raise if a network does not take images of this shape.

    Args:
        shape: what is asked for.
        multiple: the network's heights and widths are multiples of it.

    Raises:
        InputError: it does not; the message names the nearest that it takes.
    """
    for side in shape:
        if side < 1:
            raise InputError(f"--image_size must be at least {multiple}, not {side}")
        if side % multiple:
            below, above = side // multiple * multiple, -(-side // multiple) * multiple
            nearest = f"{below} and {above}" if below else f"{above}"
            raise InputError(f"--image_size {side}: must be a multiple of {multiple} for this model, such as {nearest}")


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


def crop(images: Tensor, shape: Shape) -> Tensor:
    """Return the middle of images [..., H, W], of this shape."""
    top, left = ((have - want) // 2 for have, want in zip(images.shape[-2:], shape, strict=True))
    return images[..., top : top + shape[0], left : left + shape[1]]


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
    if free is not None and needed > free:
        raise InputError(
            f"{words}, and {free / 2**30:.3g} GiB are free: give a smaller --image_size, --upscale or --micro_batch"
        )
    return words

"""How large images are made, and what around them is made along with them."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from utils.batching import available_memory
from utils.errors import InputError
from utils.images import Shape

MOST_STRETCHED = 2  # a longer strip is no middle of a square
TENSORS = 15  # of an image's size, in float32, are held while it is sampled; 14 were measured at 1024×1024


def check_shape(shape: Shape, multiple: int) -> None:
    """See that a network takes images of this shape.

    Args:
        shape: what is asked for.
        multiple: what the network's heights and widths are multiples of.

    Raises:
        InputError: it does not; the nearest that it takes are named.
    """
    for side in shape:
        if side < 1:
            raise InputError(f"image_size must be at least {multiple}, not {side}")
        if side % multiple:
            below, above = side // multiple * multiple, -(-side // multiple) * multiple
            nearest = f"{below} and {above}" if below else f"{above}"
            raise InputError(f"image_size {side}: the model takes multiples of {multiple} only; nearest: {nearest}")


def own_shape(shape: Shape, short_side: int, multiple: int) -> Shape:
    """The shape that keeps a picture's aspect: its short side is `short_side`, the other a multiple."""
    height, width = (max(1, round(side * short_side / min(shape) / multiple)) * multiple for side in shape)
    return height, width


def canvas_of(shape: Shape) -> Shape:
    """The square around a rectangle, unless that is a long strip: a model of squares knows how to fill it."""
    return (max(shape),) * 2 if max(shape) <= MOST_STRETCHED * min(shape) else shape


def crop(images: Tensor, shape: Shape) -> Tensor:
    """The middle of images [..., H, W], of this shape."""
    top, left = ((have - want) // 2 for have, want in zip(images.shape[-2:], shape, strict=True))
    return images[..., top : top + shape[0], left : left + shape[1]]


def check_memory(shapes: Iterable[Shape], batch: int, channels: int, device: torch.device) -> str:
    """See that the largest images fit into the memory that is free, the network not counted.

    Returns:
        The estimate, in words.

    Raises:
        InputError: they do not.
    """
    height, width = max(shapes, key=math.prod)
    needed = TENSORS * 4 * batch * channels * height * width
    words = f"{batch} images of {height}×{width} take about {_gib(needed)}"
    free = available_memory(device)
    if needed > free:
        raise InputError(f"{words}, and {_gib(free)} are free: give a smaller image_size, upscale or micro_batch")
    return words


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"

"""Antialiased, exactly aligned resizing.

The geometry is ResizeRight's (Shocher et al., https://github.com/assafshocher/ResizeRight, after "From
Discrete to Continuous Convolution Layers", arXiv:2006.11120): image centres stay on each other, the kernel
is stretched when shrinking, and every output pixel's weights sum to one. Since resizing is linear and
separable, one axis is one small matrix; it is computed in float64 and applied by matrix multiplication.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from threading import Lock

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps  # how near to a pixel's border a kernel's edge counts as on it


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -1/2."""
    x = x.abs()
    inner = (1.5 * x - 2.5) * x.square() + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, inner, torch.where(x <= 2, outer, 0))


def _lanczos(x: Tensor, lobes: int) -> Tensor:
    return torch.where(x.abs() < lobes, torch.sinc(x) * torch.sinc(x / lobes), 0)


# whose precision a caller may have lowered
MATMULS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
RAISED = Lock()  # held while it is raised: what another thread finds then is not the caller's

# name: (kernel, width of its support in pixels)
KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "cubic": (_cubic, 4),
    "lanczos2": (lambda x: _lanczos(x, 2), 4),
    "lanczos3": (lambda x: _lanczos(x, 3), 6),
    "linear": (lambda x: (1 - x.abs()).clamp(min=0), 2),
    "box": (lambda x: (x.abs() <= 1).to(x.dtype), 1),
}

# name: where an index outside of 0 … n-1 finds its pixel; "constant" finds none and reads zero
PADDINGS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "constant": lambda i, n: i,
    "replicate": lambda i, n: i.clamp(0, n - 1),
    "circular": lambda i, n: i.remainder(n),
    "reflect": lambda i, n: _fold(i, 2 * (n - 1), n - 1),
    "symmetric": lambda i, n: _fold(i, 2 * n, n - 0.5),
}


def _fold(index: Tensor, period: int, mirror: float) -> Tensor:
    """Fold `index` back at `mirror`, repeating with `period` (0 for an axis of a single pixel)."""
    index = index.remainder(max(period, 1))
    return torch.where(index > mirror, (2 * mirror - index).long(), index)


def resize_matrix(
    in_size: int,
    out_size: int,
    scale: float,
    interp_method: str = "cubic",
    antialiasing: bool = True,
    pad_mode: str = "constant",
) -> Tensor:
    """Return the matrix that resizes one axis: `resized = matrix @ axis`.

    Output pixel o sits at o/scale + (in_size - 1)/2 - (out_size - 1)/(2·scale) of the input axis, so that
    both centres coincide whatever the sizes are.

    Args:
        in_size: pixels of the axis.
        out_size: pixels wanted; need not be in_size·scale, the surplus is split between both ends.
        scale: output pixels per input pixel.
        interp_method: one of `KERNELS`.
        antialiasing: stretch the kernel by 1/scale when shrinking.
        pad_mode: one of `PADDINGS`: what is beyond the image.

    Returns:
        [out_size, in_size], float64, on the CPU.

    Raises:
        ValueError: unknown kernel or padding, a size below 1, a scale that is not positive.
    """
    if interp_method not in KERNELS:
        raise ValueError(f"interp_method must be one of {', '.join(KERNELS)}, not {interp_method!r}")
    if min(in_size, out_size) < 1 or not 0 < scale < math.inf:
        raise ValueError(f"cannot resize {in_size} pixels to {out_size} at scale {scale}")
    if scale == 1 and in_size == out_size:
        return torch.eye(in_size, dtype=torch.float64)

    kernel, support = KERNELS[interp_method]
    stretch = 1 / scale if antialiasing and scale < 1 else 1.0
    width = support * stretch

    centres = torch.arange(out_size, dtype=torch.float64) / scale + (in_size - 1) / 2 - (out_size - 1) / (2 * scale)
    first = torch.ceil(centres - width / 2 - EPS).long()
    neighbours = first[:, None] + torch.arange(math.ceil(width - EPS))
    weights = kernel((centres[:, None] - neighbours) / stretch)
    return weighted_sums(neighbours, weights / weights.sum(1, keepdim=True), in_size, pad_mode)


def weighted_sums(neighbours: Tensor, weights: Tensor, size: int, pad_mode: str) -> Tensor:
    """Return the matrix [m, size], float64, that makes each output pixel a weighted sum of an axis' pixels.

    Args:
        neighbours: [m, k], int64: of each output pixel, which pixels it sees; they may lie beyond the axis.
        weights: [m, k], float64: theirs.
        size: pixels of the axis.
        pad_mode: what is beyond it; ValueError if it is not one of `PADDINGS`.
    """
    if pad_mode not in PADDINGS:
        raise ValueError(f"pad_mode must be one of {', '.join(PADDINGS)}, not {pad_mode!r}")
    pixels = PADDINGS[pad_mode](neighbours, size)
    inside = (pixels >= 0) & (pixels < size)
    matrix = torch.zeros(len(neighbours), size, dtype=torch.float64)
    return matrix.scatter_add_(1, pixels.where(inside, 0), weights.where(inside, 0))


def apply_matrices(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resize x [..., H, W] to [..., H', W'] by `rows` [H', H] and `columns` [W', W].

    It computes in full float32, also where the caller allows TF32, bfloat16 or autocast for the network's sake. Raises
    ValueError if they are of different dtypes or on different devices.
    """
    if (x.dtype, x.device) != (rows.dtype, rows.device):
        raise ValueError(f"an image of {x.dtype} on {x.device} does not fit a filter of {rows.dtype} on {rows.device}")
    kind = x.device.type
    with RAISED, torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        allowed = [backend.fp32_precision for backend in MATMULS]
        for backend in MATMULS:
            backend.fp32_precision = "ieee"
        try:
            return rows @ (x @ columns.mT)
        finally:
            for backend, precision in zip(MATMULS, allowed, strict=True):
                backend.fp32_precision = precision


def resize(
    x: Tensor,
    scale_factors: float | Sequence[float] | None = None,
    out_shape: Sequence[int] | None = None,
    interp_method: str = "cubic",
    antialiasing: bool = True,
    pad_mode: str = "constant",
) -> Tensor:
    """Resize the last two axes of an image batch, differentiably.

    Args:
        x: [..., H, W], floating point (float64, float32; bfloat16 and float16 are computed in float32).
        scale_factors: one for both axes, or (vertical, horizontal). From `out_shape` if left out.
        out_shape: (H', W'), or only the last axes' sizes. ⌈size·scale⌉ if left out. Given both, both hold.
        interp_method: cubic, lanczos2, lanczos3, linear or box.
        antialiasing: low-pass while shrinking.
        pad_mode: constant (zeros), reflect, replicate, circular or symmetric.

    Returns:
        [..., H', W'] in x's dtype and on its device.

    Raises:
        ValueError: neither scale_factors nor out_shape, values that make no image, or integers.
    """
    if not x.is_floating_point():  # in a dtype of integers, weights would be zero and sums wrap
        raise ValueError(f"an image must be of floating-point numbers, [-1, 1] for a reference, not of {x.dtype}")
    in_shape = tuple(x.shape[-2:])
    if scale_factors is None and out_shape is None:
        raise ValueError("resize needs scale_factors, out_shape or both")
    if out_shape is not None:
        out_shape = (*in_shape[: max(0, 2 - len(out_shape))], *out_shape[-2:])
    if scale_factors is None:
        assert out_shape is not None
        scales: tuple[float, ...] = tuple(o / i for o, i in zip(out_shape, in_shape, strict=True))
    elif isinstance(scale_factors, Sequence):
        scales = (1.0,) * (2 - len(scale_factors)) + tuple(scale_factors)[-2:]
    else:
        scales = (scale_factors, scale_factors)
    if out_shape is None:
        out_shape = tuple(math.ceil(i * s) for i, s in zip(in_shape, scales, strict=True))

    dtype = torch.promote_types(x.dtype, torch.float32)
    rows, columns = (
        resize_matrix(i, o, s, interp_method, antialiasing, pad_mode).to(dtype).to(x.device)  # some have no float64
        for i, o, s in zip(in_shape, out_shape, scales, strict=True)
    )
    return apply_matrices(x.to(dtype), rows, columns).to(x.dtype)

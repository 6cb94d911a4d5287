"""φ_N, the filter of every step: this project's thin matrix products against other ways to shrink and enlarge.

    python -m benchmarks.lowpass [--size 256] [--batch 8]

Time and error for N from 2 to 64. The error is the largest difference to resize-right's own numbers for a float64 numpy
array in [-1, 1]; this project pads with zeros here as resize-right does. F.interpolate is another filter: torch's
antialiased bicubic differs in its kernel (a = -0.75 without antialiasing) and at the borders.
"""

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from resize_right import resize
from torch import Tensor

from benchmarks.samplers import timed
from benchmarks.workers import machine, print_table, ratio
from diffusions.low_pass import LowPass

FACTORS = (2, 3, 4, 8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    picture = torch.rand(args.batch, 3, args.size, args.size, device=device) * 2 - 1
    rows = []
    for factor in FACTORS:
        exact = resize_right_numpy(picture, factor)
        ways = {"ours": ours(picture, factor), "resize-right": resize_right, "F.interpolate": interpolate}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                seconds[name].append(timed(lambda way=way, factor=factor: way(picture, factor)))  # type: ignore[misc]
        row: list[object] = [factor]
        for name, way in ways.items():
            error = (way(picture, factor).cpu() - exact).abs().max().item()
            row += [
                f"{1000 * median(seconds[name]):.2f}",
                f"{ratio(seconds[name], seconds['ours']):.2f}",
                f"{error:.0e}",
            ]
        rows.append(row)
    header = [f"{name}: {what}" for name in ways for what in ("ms", "× ours", "error")]
    print(machine())
    print_table(f"φ_N of {args.batch}×3×{args.size}×{args.size} float32", ["N", *header], rows)


def ours(picture: Tensor, factor: float) -> Callable[[Tensor, float], Tensor]:
    """Filter as ILVR does: make the matrices once per batch and apply them at every step."""
    low_pass = LowPass(picture, factor, pad_mode="constant")
    return lambda x, _: low_pass(x)


def resize_right(x: Any, factor: float) -> Any:
    """Apply resize-right twice, the second time to the picture's own size; for a tensor or an array."""
    return resize(resize(x, 1 / factor), factor, tuple(x.shape))


def resize_right_numpy(x: Tensor, factor: float) -> Tensor:
    """Do the same in float64 throughout; for tensors, resize-right makes its grid in float32, which shows at N = 3."""
    array = x.double().cpu().flatten(0, 1).permute(1, 2, 0).numpy()  # it resizes the first dimensions of arrays
    return torch.from_numpy(resize_right(array, factor)).permute(2, 0, 1).reshape(x.shape)


def interpolate(x: Tensor, factor: float) -> Tensor:
    """Apply torch's own filter twice."""
    small = F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return F.interpolate(small, x.shape[-2:], mode="bicubic", antialias=True)


if __name__ == "__main__":
    main()

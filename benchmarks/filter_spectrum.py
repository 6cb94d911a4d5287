"""How much of the noise each low-pass filter leaves, mode by mode.

    python -m benchmarks.filter_spectrum            # writes assets/filter_spectrum.png and prints the numbers

Refinement adds the low frequencies of one noise to the rest of another, x' + φ(y' - x'). The network was trained on
white noise of variance 1; this is what it gets instead.
"""

import math
import sys
from functools import reduce
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffusions.low_pass import LOW_PASSES
from utils.files import PROJECT

SIZE = 64
FACTORS = (2, 4, 8, 16)


def cosines(size: int) -> Tensor:
    """Make the orthonormal cosine basis (DCT-II), one row per mode of a symmetrically padded axis. [size, size]"""
    k = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * (k + 0.5) * k[:, None] / size) * math.sqrt(2 / size)
    return torch.where(k[:, None] == 0, basis / math.sqrt(2), basis)


def refined_variance(matrix: Tensor) -> Tensor:
    """Variance in each 2D cosine mode c of (I - φ)a + φb, a and b white: |(I - φ)ᵀc|² + |φᵀc|², (1-g)² + g² at gain g.

    Args:
        matrix: [n, n], φ along one axis; the other's is the same.

    Returns:
        [n, n], by vertical and horizontal frequency.
    """
    basis = cosines(len(matrix)).to(matrix)
    passed = basis @ matrix
    power, gain = passed.square().sum(1), (passed * basis).sum(1)
    return 1 - 2 * gain[:, None] * gain + 2 * power[:, None] * power


def shells(size: int) -> Tensor:
    """Return the higher of each 2D mode's two frequencies, relative to Nyquist's; N passes 1/N. [size, size]"""
    frequency = torch.arange(size) / size
    return torch.maximum(frequency[:, None], frequency)


def draw(picture: Path) -> None:
    """Mean variance by frequency, a panel a filter; the numbers are printed."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    shell = shells(SIZE)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, (name, makers) in zip(axes.flat, LOW_PASSES.items(), strict=True):
        for factor in FACTORS:
            matrices = (make(SIZE, factor) for make in makers)
            variance = refined_variance(reduce(lambda done, matrix: matrix @ done, matrices))
            octave = variance[(shell >= 0.5 / factor) & (shell < 1 / factor)].mean()
            print(f"{name} N = {factor}: {variance.mean():.3f} in all, {octave:.3f} in the octave below the cutoff")
            frequencies = shell.unique()
            curve = [variance[shell == frequency].mean().item() for frequency in frequencies]
            ax.plot(frequencies, curve, label=f"N = {factor}")
        ax.set(title=f"--low_pass {name}", xlabel="frequency (Nyquist's = 1)", ylim=(0, 1.1))
        ax.legend(loc="lower right")
    figure.axes[0].set_ylabel("variance left of the noise")
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "assets" / "filter_spectrum.png")

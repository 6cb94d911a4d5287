"""Whether windows leave seams, and what they cost: an embedded model at 1, 4 and 16 times its own area.

    python -m benchmarks.tiles [--count 32] [--steps 10] [--rounds 3]        # --domain for another model

Seams are measured on images that follow enlarged held-out images: the mean gradient across windows' borders over
that elsewhere. Since images have lines of their own, this is divided by the same ratio for images made without
windows. If windows draw only the last step, the default, these are the same images without it. If they draw every
step (of half as many), they are images that the network has seen whole; there, windows that move from step to step
are compared with fixed ones. Intervals are bootstrapped over the images, 95 %. Memory and time are those of a bare
network and a tiled one, in single-threaded processes that measure in turn; medians of the rounds, and of their
ratios.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.domain import add_domain, read_domain
from benchmarks.memory import peak_bytes
from benchmarks.networks import load_embedded, load_large
from benchmarks.samplers import timed
from benchmarks.workers import Worker, machine, print_table, print_target, ratio
from diffusions import DDPM, ILVR, Overview, Process, SampleNoise
from diffusions.process import Denoiser
from models import Model
from models.networks.tiles import Axis, Tiles, divide
from utils.batching import keep_freed_memory
from utils.resize_right import resize

SIZE, MULTIPLE, FACTOR = 64, 8, 8  # of the embedded model's images, and what binds there
SCALES = (1, 2, 4)
OVERLAPS = {"none": 0, "an eighth": SIZE // 8, "a quarter": SIZE // 4, "a half": SIZE // 2}
BATCH = 32  # windows at a time
COST_BATCH = 128  # where cost is measured: of fewer, the memory is as little as the allocator's own
LARGE_SIZE, LARGE_BATCH = 256, 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the seams and the cost of windows")
    parser.add_argument("--count", type=int, default=32, help="images of each kind")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="of memory and time; 0 leaves them out")
    add_domain(parser)
    args = parser.parse_args()
    weights, held_out, _ = read_domain(args.domain)
    print(machine())
    torch.set_grad_enabled(False)
    keep_freed_memory()
    if args.rounds:
        costs(args.rounds, SCALES, large=False)
        costs(1, (1, 4), large=True)
    header = ["size", "windows draw", "overlap", "windows", "gradient across borders / elsewhere"]
    print_table("Seams", header, seams(load_embedded("bf16", weights), held_out[: args.count], args.steps))


class Fixed(Tiles):
    """Windows at the same places in every step."""

    def shift(self, t: Tensor) -> float:
        return 0.0


def seams(model: Model, references: Tensor, steps: int) -> Iterator[list[str]]:
    """Yield the rows of the table, of images that follow references [N, 3, 64, 64]."""
    few = steps // 2
    for scale in SCALES[1:]:
        whole = Tiles(model.network, (SIZE, SIZE), 0, BATCH, whole=scale**2)
        control = sample(model.process, whole, scale, references, steps, detail_steps=0)
        for name, overlap in OVERLAPS.items():
            tiles = Tiles(model.network, (SIZE, SIZE), overlap, BATCH)
            images = sample(model.process, tiles, scale, references, steps, detail_steps=1)
            axis = divide(scale * SIZE, SIZE, overlap)
            yield _seam_row(axis, len(axis.starts), "the last step", name, images, control)
        control = sample(model.process, whole, scale, references, few, detail_steps=few)
        axis = divide(scale * SIZE, SIZE, SIZE // 4)
        for name, kind, more in (("a quarter, fixed", Fixed, 0), ("a quarter", Tiles, 1)):
            tiles = kind(model.network, (SIZE, SIZE), SIZE // 4, BATCH)
            images = sample(model.process, tiles, scale, references, few, detail_steps=few)
            yield _seam_row(axis, len(axis.starts) + more, "every step", name, images, control)


def _seam_row(axis: Axis, windows: int, drawn: str, name: str, images: Tensor, control: Tensor) -> list[str]:
    low, middle, high = seam(images, control, axis.borders)
    found = f"{middle:.3f} ({low:.3f} … {high:.3f})"
    return [f"{axis.length}×{axis.length}", drawn, name, str(windows**2), found]


def sample(process: Process, network: Denoiser, scale: int, small: Tensor, steps: int, detail_steps: int) -> Tensor:
    """Draw images of `scale` times the model's size that follow small ones, [N, 3, H, W] in [-1, 1]."""
    side, count = scale * SIZE, len(small)
    references = resize(small, out_shape=(side, side), pad_mode="symmetric").clamp(-1, 1)
    sampler = DDPM(Overview(process, SIZE, MULTIPLE, detail_steps), steps)
    batches = []
    for first in range(0, count, BATCH):
        guide = ILVR(references[first : first + BATCH], scale * FACTOR, range_t=steps // 5)
        noise = SampleNoise(0, range(first, min(first + BATCH, count)))
        batches.append(sampler.sample(network, noise.randn(3, side, side), guide, noise.randn_like))
    return torch.cat(batches).clamp(-1, 1)


def seam(images: Tensor, control: Tensor, borders: Sequence[int]) -> tuple[float, float, float]:
    """Divide the mean gradient across borders by that elsewhere, relative to the control.

    Args:
        images, control: [B, C, H, W].
        borders: along both axes, each before the pixel of its number.

    Returns:
        Lower end, middle and upper end of its 95 % interval.
    """
    parts = torch.stack([part for made in (images, control) for part in _gradients(made, borders)])
    drawn = torch.randint(len(images), (10_000, len(images)), generator=torch.Generator().manual_seed(0))
    across, elsewhere, control_across, control_elsewhere = parts[:, drawn].sum(2)
    low, high = ((across / elsewhere) / (control_across / control_elsewhere)).quantile(torch.tensor([0.025, 0.975]))
    across, elsewhere, control_across, control_elsewhere = parts.sum(1)
    return low.item(), ((across / elsewhere) / (control_across / control_elsewhere)).item(), high.item()


def _gradients(images: Tensor, borders: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return each image's mean gradient across borders, and elsewhere, [B] each."""
    across, elsewhere = torch.zeros(2, len(images))
    for axis in (2, 3):
        gradient = images.diff(dim=axis).abs().movedim(axis, -1).mean((1, 2))  # [B, places between pixels]
        at = torch.zeros(gradient.shape[1], dtype=torch.bool)
        at[torch.tensor(borders) - 1] = True
        across += gradient[:, at].mean(1)
        elsewhere += gradient[:, ~at].mean(1)
    return across, elsewhere


class Contender:
    """A network on images of `scale` times its size, in windows if that is above 1.

    Args:
        scale: how many times as high and wide as the network's own images.
        large: the CelebA-HQ architecture at 256×256, with random weights, instead of the embedded model.
    """

    def __init__(self, scale: int, large: bool = False) -> None:
        size, batch = (LARGE_SIZE, LARGE_BATCH) if large else (SIZE, COST_BATCH)
        network = load_large("bf16") if large else load_embedded("bf16").network
        self.call = Tiles(network, (size, size), size // 4, batch)
        count = max(1, batch // scale**2)
        self.x = torch.randn(count, 3, scale * size, scale * size)
        self.t = torch.zeros(count, dtype=torch.int64)  # the timestep of the fewest windows
        self.memory = self._memory()
        keep_freed_memory()

    def seconds(self) -> float:
        """Return the seconds of a call per pixel."""
        return timed(lambda: self.call(self.x, self.t)) / self.x[:, 0].numel()

    def peak(self) -> int:
        """Return the bytes that a call needs on top of the network and the images."""
        return self.memory

    def _memory(self) -> int:
        self.seconds()  # what is set up once
        Path("/proc/self/clear_refs").write_text("5")  # Linux: from here on, the peak is a new one
        before = peak_bytes()
        self.seconds()
        return peak_bytes() - before


def costs(rounds: int, scales: Sequence[int], large: bool) -> None:
    """Print memory and time at each scale."""
    size = LARGE_SIZE if large else SIZE
    workers = [Worker(Contender, scale, large, threads=1) for scale in scales]
    seconds = list(zip(*([worker("seconds") for worker in workers] for _ in range(rounds)), strict=True))
    memory = [worker("peak") for worker in workers]
    rows = []
    for i, scale in enumerate(scales):
        windows = len(divide(scale * size, size, size // 4).starts) ** 2
        share = windows / scale**2
        slower = ratio(seconds[i], seconds[0])
        rows.append([f"{scale * size}×{scale * size}", windows, f"{memory[i] / 2**20:.0f}"])
        rows[-1] += [f"{1e6 * median(seconds[i]):.2f}", f"{slower:.2f}", f"{share:.2f}", f"{slower / share:.3f}"]
    header = ["size", "windows", "memory, MiB", "µs per pixel", "times 1×", "windows' area / image's", "the rest"]
    print_table(f"One call in bfloat16, up to {LARGE_BATCH if large else COST_BATCH} windows at a time", header, rows)
    for worker in workers:
        worker.stop()
    print_target("most memory in windows, over that without", max(memory[1:]) / memory[0], "≤", 1.3)


if __name__ == "__main__":
    main()

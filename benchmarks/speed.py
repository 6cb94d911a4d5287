"""How fast this project samples, against diffusers with resize-right and against the machine's own limit.

    python -m benchmarks.speed [--models 64 256] [--batches 8] [--rounds 5] [--threads 2] [--compile]

The embedded model at 64×64 and the architecture of Ho et al.'s CelebA-HQ model (random weights) at 256×256, the same
weights and the same ILVR loop on both sides, float32 and bfloat16. Every contender has its own process; they measure
in turn, round after round, and the tables show medians of the rounds, or of the rounds' ratios, where it matters with
their 95 % interval by bootstrap. bfloat16 is left out
if the processor only emulates it, which takes many times as long. With an accelerator, the P2 architecture (ADM),
more batch sizes, compiled networks and the synchronisations of a loop are measured too.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from benchmarks.samplers import Ours, Products, Theirs
from benchmarks.workers import Worker, machine, print_table, print_target, ratio, ratio_interval
from models.files.checkpoint import find_weights
from models.files.config import read_config
from models.networks.ready import DTYPES, emulates_bf16
from utils.files import PROJECT

CUDA = torch.cuda.is_available()
EMBEDDED, CELEBAHQ, P2 = (
    PROJECT / "configs" / f"{name}.yaml" for name in ("openpeeps64", "google_ddpm_celebahq_256", "p2_ffhq_256")
)
PRECISIONS = {"no": "float32", "bf16": "bfloat16"}
if emulates_bf16(torch.device("cuda" if CUDA else "cpu")):
    del PRECISIONS["bf16"]

Rates = dict[str, tuple[float, float]]  # FLOP/s of torch.mm and of a convolution, by precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["64", "256"] + ["p2"] * CUDA, choices=["64", "256", "p2"])
    parser.add_argument("--batches", type=int, nargs="+", help="1, 8 and 32; without an accelerator 8 and 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of each process; with 1, processor time is what is measured")
    parser.add_argument("--compile", action="store_true", default=CUDA)
    args = parser.parse_args()

    print(machine() + (f", {args.threads} thread" if args.threads else ""))
    if "bf16" not in PRECISIONS:
        print("bfloat16 is only emulated here, and left out")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    rates = measure_rates()
    for name in args.models:
        with network(name) as (weights, size):
            for batch in args.batches or ([1, 8, 32] if CUDA else [8 if size == 64 else 1]):
                compare(weights, size, batch, args.rounds, args.compile, rates)


def measure_rates() -> Rates:
    """Of two ways to multiply matrices."""
    products, rates = Worker(Products), {}
    for precision, word in PRECISIONS.items():
        mm, convolution = (median(products("rate", DTYPES[precision], way) for _ in range(5)) for way in (False, True))
        rates[word] = mm, convolution
    products.stop()
    rows = [[precision, *(f"{rate / 1e9:.0f}" for rate in both)] for precision, both in rates.items()]
    print_table("Matrix products, GFLOP/s", ["", "torch.mm", "3×3 convolution"], rows)
    return rates


@contextmanager
def network(name: str) -> Iterator[tuple[Path, int]]:
    """Return a network's weights (a diffusers folder, or a config for random ones) and the size of its images."""
    if name == "64":
        weights = read_config(EMBEDDED).weights
        assert weights is not None
        yield find_weights(weights), 64
    elif name == "p2":
        yield P2, 256
    else:
        from diffusers import DDPMScheduler, UNet2DModel

        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            UNet2DModel(**read_config(CELEBAHQ).params).save_pretrained(folder)  # type: ignore[attr-defined]
            DDPMScheduler().save_pretrained(folder)  # type: ignore[attr-defined]
            yield Path(folder), 256


@dataclass
class Measured:
    """One contender, one value per round."""

    seconds: list[float] = field(default_factory=list)  # a step of the loop
    over_forward: list[float] = field(default_factory=list)  # that over the network's own in it
    peak: int = 0  # bytes
    difference: float = 0.0  # of one forward from our float32 one, relative to its largest value

    @property
    def forward(self) -> float:
        return median(s / over for s, over in zip(self.seconds, self.over_forward, strict=True))


def compare(weights: Path, size: int, batch: int, rounds: int, compiled: bool, rates: Rates) -> None:
    """All contenders, in turn."""
    steps = 50 if CUDA else max(4, 640 // size)
    workers: dict[str, Worker] = {}
    for precision, word in PRECISIONS.items():
        workers[f"ours, {word}"] = Worker(Ours, weights, size, batch, precision)
        if compiled:
            workers[f"ours, {word}, compiled"] = Worker(Ours, weights, size, batch, precision, True)
        if weights.is_dir():
            workers[f"diffusers, {word}"] = Worker(Theirs, weights, size, batch, precision)
    bare = Worker(Ours, weights, size, batch, "no", False, True)
    flops, reference = bare("flops"), bare("output")
    measured = {name: Measured() for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            seconds, over_forward = worker("loop", steps)
            measured[name].seconds.append(seconds)
            measured[name].over_forward.append(over_forward)
    for name, worker in workers.items():
        measured[name].peak = worker("peak")
        measured[name].difference = ((worker("output") - reference).abs().max() / reference.abs().max()).item()

    title = f"{size}×{size}, batch {batch}, {flops / 1e9:.0f} GFLOP per forward"
    print_table(
        f"{title}; bare float32 forward: peak {bare('peak') / 1e6:.0f} MB", *table(measured, batch, flops, rates)
    )
    print()
    print_targets(measured, size, flops, bare("peak"), rates)
    if size == 64 and "bf16" in PRECISIONS:
        full, half = (workers[f"ours, {word}"]("images", 50) for word in PRECISIONS.values())
        psnr = 10 * torch.log10(4 / (full - half).square().mean((1, 2, 3)))
        print_target("PSNR of bfloat16's images, dB, the least", psnr.min().item(), "≥", 35)
    if CUDA:
        print_target("synchronisations in a loop", workers["ours, float32"]("synchronisations", steps), "≤", 0)
    for worker in (*workers.values(), bare):
        worker.stop()


def table(measured: dict[str, Measured], batch: int, flops: int, rates: Rates) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header, and one row per contender."""
    columns = "ms per step, image-steps/s, × diffusers float32, × diffusers same precision, loop / forward, GFLOP/s, "
    columns += "of torch.mm, of 3×3 convolution, peak MB, network differs by"

    def row(name: str, own: Measured) -> list[str]:
        precision = "bfloat16" if "bfloat16" in name else "float32"
        base = measured.get("diffusers, float32", measured["ours, float32"]).seconds
        like = measured.get(f"diffusers, {precision}", measured["ours, float32"]).seconds
        rate, (middle, low, high) = flops / own.forward, ratio_interval(like, own.seconds)
        return [
            name,
            f"{1000 * median(own.seconds):.1f}",
            f"{batch / median(own.seconds):.2f}",
            f"{ratio(base, own.seconds):.2f}",
            f"{middle:.2f} ({low:.2f} … {high:.2f})",
            f"{median(own.over_forward):.4f}",
            f"{rate / 1e9:.0f}",
            *(f"{rate / limit:.0%}" for limit in rates[precision]),
            f"{own.peak / 1e6:.0f}",
            f"{own.difference:.0e}",
        ]

    return ["", *columns.split(", ")], (row(*item) for item in measured.items())


def print_targets(measured: dict[str, Measured], size: int, flops: int, bare_peak: int, rates: Rates) -> None:
    """Print this project's targets and whether the plain contenders meet them."""
    large = size == 256
    for precision in PRECISIONS.values():
        own = measured[f"ours, {precision}"]
        print_target(f"{precision}: loop / forward", median(own.over_forward), "≤", 1.005 if large else 1.02)
        if large:
            print_target(f"{precision}: of torch.mm", flops / own.forward / rates[precision][0], "≥", 0.85)
        if theirs := measured.get(f"diffusers, {precision}"):
            goals = {"float32": 1.15, "bfloat16": 1} if large else {"float32": 1.25, "bfloat16": 1.4}
            times = ratio(theirs.seconds, own.seconds)
            print_target(f"{precision}: × diffusers' {precision}", times, "≥", goals[precision])
    half, theirs = measured.get("ours, bfloat16"), measured.get("diffusers, float32")
    if large and half and theirs:
        print_target("bfloat16: × diffusers' float32", ratio(theirs.seconds, half.seconds), "≥", 2.3)
    peak = measured["ours, float32"].peak
    print_target("float32: peak memory over the bare network's", peak / bare_peak, "≤", 1.1)


if __name__ == "__main__":
    main()

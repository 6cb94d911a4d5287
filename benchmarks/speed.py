"""How fast this project samples, against diffusers with resize-right and against the machine's own limit.

    python -m benchmarks.speed [--models 64 256] [--batches 8] [--rounds 5] [--threads 2] [--compile]

The embedded model at 64×64 and the architecture of Ho et al.'s CelebA-HQ model (random weights) at 256×256, the same
weights and the same ILVR loop on both sides, float32 and bfloat16. Every contender is a process of its own; they
measure in turn, round after round, and the tables show medians of the rounds, or of the rounds' ratios. With an
accelerator also the P2 architecture (ADM), more batch sizes, compiled networks, and the synchronisations of a loop.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from benchmarks.samplers import Ours, Products, Theirs
from benchmarks.workers import Worker, machine, print_table, ratio
from utils.config import PROJECT, find_weights, read_config

CUDA = torch.cuda.is_available()
EMBEDDED, CELEBAHQ, P2 = (
    PROJECT / "configs" / f"{name}.yaml" for name in ("openpeeps64", "google_ddpm_celebahq_256", "p2_ffhq_256")
)
PRECISIONS = {"no": "float32", "bf16": "bfloat16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["64", "256"] + ["p2"] * CUDA, choices=["64", "256", "p2"])
    parser.add_argument("--batches", type=int, nargs="+", help="1, 8 and 32; without an accelerator 8 and 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of each process; with 1, processor time is what is measured")
    parser.add_argument("--compile", action="store_true", default=CUDA)
    args = parser.parse_args()

    print(machine() + (f", {args.threads} thread" if args.threads else ""))
    torch.set_num_threads(args.threads or torch.get_num_threads())
    rates = measure_rates()
    for name in args.models:
        with network(name) as (weights, size):
            for batch in args.batches or ([1, 8, 32] if CUDA else [8 if size == 64 else 1]):
                compare(weights, size, batch, args.rounds, args.compile, rates)
            if size == 64 and not CUDA:
                scale(weights, size, args.rounds)


def measure_rates() -> dict[str, tuple[float, float]]:
    """FLOP/s of the two ways to multiply matrices, in each precision."""
    products, rates = Worker(Products), {}
    rows = []
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        mm, convolution = (median(products("rate", dtype, way) for _ in range(5)) for way in (False, True))
        rates[precision] = mm, convolution
        rows.append([PRECISIONS[precision], f"{mm / 1e9:.0f}", f"{convolution / 1e9:.0f}"])
    products.stop()
    print_table("Matrix products, GFLOP/s", ["", "torch.mm", "3×3 convolution"], rows)
    return rates


@contextmanager
def network(name: str) -> Iterator[tuple[Path, int]]:
    """A network's weights (a diffusers folder, or a config for random ones) and the size of its images."""
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


def compare(
    weights: Path, size: int, batch: int, rounds: int, compiled: bool, rates: dict[str, tuple[float, float]]
) -> None:
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
    flops = bare("flops")
    outputs = {name: worker("output") for name, worker in workers.items()}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            measured[name].append(worker("loop", steps))

    seconds = {name: [s for s, _ in values] for name, values in measured.items()}
    base = seconds.get("diffusers, float32") or seconds["ours, float32"]
    rows = []
    for name, worker in workers.items():
        forward = [s / over for s, over in measured[name]]
        mm, convolution = rates["bf16" if "bfloat16" in name else "no"]
        like = seconds.get(f"diffusers, {'bfloat16' if 'bfloat16' in name else 'float32'}", base)
        difference = (outputs[name] - outputs["ours, float32"]).abs().max() / outputs["ours, float32"].abs().max()
        rows.append(
            [
                name,
                f"{1000 * median(seconds[name]):.0f}",
                f"{batch / median(seconds[name]):.2f}",
                f"{ratio(base, seconds[name]):.2f}",
                f"{ratio(like, seconds[name]):.2f}",
                f"{median(over for _, over in measured[name]):.4f}",
                f"{flops / median(forward) / 1e9:.0f}",
                f"{100 * flops / median(forward) / mm:.0f}%",
                f"{100 * flops / median(forward) / convolution:.0f}%",
                f"{worker('peak') / 1e6:.0f}",
                f"{difference:.0e}",
            ]
        )
    columns = "ms a step, image-steps/s, × diffusers float32, × diffusers same precision, loop / forward, GFLOP/s, "
    columns += "of torch.mm, of 3×3 convolution, peak MB, network differs by"
    print_table(
        f"{size}×{size}, batch {batch}, {flops / 1e9:.0f} GFLOP a forward; bare float32 forward: peak "
        f"{bare('peak') / 1e6:.0f} MB",
        ["", *columns.split(", ")],
        rows,
    )
    if CUDA:
        print(f"\nsynchronisations in a loop of {steps} steps: {workers['ours, float32']('synchronisations', steps)}")
    for worker in (*workers.values(), bare):
        worker.stop()


def scale(weights: Path, size: int, rounds: int, batch: int = 8, steps: int = 5) -> None:
    """Two processes of one thread each, as accelerate starts them, against one process of two threads."""
    whole = Worker(Ours, weights, size, batch, "no", threads=2)
    halves = [Worker(Ours, weights, size, batch, "no", threads=1) for _ in range(2)]
    rates: dict[str, list[float]] = {"one process, two threads": [], "two processes, one thread each": []}
    for _ in range(rounds + 1):  # the first is a warm-up
        rates["one process, two threads"].append(batch / whole("wall", steps))
        for half in halves:
            half.begin("wall", steps)
        rates["two processes, one thread each"].append(sum(batch / half.result() for half in halves))
    one, two = (values[1:] for values in rates.values())
    rows = [[name, f"{median(values[1:]):.1f}"] for name, values in rates.items()]
    print_table(f"Scaling, {size}×{size}, batch {batch}, float32", ["", "image-steps/s"], rows)
    print(f"\ntwo processes over one: {ratio(two, one):.2f}")
    for worker in (whole, *halves):
        worker.stop()


if __name__ == "__main__":
    main()

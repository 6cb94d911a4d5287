"""How the images per second grow with the processes: measured for two, modelled for more.

    python -m benchmarks.scaling [--images 10000] [--steps 50] [--rounds 3]

There is one process per GPU, or without a GPU one single-threaded process per core. First, two processes of one
thread are compared with one of two, once both have started. Then come whole runs by `accelerate launch`: the times of
one process for 8 and 24 images give its seconds for none, t₀, and for each further one, t₁. Since running processes
share nothing, P of them should take t₀ + t₁ · 8 · ⌈n / 8P⌉ for n images in batches of 8. This is measured for two.
"""

import argparse
import math
import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks.launches import launch
from benchmarks.samplers import Ours
from benchmarks.workers import Worker, machine, print_table, print_target, ratio
from utils.files import PROJECT

WEIGHTS, SIZE = PROJECT / "weights" / "openpeeps64", 64
BATCH, FEW, MANY = 8, 8, 24
PROCESSES = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10000, help="of the modelled run")
    parser.add_argument("--steps", type=int, default=50, help="network calls per image")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    if not torch.cuda.is_available():
        compare_threads(args.rounds)
    compare_launches(args.images, args.steps, args.rounds)


def compare_threads(rounds: int, steps: int = 5) -> None:
    """Compare two processes of one thread each with one process of two threads."""
    whole = Worker(Ours, WEIGHTS, SIZE, BATCH, "no", threads=2)
    halves = [Worker(Ours, WEIGHTS, SIZE, BATCH, "no", threads=1) for _ in range(2)]
    one, two = [], []
    for _ in range(rounds + 1):
        one.append(BATCH / whole("wall", steps))
        for half in halves:
            half.begin("wall", steps)
        two.append(sum(BATCH / half.result() for half in halves))
    one, two = one[1:], two[1:]  # the first is a warm-up
    rows = [[name, f"{median(rates):.1f}"] for name, rates in (("one of two threads", one), ("two of one", two))]
    print_table(f"Processes at work, {SIZE}×{SIZE}, batch {BATCH}, float32", ["", "image-steps/s"], rows)
    print()
    print_target("two processes over one", ratio(two, one), "≥", 0.95)
    for worker in (whole, *halves):
        worker.stop()


def compare_launches(images: int, steps: int, rounds: int) -> None:
    """Time whole runs, from the command to its end."""
    few, many, both = [], [], []
    threads = None if torch.cuda.is_available() else 1
    two = PROCESSES[1] if torch.cuda.device_count() != 1 else 1  # a single GPU is not shared

    def run(number: int, processes: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ("--n_samples", number, "--respace_steps", steps, "--micro_batch", BATCH)
            return launch(Path(folder), *arguments, processes=processes, threads=threads)

    for _ in range(rounds):
        few.append(run(FEW, 1))
        many.append(run(MANY, 1))
        both.append(run(2 * MANY, two))
    image = median(m - f for f, m in zip(few, many, strict=True)) / (MANY - FEW)
    none = median(few) - FEW * image

    def modelled(number: int, processes: int) -> float:
        return none + image * BATCH * math.ceil(number / (BATCH * processes))

    rows = [
        [processes, f"{images / seconds:.2f}", f"{modelled(images, 1) / seconds:.2f}"]
        for processes in PROCESSES
        for seconds in [modelled(images, processes)]
    ]
    print(f"\na run of no images takes {none:.1f} s, each image of {steps} steps {image:.3f} s more")
    print_table(f"Modelled, {images} images", ["processes", "images/s", "× one process"], rows)
    expected = modelled(2 * MANY, two)
    print(f"\n{2 * MANY} images by {two}: {median(both):.1f} s; modelled {expected:.1f} s")


if __name__ == "__main__":
    main()

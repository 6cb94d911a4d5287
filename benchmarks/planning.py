"""How long a run of very many samples takes to start, to stop, and to resume.

    python -m benchmarks.planning [--samples 1000000] [--finished 5000]

The command itself is timed, with the embedded model and the demo references: wall-clock seconds, processor seconds,
which other work affects less, and peak memory. A dry run makes the plan; one for a single sample shows the share of
torch and the model. For Ctrl-C, the wall clock counts from the signal to the end.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.workers import machine, print_table, print_target
from utils.files import PROJECT
from utils.images import save_png
from utils.run.arguments import parse_args
from utils.run.plan import make_plan
from utils.run.resolve import resolve

SCRIPT = [sys.executable, str(PROJECT / "sample_ilvr.py"), "--respace_steps", "1"]
FINISH = """
import sys
from benchmarks.planning import finish
finish(sys.argv[1:])
"""
SECONDS, MEGABYTES, TO_END, TO_RESUME = 20, 500, 3, 4  # asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--finished", type=int, default=5000)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, many = plan(folder / "plan", 1), plan(folder / "plan", args.samples)
        interrupted = interrupt(folder / "interrupted", args.samples)
        finished = ["--save_dir", str(folder / "finished"), "--n_samples", str(args.finished)]
        subprocess.run([sys.executable, "-c", FINISH, *SCRIPT[2:], *finished], cwd=PROJECT, check=True)
        resumed = timed(*finished)
    runs = {"plan 1 sample": one, f"plan {args.samples:,} samples": many}
    runs |= {f"Ctrl-C with {args.samples:,} left": interrupted, f"resume with {args.finished:,} finished": resumed}
    rows = [[name, f"{used.wall:.1f}", f"{used.processor:.1f}", f"{used.megabytes:.0f}"] for name, used in runs.items()]
    print_table(machine(), ["", "seconds", "of processor time", "MB"], rows)
    print_target("seconds to plan", many.wall, "≤", SECONDS)
    print_target("megabytes to plan", many.megabytes, "≤", MEGABYTES)
    print_target("seconds from Ctrl-C to the end", interrupted.wall, "≤", TO_END)
    print_target("seconds to resume", resumed.wall, "≤", TO_RESUME)


class Used(NamedTuple):
    """What a process used: seconds of wall clock and of processor time, and its peak memory."""

    wall: float
    processor: float
    megabytes: float


def timed(*args: object) -> Used:
    """Run the command and return what it used."""
    start = time.perf_counter()
    process = subprocess.Popen([*SCRIPT, *map(str, args)], cwd=PROJECT, stdout=subprocess.DEVNULL)
    used = end_of(process, start)
    if process.returncode:
        raise SystemExit(f"{args} ended with {process.returncode}")
    return used


def end_of(process: subprocess.Popen, start: float) -> Used:
    """Wait for the end of a process and return what it used."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Used(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def plan(folder: Path, samples: int) -> Used:
    """Return what a dry run uses."""
    return timed("--dry_run", "--save_dir", folder, "--n_samples", samples)


def interrupt(folder: Path, samples: int) -> Used:
    """Return what a run uses from a Ctrl-C, sent once the first images exist, to its end."""
    command = [*SCRIPT, "--save_dir", str(folder), "--n_samples", str(samples)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(folder.glob("*_*.png")) and process.poll() is None:
        time.sleep(0.05)
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    return end_of(process, start)


def finish(argv: Sequence[str]) -> None:
    """Write finished images, of noise, where the command with these arguments would."""
    settings, checkpoint = resolve(parse_args(argv))
    plan = make_plan(settings, checkpoint, 1)
    settings.save_dir.mkdir()
    rng = np.random.default_rng(0)
    for sample in map(plan.samples.__getitem__, range(len(plan.samples))):
        save_png(
            rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), plan.outputs.path(sample), plan.outputs.text(sample)
        )


if __name__ == "__main__":
    main()

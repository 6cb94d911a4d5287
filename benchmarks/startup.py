"""How long it takes until the first step, against what cannot be avoided: importing torch and reading the weights.

    python -m benchmarks.startup [--rounds 9]

Each is a Python process, in turn; seconds of wall clock, and of processor time, which other work affects less, least
with one thread (OMP_NUM_THREADS=1): threads that wait for each other count as working.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

from benchmarks.workers import machine, print_table, print_target, ratio
from utils.files import PROJECT

WEIGHTS = PROJECT / "weights" / "openpeeps64" / "diffusion_pytorch_model.safetensors"
LEAVE = "\nimport os; os._exit(0)"  # without clearing up, which is no part of starting
FIRST_STEP = """
import gc, os, sys, sample_ilvr
gc.disable()  # as the script does while it imports this
from diffusions import DDPM
DDPM.sample_loop = lambda *_: os._exit(0)
sample_ilvr.main(["--save_dir", sys.argv[1]])
"""
ONE_STEP = """
import sys, sample_ilvr
sample_ilvr.main(["--n_samples", "1", "--respace_steps", "1", "--save_dir", sys.argv[1] + "/one", "--overwrite"])
"""
WAYS = {
    "python": "",
    "import torch": "import torch",
    "import torch, weights read": f"import torch; from safetensors.torch import load_file; load_file({str(WEIGHTS)!r})",
    "import accelerate": "import accelerate",
    "sample_ilvr.py -h": "import sample_ilvr; sample_ilvr.main(['-h'])",
    "sample_ilvr.py --dry_run": "import sys, sample_ilvr; sample_ilvr.main(['--dry_run', '--save_dir', sys.argv[1]])",
    "sample_ilvr.py, one image in one step": ONE_STEP,
    "sample_ilvr.py up to the first step": FIRST_STEP,
}
FLOOR = "import torch, weights read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()

    wall: dict[str, list[float]] = {name: [] for name in WAYS}
    processor: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds + 1):
            for name, code in WAYS.items():
                seconds, used = run(code, folder)
                wall[name].append(seconds)
                processor[name].append(used)
    rows = []
    for name in WAYS:
        w, p = wall[name][1:], processor[name][1:]  # the first round fills the system's cache
        rows.append(
            [
                name,
                f"{median(w):.2f}",
                f"{ratio(w, wall[FLOOR][1:]):.2f}",
                f"{median(p):.2f}",
                f"{ratio(p, processor[FLOOR][1:]):.2f}",
            ]
        )
    print(machine())
    print_table("Start-up", ["", "s", "× torch and weights", "processor s", "× torch and weights"], rows)
    last = list(WAYS)[-1]
    print()
    print_target("first step over torch and weights", ratio(wall[last][1:], wall[FLOOR][1:]), "≤", 1.3)


def run(code: str, folder: str) -> tuple[float, float]:
    """Wall-clock and processor seconds of a Python process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}  # else this project is compiled at every start
    command = [sys.executable, "-c", code + LEAVE, folder]
    subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

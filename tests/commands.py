"""Real runs of the entry script, in processes of their own."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.launches import launcher
from sample_ilvr import main

PROJECT = Path(__file__).resolve().parent.parent


ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TQDM_MININTERVAL": "5",
    "OMP_NUM_THREADS": "1",  # threads wait for each other spinning: on a busy machine, several times as long
}
ENTRY = PROJECT / "sample_ilvr.py"


def start(
    processes: int,
    *args: object,
    cwd: Path = PROJECT,
    more_environment: Mapping[str, str] | None = None,
    **options,
) -> subprocess.Popen:
    """Start the entry, under the launcher if `processes` are more than one, as a process group of its own."""
    command = [*(launcher(processes) if processes > 1 else [sys.executable]), ENTRY, *args]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True} | options
    return subprocess.Popen(list(map(str, command)), cwd=cwd, env=ENVIRONMENT | (more_environment or {}), **options)


def run_command(*command: object, cwd: Path = PROJECT, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run a command as a user would and return what it printed; never on a GPU, never on a network."""
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout
    )


def sample_ilvr(*args: object, **options) -> subprocess.CompletedProcess:
    """`python sample_ilvr.py ARGS…`"""
    return run_command(sys.executable, ENTRY, *args, **options)


def run_here(*args: object) -> tuple[int, str]:
    """Run `main` in this process; return its exit code and its error. Exceptions that it does not catch are raised."""
    with redirect_stderr(io.StringIO()) as said:
        try:
            code = main(list(map(str, args)))
        except SystemExit as end:  # argparse's own errors
            code = end.code
    before, *error = re.split(r"sample_ilvr(?:\.py)?: error: ", said.getvalue(), maxsplit=1)
    print(before, file=sys.stderr)
    return code, "".join(error).rstrip("\n")


def launch(processes: int, *args: object, **options) -> subprocess.CompletedProcess:
    """`accelerate launch --num_processes N sample_ilvr.py ARGS…`, on the CPU."""
    return run_command(*launcher(processes), ENTRY, *args, **options)


def read_images(folder: Path) -> dict[str, np.ndarray]:
    """Every sample of a run's folder, by its path below it."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*.png"))}
    return {
        name: np.asarray(Image.open(path)).astype(int)
        for name, path in files.items()
        if not name.endswith("grid.png") and not name.startswith("index_files/")
    }


def contains(grid: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture stands somewhere on a grid, pixel for pixel."""
    height, width = picture.shape[:2]
    corners = zip(*np.nonzero((grid == picture[0, 0]).all(-1)), strict=True)
    return any(np.array_equal(grid[y : y + height, x : x + width], picture) for y, x in corners)

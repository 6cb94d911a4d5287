"""Real runs of the entry script, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent


def run_command(*command: object, cwd: Path = PROJECT, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run a command as a user would and return what it printed; never on a GPU, never on a network."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TQDM_MININTERVAL": "5"}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def sample_ilvr(*args: object, **options) -> subprocess.CompletedProcess:
    """`python sample_ilvr.py ARGS…`"""
    return run_command(sys.executable, PROJECT / "sample_ilvr.py", *args, **options)


def launch(processes: int, *args: object, **options) -> subprocess.CompletedProcess:
    """`accelerate launch --cpu --num_processes N sample_ilvr.py ARGS…`"""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", processes]
    # Port 0 is any free one: two launches at a time do not get in each other's way.
    launcher += ["--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", 0]
    return run_command(*launcher, PROJECT / "sample_ilvr.py", *args, **options)


def read_images(folder: Path) -> dict[str, np.ndarray]:
    """Every sample of a run's folder, by its path below it."""
    files = sorted(path for path in folder.rglob("*.png") if not path.name.endswith("grid.png"))
    return {str(path.relative_to(folder)): np.asarray(Image.open(path)).astype(int) for path in files}

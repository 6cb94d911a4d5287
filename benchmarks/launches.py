"""Real runs of sample_ilvr.py, timed from the outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

from utils.files import PROJECT


def launcher(processes: int) -> list[object]:
    """Return `accelerate launch --num_processes N`, to be followed by a script and its arguments.

    With --cpu, Accelerate starts only one process; --multi_gpu starts all, even without a GPU.
    """
    command: list[object] = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", processes]
    command += ["--multi_gpu"] if processes > 1 else []
    # Port 0 is any free one: two launches at a time do not get in each other's way.
    command += ["--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", 0]
    return command


def launch(save_dir: Path, *args: object, processes: int | None = None, threads: int | None = None) -> float:
    """Run the command and return its seconds of wall clock.

    Args:
        save_dir: where the run writes.
        args: of sample_ilvr.py, except its save_dir.
        processes: to start with accelerate's launcher; None for a plain run.
        threads: OpenMP threads of each process; None for the default.
    """
    command = [sys.executable] if processes is None else launcher(processes)
    command += [PROJECT / "sample_ilvr.py", *args, "--save_dir", save_dir]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), cwd=PROJECT, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start

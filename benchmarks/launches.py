"""Real runs of sample_ilvr.py, timed from the outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

from utils.config import PROJECT


def launch(save_dir: Path, *args: object, processes: int | None = None, threads: int | None = None) -> float:
    """Seconds of wall clock from the command to its end.

    Args:
        args: of sample_ilvr.py, but for its save_dir.
        processes: under accelerate's launcher; without it, if left out.
        threads: OpenMP threads of each process, as many as it likes if left out.
    """
    command: list[object] = [sys.executable]
    if processes is not None:
        command += ["-m", "accelerate.commands.launch", "--num_processes", processes, "--num_machines", 1]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", 0]
        command += ["--multi_gpu"] if processes > 1 else []  # with --cpu, Accelerate would start only one
    command += [PROJECT / "sample_ilvr.py", *args, "--save_dir", save_dir]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), cwd=PROJECT, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start

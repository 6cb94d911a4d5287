"""Real runs of sample_ilvr.py, timed from the outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

from utils.files import PROJECT


def launcher(processes: int) -> list[object]:
    """`accelerate launch --num_processes N`, to be followed by a script and its arguments.

    Of several processes Accelerate starts only one with --cpu; --multi_gpu starts them also where there is no GPU.
    """
    command: list[object] = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", processes]
    command += ["--multi_gpu"] if processes > 1 else []
    # Port 0 is any free one: two launches at a time do not get in each other's way.
    command += ["--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", 0]
    return command


def launch(save_dir: Path, *args: object, processes: int | None = None, threads: int | None = None) -> float:
    """Seconds of wall clock from the command to its end.

    Args:
        args: of sample_ilvr.py, but for its save_dir.
        processes: under accelerate's launcher; without it, if left out.
        threads: OpenMP threads of each process, as many as it likes if left out.
    """
    command = [sys.executable] if processes is None else launcher(processes)
    command += [PROJECT / "sample_ilvr.py", *args, "--save_dir", save_dir]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), cwd=PROJECT, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start

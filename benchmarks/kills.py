"""A run of several processes, killed again and again, and finished: are its bytes those of an undisturbed run?

    python -m benchmarks.kills [--kills 100] [--processes 3]

Half of the kills end the whole run, as a machine dies; the others one process of it, as the system does that is out of
memory. Each comes a drawn while after the launch, or after some more images than there were, so that all parts of a run
are hit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.launches import launcher
from utils.files import PROJECT

STEPS, MICRO_BATCH, IMAGES_PER_KILL = 5, 2, 6
LAUNCH = 8.0  # seconds, about


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder and its subfolders, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images(folder: Path) -> list[Path]:
    """Return the finished images."""
    return list((folder / "out").glob("*_*.png"))


def members(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # no process, or one that has just ended
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(entry.name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--processes", type=int, default=3)
    args = parser.parse_args()
    rng = random.Random(0)
    job = ["--respace_steps", STEPS, "--micro_batch", MICRO_BATCH, "--n_samples", IMAGES_PER_KILL * args.kills]
    command = list(map(str, [*launcher(args.processes), PROJECT / "sample_ilvr.py", *job, "--save_dir", "out"]))
    options = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name, "whole"), Path(name, "killed")
        for folder in (whole, killed):
            folder.mkdir()
        subprocess.run(command, cwd=whole, check=True, **options)  # type: ignore[call-overload]
        counts = [0]
        for _ in range(args.kills):
            run = subprocess.Popen(command, cwd=killed, start_new_session=True, **options)  # type: ignore[call-overload]
            enough, end = counts[-1] + rng.randint(1, IMAGES_PER_KILL), time.monotonic() + rng.uniform(0, 4 * LAUNCH)
            while len(images(killed)) < enough and time.monotonic() < end and run.poll() is None:
                time.sleep(0.005)
            alive = members(run.pid)
            if run.poll() is None and rng.random() < 0.5:
                os.killpg(run.pid, signal.SIGKILL)
            elif alive:
                os.kill(rng.choice(alive), signal.SIGKILL)
            run.wait()
            while members(run.pid):
                time.sleep(0.05)
            counts.append(len(images(killed)))
            print(f"{len(counts) - 1} kills, {counts[-1]} images", file=sys.stderr)
        subprocess.run(command, cwd=killed, check=True, **options)  # type: ignore[call-overload]
        same = contents(whole / "out") == contents(killed / "out")
    total = IMAGES_PER_KILL * args.kills
    report = {"kills": args.kills, "processes": args.processes, "images": total, "after the last": counts[-1]}
    print(json.dumps(report | {"same bytes": same}))


if __name__ == "__main__":
    main()

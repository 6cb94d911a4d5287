"""Whether the demo's images have the pixels that an earlier commit made, on this machine.

    python -m benchmarks.same_images REVISION [ARGUMENT ...]      # arguments of sample_ilvr.py, for both

What moves code without changing what it computes is to print 0.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from utils.files import PROJECT
from utils.images import read_pixels


def main() -> None:
    revision, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        earlier, now, checkout = (Path(folder, name) for name in ("earlier", "now", "checkout"))
        subprocess.run(["git", "worktree", "add", "--detach", checkout, revision], cwd=PROJECT, check=True)
        try:
            sample(checkout, earlier, arguments)
            sample(PROJECT, now, arguments)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", checkout], cwd=PROJECT, check=True)
        compare(earlier, now)


def sample(project: Path, save_dir: Path, arguments: list[str]) -> None:
    """Run a checkout's own command."""
    command = [sys.executable, str(project / "sample_ilvr.py"), *arguments, "--save_dir", str(save_dir)]
    subprocess.run(command, cwd=project, check=True)


def compare(earlier: Path, now: Path) -> None:
    """Print by how much the images differ."""
    names = sorted(path.relative_to(earlier) for path in earlier.rglob("*_[0-9]*.png"))
    differences = [abs(read_pixels(earlier / name).astype(int) - read_pixels(now / name)).max() for name in names]
    print(f"{len(names)} images, the largest difference of a pixel: {max(differences)} grey levels")


if __name__ == "__main__":
    main()

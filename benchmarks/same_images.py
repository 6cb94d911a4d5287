"""Whether images have the pixels that an earlier commit gave them, on this machine.

    python -m benchmarks.same_images REVISION                 # two images of four steps each: a minute or two
    python -m benchmarks.same_images REVISION ARGUMENT ...    # with these arguments of sample_ilvr.py instead

Each case is run by both commits: the portraits, a sweep, DDIM, larger images, three families of recorded networks
and a latent diffusion model. For each it prints the largest difference of a pixel; and how many of the earlier commit's
finished images this one draws again when it is run in their folder. A change that only moves code gives 0 and 0.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from diffusers import VQModel
from safetensors.torch import save_file

from tests import families
from tests.latent import save_pipeline
from utils.files import PROJECT
from utils.images import read_pixels

QUICK = ("--n_samples", "2", "--respace_steps", "4", "--downsample_factor", "8")  # the default of 0.1.0
PORTRAITS = ("-c", "configs/openpeeps64.yaml")  # each commit's own, with its references
CASES: dict[str, Sequence[str]] = {
    "portraits": PORTRAITS,
    "sweep": (*PORTRAITS, "--downsample_factor", "4", "8", "--range_t", "0", "2"),
    "DDIM": (*PORTRAITS, "--ddim"),
    "paper, projection": (*PORTRAITS, "--refine", "sample", "--range_t", "0", "--low_pass", "projection"),
    "--upscale 2": (*PORTRAITS, "--upscale", "2"),
}


def main() -> None:
    revision, *given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = CASES | families_in(folder) | latent_in(folder)
        checkout = folder / "checkout"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", checkout, revision], cwd=PROJECT, check=True)
        try:
            for number, (case, arguments) in enumerate(cases.items()):
                command = [*arguments, *(given or QUICK)]
                earlier, now = (folder / f"{number}_{side}" for side in ("earlier", "now"))
                sample(checkout, earlier, command)
                sample(PROJECT, now, command)
                difference = largest_difference(earlier, now)
                print(f"{case}: {difference} grey levels, {drawn_again(earlier, command)} drawn again", flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", checkout], cwd=PROJECT, check=True)


def families_in(folder: Path) -> dict[str, Sequence[str]]:
    """Write three families' recorded networks to a folder, and return the arguments that name each."""
    cases: dict[str, Sequence[str]] = {}
    for name in ("improved_lsun_like", "score_sde_ddpm"):
        weights, config = folder / f"{name}.safetensors", folder / f"{name}.given.yaml"
        save_file(families.weights(name), weights)
        config.write_text(yaml.safe_dump(families.config(name)), encoding="utf-8")
        cases[name] = ("--weights", str(weights), "-c", str(config))
    cases["edm_vp_ddpmpp"] = ("--weights", str(families.unpacked("edm_vp_ddpmpp.pkl", folder)))
    return cases


def latent_in(folder: Path) -> dict[str, Sequence[str]]:
    """Write a latent diffusion model of random weights to a folder, and return the arguments that name it."""
    save_pipeline(folder / "latent", VQModel)
    return {"latent diffusion": ("--weights", str(folder / "latent"))}


def sample(project: Path, save_dir: Path, arguments: Sequence[str]) -> None:
    """Run a checkout's own command."""
    command = [sys.executable, str(project / "sample_ilvr.py"), *arguments, "--save_dir", str(save_dir)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def largest_difference(earlier: Path, now: Path) -> int:
    """Return the largest difference between the images' pixels, in grey levels; both have the same images."""
    names = image_names(earlier)
    if not names or names != image_names(now):
        raise SystemExit(f"one made {names}, the other {image_names(now)}")
    return max(abs(read_pixels(earlier / name).astype(int) - read_pixels(now / name)).max() for name in names)


def drawn_again(earlier: Path, arguments: Sequence[str]) -> int:
    """Run this commit's command in the earlier one's folder, and count the images that it writes."""
    before = {name: (earlier / name).stat().st_mtime_ns for name in image_names(earlier)}
    sample(PROJECT, earlier, arguments)
    return sum((earlier / name).stat().st_mtime_ns != time for name, time in before.items())


def image_names(save_dir: Path) -> list[Path]:
    """List the images of a run, by their paths in its folder."""
    return sorted(path.relative_to(save_dir) for path in save_dir.rglob("*_[0-9]*.png"))


if __name__ == "__main__":
    main()

"""The figures of the README and the docs, made by the command itself on the embedded models and their references.

python -m benchmarks.figures                      # all of them, into assets/
python -m benchmarks.figures sweep strength       # some of them
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from utils.files import PROJECT
from utils.images import make_grid, make_labelled_grid, read_pixels, read_reference, save_png, to_pixels

REFERENCES = PROJECT / "assets" / "references"
SIZE = 64  # of the embedded model's images
MIXED = (
    "openpeeps-003",
    "openpeeps-589",
    "personas-grace",
    "micah-edsger",
    "adventurer-margaret",
    "photo-astronaut",
    "paint-redhead",
    "scribble-blue-hair",
)
FEW = ("openpeeps-589", "personas-grace", "micah-edsger", "photo-astronaut")
SCRIBBLED = ("paint-redhead", "scribble-blue-hair")
FOREIGN = ("adventurer-*", "bigEars-*", "micah-*", "personas-*", "photo-*", "toonHead-*", "paint-*", "scribble-*")
LANDFORMS, PORTRAITS = (("-c", f"configs/{name}64.yaml") for name in ("atlas", "openpeeps"))
# the figures of portraits show the paper's method
PAPER = (*PORTRAITS, "--refine", "sample", "--range_t", 0, "--respace_steps", 50, "--downsample_factor", 8)
LAST_FIFTH, LAST_TENTH = 10, 5  # of 50 steps
STRENGTHS = (1.0, 0.8, 0.6, 0.4, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the figures of the README and the docs")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FIGURES)}; all of them if left out")
    parser.add_argument("--save_dir", type=Path, default=PROJECT / "assets")
    args = parser.parse_args()
    args.save_dir.mkdir(parents=True, exist_ok=True)
    for name in args.names or FIGURES:
        with tempfile.TemporaryDirectory() as work:
            FIGURES[name](Path(work), args.save_dir)


def word(work: Path, save_dir: Path) -> None:
    """Show a drawn word, and the archipelago that the model of landforms makes of it, 768×256."""
    drawing = PROJECT / "assets" / "word.png"
    wide = ("--input_dir", drawing, "--image_size", SIZE, 3 * SIZE, "--upscale", 4)
    out = run(work, (), *wide, method=LANDFORMS)
    save_png(
        make_grid([[np.asarray(Image.open(drawing).convert("RGB"))], [read_pixels(out / "word_0.png")]]),
        save_dir / "word_map.png",
    )


def maps(work: Path, save_dir: Path) -> None:
    """Show the model of landforms at N = 4, 8 and 16, on drawings, a photograph and a painting."""
    out = run(work, (), "--input_dir", PROJECT / "assets" / "maps", "--downsample_factor", 4, 8, 16, method=LANDFORMS)
    shutil.copy(out / "index_files" / "grid.png", save_dir / "maps.png")


def coast(work: Path, save_dir: Path) -> None:
    """Show a coast of 512×512 pixels; as JPEG, because relief is as good as noise to PNG."""
    drawing = PROJECT / "assets" / "maps" / "coast.png"
    out = run(work, (), "--input_dir", drawing, "--upscale", 8, method=LANDFORMS)
    Image.open(out / "coast_0.png").convert("RGB").save(save_dir / "coast.jpg", quality=85)


def sweep(work: Path, save_dir: Path) -> None:
    """Show rows of references and columns of factors, two variations each; the last fifth of the steps is free."""
    factors = ("--downsample_factor", 2, 4, 8, 16, 32)
    run(work, MIXED, *factors, "--range_t", LAST_FIFTH, "--n_samples", 2 * len(MIXED))
    shutil.copy(work / "out" / "index_files" / "grid.png", save_dir / "sweep.png")


def demo(work: Path, save_dir: Path) -> None:
    """Show all the demo references at N = 4, 8 and 16, with every step refined or the last fifth free."""
    run(work, ["*"], "--downsample_factor", 4, 8, 16, "--range_t", 0, LAST_FIFTH)
    shutil.copy(work / "out" / "index_files" / "grid.png", save_dir / "demo.png")


def range_t(work: Path, save_dir: Path) -> None:
    """Show rows of references and columns of ranges, at N = 4."""
    run(work, FEW, "--range_t", 0, 10, 20, 30, 40, "--downsample_factor", 4, "--n_samples", 3 * len(FEW))
    shutil.copy(work / "out" / "index_files" / "grid.png", save_dir / "range.png")


def strength(work: Path, save_dir: Path) -> None:
    """Show columns of strengths, at N = 8; the last tenth of the steps is the model's own."""
    rows = [[to_pixels(read_reference(path, SIZE))] for path in chosen(FEW)]
    labels = [""]
    for share in STRENGTHS:
        walk = ("--strength", share, "--range_t", LAST_TENTH)
        out = run(work, FEW, *walk, "--n_samples", 3 * len(FEW), save_dir=f"{share}")
        labels += [f"strength {share}", "", ""]
        for row, path in zip(rows, chosen(FEW), strict=True):
            row += [read_pixels(out / f"{path.stem}_{i}.png") for i in range(3)]
    save_png(make_labelled_grid(rows, labels), save_dir / "strength.png")


def translation(work: Path, save_dir: Path) -> None:
    """Show other illustrators' portraits, a photograph, a painting and a scribble at N = 8, with what of them binds."""
    run(work, FOREIGN, "--range_t", LAST_FIFTH, "--n_samples", 4 * len(chosen(FOREIGN)))
    shutil.copy(work / "out" / "index_files" / "grid.png", save_dir / "translation.png")


def masks(work: Path, save_dir: Path) -> None:
    """Show what a mask binds, and what is not transparent: hair alone, and a scribble on an empty canvas."""
    painted, drawn = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in chosen(SCRIBBLED))
    hair, strokes = painted[..., 0] - painted[..., 1] > 120, drawn[..., 2] - drawn[..., 0] > 80
    files = {name: work / f"{name}.png" for name in ("redhead", "hair", "scribble")}
    Image.fromarray(painted.astype(np.uint8)).save(files["redhead"])
    Image.fromarray(hair).save(files["hair"])
    Image.fromarray(np.dstack([drawn, 255 * strokes]).astype(np.uint8)).save(files["scribble"])
    rows = []
    for name, args in (("redhead", ("--mask_dir", files["hair"])), ("scribble", ("--transparent", "free"))):
        whole = ("--input_dir", files[name], "--n_samples", 5)
        out = run(work, (), *whole, *args, save_dir=name, method=PORTRAITS)
        pictures = [out / "index_files" / f"{name}.png", next((out / "index_files").glob(f"N*/{name}.png"))]
        rows.append([read_pixels(path) for path in (*pictures, *(out / f"{name}_{i}.png" for i in range(5)))])
    save_png(make_labelled_grid(rows, ["reference", "what binds", "samples", *[""] * 4]), save_dir / "masks.png")


def schedule(work: Path, save_dir: Path) -> None:
    """Show columns of N that is the same at every step, and of N that falls along the walk."""
    run(work, FEW, "--downsample_factor", 32, "32:4", "16:4", "8:2", 4, "--n_samples", 2 * len(FEW), method=PORTRAITS)
    shutil.copy(work / "out" / "index_files" / "grid.png", save_dir / "schedule.png")


def progress(work: Path, save_dir: Path) -> None:
    """Show one sample over its steps."""
    out = run(work, ["photo-astronaut"], "--progress_grid")
    for suffix in (".png", ".webp"):
        shutil.copy(out / f"progress_grid{suffix}", save_dir / f"progress{suffix}")


def sizes(work: Path, save_dir: Path) -> None:
    """Show two references per row: the picture, and samples of 64×64, 128×192 and 256×256; N grows with the size."""
    wide = ("--image_size", SIZE, SIZE * 3 // 2, "--upscale", 2)
    blocks = rows_of_runs(work, FEW, [(), wide, ("--upscale", 4)])
    save_png(
        make_grid([left + right for left, right in zip(blocks[::2], blocks[1::2], strict=True)]), save_dir / "sizes.png"
    )


def detail(work: Path, save_dir: Path) -> None:
    """Show references at 128×128 in columns of the share of steps that windows draw: one step, a tenth, all."""
    blocks = rows_of_runs(work, FEW[:2], [("--upscale", 2, "--detail", share) for share in (0.02, 0.1, 1)])
    save_png(make_grid(blocks), save_dir / "detail.png")


def rows_of_runs(work: Path, names: Sequence[str], runs: Sequence[Sequence[object]]) -> list[list[np.ndarray]]:
    """Make one row per reference: the picture, and its sample in a run with each of these arguments."""
    folders = [run(work, names, "--range_t", LAST_FIFTH, *args, save_dir=f"{i}") for i, args in enumerate(runs)]
    return [
        [to_pixels(read_reference(path, SIZE)), *(read_pixels(folder / f"{path.stem}_0.png") for folder in folders)]
        for path in chosen(names)
    ]


def run(
    work: Path, names: Sequence[str], *args: object, save_dir: str = "out", method: Sequence[object] = PAPER
) -> Path:
    """Run `sample_ilvr.py` on some of the demo references, and return the folder of its results."""
    inputs = work / "references"
    inputs.mkdir(exist_ok=True)
    for path in chosen(names):
        shutil.copy(path, inputs)
    command = [sys.executable, PROJECT / "sample_ilvr.py", "--input_dir", inputs, "--save_dir", work / save_dir]
    subprocess.run([str(word) for word in (*command, *method, *args)], check=True)
    return work / save_dir


def chosen(names: Sequence[str]) -> list[Path]:
    """Find the demo references that these patterns name, in the order that the command takes them."""
    return sorted(path for name in names for path in REFERENCES.glob(f"{name}.*"))


FIGURES: dict[str, Callable[[Path, Path], None]] = {
    "word": word,
    "maps": maps,
    "coast": coast,
    "sweep": sweep,
    "demo": demo,
    "range": range_t,
    "strength": strength,
    "translation": translation,
    "masks": masks,
    "schedule": schedule,
    "progress": progress,
    "sizes": sizes,
    "detail": detail,
}

if __name__ == "__main__":
    main()

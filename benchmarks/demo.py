"""What the bare command draws of the demo's twelve foreign references, beside the paper's method and more steps.

    python -m benchmarks.demo        # prints a table, writes assets/regions.png

Patch distance (1 is real) and fidelity at N = 8, 16, 32 (grey levels) are those of benchmarks/translation.py; calls and
seconds are of sampling all references, so that a way of fewer calls can be told from one that is only faster here.
"""

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.figures import REFERENCES, SIZE, chosen, run
from benchmarks.held_out import load_held_out
from benchmarks.measures import measure_fidelity, measure_patches
from benchmarks.patch_distance import PatchDistance
from benchmarks.translation import FACTORS, REAL
from utils.images import from_pixels, read_pixels, read_reference, save_png, to_pixels
from utils.paths import PROJECT
from utils.run.figures import side_by_side

FOREIGN = sorted({path.stem for path in REFERENCES.iterdir()} - {path.stem for path in REFERENCES.glob("openpeeps-*")})
WAYS = {
    "every step (the paper)": (),
    "--range_t 20%": ("--range_t", "20%"),
    "the bare command": ("--refine", "regions", "--respace_steps", 10),
    "with 50 steps": ("--refine", "regions"),
}


def main() -> None:
    held_out, others = load_held_out().tensor_split([REAL])
    distance = PatchDistance(held_out, others)
    paths = chosen(FOREIGN)
    references = torch.stack([read_reference(path, SIZE) for path in paths])
    blocks = [[[to_pixels(reference)] for reference in references]]
    print("| | patch distance | fidelity at 8 | 16 | 32 | seconds |\n|---|---|---|---|---|---|")
    for name, args in WAYS.items():
        with tempfile.TemporaryDirectory() as work:
            start = time.perf_counter()
            out = run(Path(work), FOREIGN, *args)
            seconds = time.perf_counter() - start
            pictures = [read_pixels(out / f"{path.stem}_0.png") for path in paths]
        samples = torch.stack([from_pixels(torch.from_numpy(picture.copy())) for picture in pictures])
        alike = torch.ones(1, len(paths))
        cells = [measure_patches(samples, alike, distance)["patch_distance"].item()]
        cells += [measure_fidelity(samples, references, n, alike)["fidelity"].item() for n in FACTORS]
        print(f"| {name} | {cells[0]:.2f} | {' | '.join(f'{cell:.1f}' for cell in cells[1:])} | {seconds:.0f} |")
        blocks.append([[picture] for picture in pictures])
    save_png(side_by_side(blocks, ["reference", *WAYS]), PROJECT / "assets" / "regions.png")


if __name__ == "__main__":
    main()

"""What the bare command draws from the demo's twelve foreign references, beside the paper's method and more steps.

    python -m benchmarks.demo        # prints a table, writes assets/regions.png

paper: N = 8, every one of 50 steps refined; range: but the last 20 % of them; bare: the command without arguments, by
regions at N = 4 in 10 steps, the last 20 % free; 50 steps: the same in as many. Patch distance (1 is real), contrast of
the details (1 is real) and fidelity at N = 8, 16, 32 (grey levels) are those of benchmarks/measures.py; seconds are of
the whole command.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.figures import PAPER, REFERENCES, SIZE, chosen, run
from benchmarks.held_out import REAL, load_held_out
from benchmarks.measures import FIDELITY_FACTORS, measure_detail, measure_fidelity, measure_patches
from benchmarks.patch_distance import PatchDistance
from utils.files import PROJECT
from utils.images import from_pixels, make_labelled_grid, read_pixels, read_reference, save_png, to_pixels

FOREIGN = sorted({path.stem for path in REFERENCES.iterdir()} - {path.stem for path in REFERENCES.glob("openpeeps-*")})
WAYS: dict[str, tuple[Sequence[object], Sequence[object]]] = {  # the method, and what is changed of it
    "paper": (PAPER, ()),
    "range": (PAPER, ("--range_t", "20%")),
    "bare": ((), ()),
    "50 steps": ((), ("--respace_steps", 50)),
}


def main() -> None:
    held_out, others = load_held_out().tensor_split([REAL])
    distance = PatchDistance(held_out, others)
    paths = chosen(FOREIGN)
    references = torch.stack([read_reference(path, SIZE) for path in paths])
    columns = [[to_pixels(reference) for reference in references]]
    print("| | patch distance | detail | fidelity at 8 | 16 | 32 | seconds |\n|---|---|---|---|---|---|---|")
    for name, (method, args) in WAYS.items():
        with tempfile.TemporaryDirectory() as work:
            start = time.perf_counter()
            out = run(Path(work), FOREIGN, *args, method=method)
            seconds = time.perf_counter() - start
            pictures = [read_pixels(out / f"{path.stem}_0.png") for path in paths]
        samples = torch.stack([from_pixels(torch.from_numpy(picture.copy())) for picture in pictures])
        alike = torch.ones(1, len(paths))
        looks = measure_patches(samples, alike, distance) | measure_detail(samples, alike, others)
        cells = [f"{looks[measure].item():.2f}" for measure in ("patch_distance", "detail")]
        cells += [f"{measure_fidelity(samples, references, n, alike)['fidelity'].item():.1f}" for n in FIDELITY_FACTORS]
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
        columns.append(pictures)
    grid = make_labelled_grid(list(zip(*columns, strict=True)), ["reference", *WAYS])
    save_png(grid, PROJECT / "assets" / "regions.png")


if __name__ == "__main__":
    main()

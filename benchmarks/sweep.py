"""What a sweep saves: four factors in one launch against four launches, and whether the images are the same.

python -m benchmarks.sweep [--rounds 3]
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.launches import launch
from benchmarks.workers import machine, print_table, ratio
from utils.images import read_pixels

FACTORS = (4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n_samples", type=int, default=8)
    parser.add_argument("--respace_steps", type=int, default=10)
    args = parser.parse_args()
    arguments = ("--n_samples", args.n_samples, "--respace_steps", args.respace_steps)

    at_once, one_by_one, empty = [], [], []
    equal = True
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            sweep, singles = Path(folder, "sweep"), Path(folder, "singles")
            at_once.append(launch(sweep, *arguments, "--downsample_factor", *FACTORS))
            launches = [launch(singles / f"N{n}", *arguments, "--downsample_factor", n) for n in FACTORS]
            one_by_one.append(sum(launches))
            empty.append(launch(Path(folder, "one"), "--n_samples", 1, "--respace_steps", 1))
            for picture in sweep.glob("N*/*.png"):
                equal &= bool((read_pixels(picture) == read_pixels(singles / picture.relative_to(sweep))).all())

    rows = [
        ["one launch", f"{median(at_once):.1f}"],
        [f"{len(FACTORS)} launches", f"{median(one_by_one):.1f}"],
        ["a launch of one image and one step", f"{median(empty):.1f}"],
    ]
    print(machine())
    title = f"N = {', '.join(map(str, FACTORS))}, {args.n_samples} images each, {args.respace_steps} steps"
    print_table(title, ["", "s"], rows)
    saved = median(many - one for many, one in zip(one_by_one, at_once, strict=True))
    print(f"\nsaved {saved:.1f} s, {saved / median(empty):.1f} such launches; ratio {ratio(at_once, one_by_one):.2f}")
    print(f"the images are {'the same' if equal else 'NOT the same'}")


if __name__ == "__main__":
    main()

"""How few network calls lose nothing measurable, by which sampler, at which timesteps.

    python -m benchmarks.calls --mixed_precision bf16    # assets/calls.csv
    python -m benchmarks.calls --quick                   # few of everything, into results/: a smoke test

Each setting draws 48 samples on the embedded model, from the same noise: unconditional; by regions after held-out
portraits; and by regions after foreign references (N = 8, the last 20 % of the steps free). patch_distance and detail
are those of benchmarks/translation.py, realism that of benchmarks/quality.py; the gaps are those to DDPM, 250 steps,
with a 95 % interval by a bootstrap over the samples.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from benchmarks.draw import SEED, draw
from benchmarks.foreign import load_foreign
from benchmarks.held_out import load_held_out
from benchmarks.measures import Measures, measure_detail, measure_patches, measure_realism, resample
from benchmarks.patch_distance import PatchDistance
from benchmarks.quality import WEIGHTS
from benchmarks.realism import Realism
from benchmarks.solvers import DPMSolver
from benchmarks.table import Row, row, write_csv
from diffusions import DDIM, DDPM, Regions, Sampler
from models import Model, load_model, make_ready
from utils.paths import PROJECT

REAL, COUNT = 200, 48
SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "DDPM": DDPM,
    "DDIM": DDIM,
    "DPM-Solver++(2M)": DPMSolver,
    "SDE-DPM-Solver++(2M)": partial(DPMSolver, stochastic=True),
}
TIMESTEPS = ("uniform", "uniform-trailing", "quad")
CALLS = (25, 15, 10, 8, 6, 5, 4)


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    references: str = "none"
    sampler: str = "DDPM"
    timesteps: str = "uniform"
    calls: int = 250


def settings_after(references: str, calls: Sequence[int]) -> list[Setting]:
    """What the others are compared with first."""
    base = Setting(references)
    others = [Setting(references, name, kind, n) for name in SAMPLERS for kind in TIMESTEPS for n in calls]
    return [base, *others]


def rows(model: Model, settings: Sequence[Setting], count: int) -> Iterator[Row]:
    """One per setting."""
    real, others = load_held_out().tensor_split([REAL])
    found = {"none": others[:count], "in-domain": others[:count], "foreign": load_foreign()[:count]}
    distance, realism, weights = PatchDistance(real, others), Realism(real), resample(count, SEED)
    base: Measures = {}
    for setting in tqdm(settings, unit="setting"):
        sampler = SAMPLERS[setting.sampler](model.process, setting.calls, setting.timesteps)
        guide = None if setting.references == "none" else partial(Regions, range_t=setting.calls // 5)
        samples = draw(model, sampler, found[setting.references], guide)
        measures = measure_patches(samples, weights, distance) | measure_detail(samples, weights, others)
        measures |= measure_realism(samples, weights, realism)
        if setting == replace(settings[0], references=setting.references):
            base = measures
        gaps = {f"{name}_gap": measures[name] - base[name] for name in ("patch_distance", "realism")}
        yield row("samples", asdict(setting), measures | gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description="How few calls lose nothing, by sampler and timesteps")
    parser.add_argument("--quick", action="store_true", help="a smoke test, not for reading")
    parser.add_argument("--mixed_precision", choices=["no", "bf16"], default="no", help="of the network")
    parser.add_argument("--save_dir", type=Path, help="assets/, or results/ with --quick, if left out")
    args = parser.parse_args()
    folder = args.save_dir or PROJECT / ("results" if args.quick else "assets")
    folder.mkdir(parents=True, exist_ok=True)

    model = load_model(WEIGHTS)
    make_ready(model.network, "cpu", args.mixed_precision)
    settings = [setting for name in ("none", "in-domain", "foreign") for setting in settings_after(name, CALLS)]
    if args.quick:
        settings = [replace(setting, calls=2) for setting in settings_after("foreign", [2])]
    table = []
    for cells in rows(model, settings, 2 if args.quick else COUNT):
        table.append(cells)
        write_csv(table, folder / "calls.csv")


if __name__ == "__main__":
    main()

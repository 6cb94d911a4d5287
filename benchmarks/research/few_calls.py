"""Whether the solver that looked best in calls.csv is better than DDPM, on samples that had no part in choosing it.

    python -m benchmarks.research.few_calls --mixed_precision bf16

The SDE form of DPM-Solver++(2M) against DDPM, at the same trailing timesteps and from the same noise, with another seed
than calls.csv. It prints the differences in patch distance, contrast of details and sliced Wasserstein distance
(less is better in the first and the last), with 95 % intervals by a bootstrap over the samples. They are unconditional;
and by regions after held-out portraits and foreign references, as in benchmarks/research/calls.py.
"""

import argparse

from torch import Tensor

from benchmarks.draw import SEED
from benchmarks.foreign import load_foreign
from benchmarks.held_out import REAL, load_held_out
from benchmarks.measures import Measures, interval, measure_detail, measure_patches, measure_realism, resample
from benchmarks.networks import load_embedded
from benchmarks.patch_distance import PatchDistance
from benchmarks.realism import Realism
from benchmarks.research.calls import Setting, draw_setting

UNCONDITIONAL = 192  # samples
CALLS = (10, 8, 6, 4)
CONTENDERS = "DDPM", "SDE-DPM-Solver++(2M)"


def main() -> None:
    parser = argparse.ArgumentParser(description="The SDE form of DPM-Solver++(2M) against DDPM, in few calls")
    parser.add_argument("--mixed_precision", choices=["no", "bf16"], default="no", help="of the network")
    args = parser.parse_args()
    model = load_embedded(args.mixed_precision)
    real, others = load_held_out().tensor_split([REAL])
    distance, realism = PatchDistance(real, others), Realism(real)
    kinds = {"none": real[:UNCONDITIONAL], "in-domain": others, "foreign": load_foreign()}  # of the first, the shape

    def measure(setting: Setting, references: Tensor) -> Measures:
        samples = draw_setting(model, setting, references, seed=SEED + 1)
        weights = resample(len(references), SEED)
        found = measure_patches(samples, weights, distance) | measure_detail(samples, weights, others)
        return found | {"SWD": measure_realism(samples, weights, realism)["realism"]}

    print(f"| references | samples | calls | patch distance | details | SWD |\n{'|---' * 6}|")
    for name, references in kinds.items():
        for calls in CALLS:
            ddpm, sde = (measure(Setting(name, one, "uniform-trailing", calls), references) for one in CONTENDERS)
            gaps = (interval(sde[key] - ddpm[key]) for key in ddpm)
            cells = (f"{gap:.3f} ({low:.3f} … {high:.3f})" for gap, low, high in gaps)
            print(f"| {name} | {len(references)} | {calls} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

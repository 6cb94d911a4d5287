"""The figures on the atlas model's card: realism of its samples, scribbles at N = 4, and whether it copies.

    python -m benchmarks.maps --mixed_precision bf16 --data data/atlas --references assets/maps

* Sliced Wasserstein distance × 1000 of unconditional samples to held-out crops at 64, 32 and 16 pixels: the mean over
  disjoint sets of as many crops, beside its floor, the mean over the pairs of these sets, and beside training crops.
* For each reference, every step refined by the paper's method: the RMSE of D(sample) against D(reference) in grey
  levels; and the patch distance to 200 held-out crops (60 others have 1 on average), also of the reference itself.
* Copying: the RMSE in grey levels to the nearest of all training crops, at 16×16 pixels without the mean colour; median
  of the samples, of held-out crops, and of crops of South America, which is a continent that training never saw.
"""

import argparse
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.domain import read_folder
from benchmarks.draw import draw
from benchmarks.measures import measure_fidelity, to_8_bit
from benchmarks.networks import load_embedded
from benchmarks.patch_distance import PatchDistance
from benchmarks.sliced_wasserstein import sliced_wasserstein
from diffusions import DDPM, ILVR
from utils.images import from_pixels
from utils.run.references import find_references
from weights.data import read_images

BANK, UNIT = 200, 60  # held-out crops whose patches are the real ones, and those whose patch distance is 1
FACTOR = 4
COARSE = 16  # pixels a side at which crops are compared with those of training
CHUNK = 100


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", type=Path, default=Path("weights/atlas64"), help="diffusers folder")
    add("--data", type=Path, default=Path("data/atlas"), help="what weights/atlas64/crops.py wrote")
    add("--references", type=Path, default=Path("assets/maps"), help="folder of pictures")
    add("--n", type=int, default=400, help="unconditional samples, and crops of a set; at most 870")
    add("--steps", type=int, default=50, help="of DDPM")
    add("--mixed_precision", choices=["no", "bf16"], default="no", help="of the network")
    return parser.parse_args()


def coarse(crops: Tensor) -> Tensor:
    """Return what is compared: [N, 3, 64, 64] in [-1, 1] → [N, 3·COARSE²] in grey levels, of mean 0."""
    small = torch.nn.functional.adaptive_avg_pool2d(crops, COARSE) * 127.5
    return (small - small.mean((2, 3), keepdim=True)).flatten(1)


def nearest(crops: Tensor, training: Tensor) -> float:
    """Return the median RMSE of crops to the nearest of training, both as `coarse` makes them."""
    distances = torch.cat([torch.cdist(some, training).amin(1) for some in crops.split(CHUNK)])
    return (distances / crops.shape[1] ** 0.5).median().item()


def main() -> None:
    args = parse_args()
    train, held_out, continent = (
        read_images(args.data / f"{name}.bin", 64, 3) for name in ("train", "val", "south_america")
    )
    bank, unit, rest = from_pixels(held_out).tensor_split((BANK, BANK + UNIT))
    sets = [some for some in rest.split(args.n) if len(some) == args.n]
    model = load_embedded(args.mixed_precision, args.weights)
    sampler = DDPM(model.process, args.steps)

    samples = to_8_bit(draw(model, sampler, sets[0], None))
    print(f"sliced Wasserstein distance × 1000 of {args.n} samples in {args.steps} steps to {len(sets)} sets\n")
    training = from_pixels(train[: args.n])
    pairs = {
        "samples": [(samples, some) for some in sets],
        "training crops": [(training, some) for some in sets],
        "floor": list(combinations(sets, 2)),
    }
    print("| | 64 | 32 | 16 |\n|---|---|---|---|")
    means = {}
    for name, some in pairs.items():
        distances = torch.tensor([sliced_wasserstein(one, other) for one, other in some])
        means[name] = distances.mean(0)
        low, high = distances.amin(0), distances.amax(0)
        cells = (f"{m:.1f} ({a:.1f} … {b:.1f})" for m, a, b in zip(means[name], low, high, strict=True))
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| ratio | {' | '.join(f'{ratio:.2f}' for ratio in means['samples'] / means['floor'])} |\n")

    references, distance = read_folder(args.references), PatchDistance(bank, unit)
    drawn = draw(model, sampler, references, lambda some: ILVR(some, FACTOR))
    print("| | D(sample) to D(reference) | patch distance | of the reference |\n|---|---|---|---|")
    looks, own = distance(to_8_bit(drawn)).tolist(), distance(references).tolist()
    for i, reference in enumerate(find_references(args.references)[0]):
        near = measure_fidelity(drawn[i : i + 1], references[i : i + 1], FACTOR, torch.ones(1, 1))["fidelity"].item()
        print(f"| {reference.name} | {near:.1f} | {looks[i]:.2f} | {own[i]:.2f} |")

    known = coarse(from_pixels(train))
    print("\nmedian distance to the nearest training crop, grey levels")
    for name, crops in {"samples": samples, "held-out": sets[0], "South America": from_pixels(continent)}.items():
        print(f"{name}: {nearest(coarse(crops[: args.n]), known):.1f}", flush=True)


if __name__ == "__main__":
    main()

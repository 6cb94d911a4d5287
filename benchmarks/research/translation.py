"""How clean the samples of foreign references are, and how much of the references they keep.

    python -m benchmarks.research.translation --mixed_precision bf16   # assets/translation.csv and -front.png
    python -m benchmarks.research.translation --quick                  # few of everything, into results/: a smoke test

Every setting draws a sample for each of 108 foreign references (`benchmarks.foreign`) or 48 held-out portraits, from
the same noise, on the embedded model; --domain measures another. The 95 % intervals are from a bootstrap over
references, the same resamplings for every setting, so that the difference of two settings is judged reference by
reference.

* patch_distance: of the sample's 9×9 patches to the nearest real ones, 1 being real (`benchmarks.patch_distance`).
* detail: contrast of the finest details over that of real images. Faded lines also shorten the patch distance
  ("regions, unsmoothed"): trust it only if detail is near 1.
* fidelity_N: RMSE of D(sample) against D(reference) in grey levels (of 255), D down by N: at 8 the layout, at 16 and
  32 the colours of large regions. It is measured at these N, whatever the setting's own N.
* gap_N: the patch distance beyond that of the paper's refinement at the range with the same fidelity_N, interpolated
  between ranges: negative is better than the paper's.
* diversity: between two variations of a reference, for the first 24 references, in grey levels.

The first rows show what the two measures detect: real images with blur, fading, halo and noise, and the references.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.domain import Domain, read_domain
from benchmarks.draw import SEED, draw
from benchmarks.held_out import REAL
from benchmarks.measures import (
    FIDELITY_FACTORS,
    Measures,
    measure_detail,
    measure_diversity,
    measure_fidelity,
    measure_patches,
    resample,
)
from benchmarks.networks import load_embedded
from benchmarks.patch_distance import PatchDistance
from benchmarks.research.disturbances import DISTURBANCES
from benchmarks.research.ideas import IDEAS, best_of, make_ideas
from benchmarks.research.translation_plot import plot
from benchmarks.table import Row, chosen, row, table_folder, table_parser, write_csv
from diffusions import DDPM, GUIDES, Process
from diffusions.process import Denoiser

IN_DOMAIN, VARIED = 48, 24


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    references: str = "foreign"
    refine: str = "sample"
    factor: float | tuple[float, float] = 8
    range_t: int = 0
    steps: int = 10
    candidates: int = 1  # drawn per reference, of which one is kept
    weight: float = 1.0
    low_pass: str = "resize"


def all_settings() -> list[Setting]:
    """List the settings: first the paper's, which the others are compared with, then a curve per method."""
    base = Setting()
    regions = replace(base, refine="regions")
    return [
        *(replace(base, range_t=b) for b in range(7)),
        *(replace(regions, range_t=b) for b in range(3)),
        *(replace(base, references="in-domain", refine=name) for name in GUIDES),
        *(replace(regions, factor=n) for n in (6, 12, 4)),
        *(replace(regions, steps=n, range_t=n // 5) for n in (15, 25, 50)),
        *(replace(base, refine=idea) for idea in IDEAS if idea != "FGD"),
        replace(regions, candidates=4),
        replace(base, references="in-domain", steps=50),
        replace(base, references="in-domain", refine="regions", range_t=2),
        replace(base, steps=50, range_t=10),
        *(replace(base, refine="FGD", range_t=b) for b in (2, 3)),
        *(replace(way, weight=weight) for way in (base, regions) for weight in (0.8, 0.5)),
        *(replace(way, factor=factors) for way in (base, regions) for factors in ((32, 4), (16, 4), (8, 2))),
        *(replace(way, low_pass=name) for way in (base, regions) for name in ("projection", "gaussian", "dft")),
        *(replace(regions, factor=factor, range_t=2) for factor in (2, 3, 4, 6, (8, 2))),
    ]


def quick_settings() -> list[Setting]:
    """List one of each kind, in two steps."""
    base = Setting(steps=2)
    others = [replace(base, refine=name) for name in ("regions", *IDEAS)]
    return [base, replace(base, range_t=1), *others, replace(base, candidates=2)]


class Bench:
    """Draws and measures settings, and compares them with the paper's.

    Args:
        model: the network; process: what it was trained on.
        domain: the images.
        base: the setting whose range is the paper's knob.
        count: of the references of each kind, at most.
        real: how many images' patches are the real ones.
    """

    def __init__(
        self, model: Denoiser, process: Process, domain: Domain, base: Setting, count: int, real: int = REAL
    ) -> None:
        self.model, self.process, self.base = model, process, base
        held_out, others = domain.held_out.tensor_split([REAL])
        self.real = others
        self.distance = PatchDistance(held_out[:real], others[:real])
        self.guides = GUIDES | make_ideas(model, process, others)
        self.references = {"foreign": domain.foreign[:count], "in-domain": others[: min(count, IN_DOMAIN)]}
        self.weights = {name: resample(len(found), SEED) for name, found in self.references.items()}
        self.front: list[Measures] = []  # of the paper's knob

    def real_rows(self) -> Iterator[Row]:
        """Yield the patch distance of real images, more and more disturbed, and of the references."""
        real, foreign = self.references["in-domain"], self.references["foreign"]
        for name, levels in DISTURBANCES.items():
            for level, disturb in levels.items():
                measures = self._look(disturb(real), "in-domain")
                yield row(f"real images, {name} {level}", {"references": "in-domain"}, measures)
        yield row("the references", {"references": "foreign"}, self._look(foreign, "foreign"))

    def _look(self, samples: Tensor, references: str) -> Measures:
        """Measure the samples by themselves."""
        weights = self.weights[references]
        return measure_patches(samples, weights, self.distance) | measure_detail(samples, weights, self.real)

    def setting_row(self, setting: Setting) -> Row:
        """Draw and measure."""
        references, weights = self.references[setting.references], self.weights[setting.references]
        varied = references[:VARIED]
        samples = self._draw(setting, torch.cat([references, varied]))
        samples, variations = samples[: len(references)], samples[len(references) :]
        measures = self._look(samples, setting.references)
        for factor in FIDELITY_FACTORS:
            measures[f"fidelity_{factor}"] = measure_fidelity(samples, references, factor, weights)["fidelity"]
        if setting.references == "foreign":
            measures |= self._gaps(setting, measures)
        pairs = torch.cat([samples[: len(varied)], variations])
        measures |= measure_diversity(pairs, resample(len(varied), SEED))
        return row("samples", asdict(setting), measures)

    def _draw(self, setting: Setting, references: Tensor) -> Tensor:
        sampler = DDPM(self.process, setting.steps)
        guide = partial(
            self.guides[setting.refine],
            downsample_factor=setting.factor,
            range_t=setting.range_t,
            weight=setting.weight,
            low_pass=setting.low_pass,
        )
        seeds = range(SEED, SEED + setting.candidates)
        candidates = [draw(self.model, sampler, references, guide, seed=seed) for seed in seeds]
        return best_of(self.model, self.process, candidates) if setting.candidates > 1 else candidates[0]

    def _gaps(self, setting: Setting, measures: Measures) -> Measures:
        """Return the patch distance beyond the paper's at equal fidelity, if any range has that fidelity."""
        if setting == replace(self.base, range_t=setting.range_t):
            self.front.append(measures)
            return {}
        gaps: Measures = {}
        distance = torch.stack([point["patch_distance"] for point in self.front], dim=1)
        for factor in FIDELITY_FACTORS:
            fidelity = measures[f"fidelity_{factor}"]
            front = torch.stack([point[f"fidelity_{factor}"] for point in self.front], dim=1)
            if front[0].min() <= fidelity[0] <= front[0].max():
                paper = [np.interp(at, x, y) for at, x, y in zip(fidelity, front, distance, strict=True)]
                gaps[f"gap_{factor}"] = measures["patch_distance"] - torch.tensor(np.array(paper)).float()
        return gaps


def markdown(table: Sequence[Row]) -> str:
    """Format the table as the docs show it."""
    plain = ["name", *(field for field in asdict(Setting()))]
    spans = [
        "patch_distance",
        "detail",
        *(f"fidelity_{n}" for n in FIDELITY_FACTORS),
        *(f"gap_{n}" for n in FIDELITY_FACTORS),
        "diversity",
    ]

    def span(cells: Row, name: str) -> str:
        return f"{cells[name]} ({cells[f'{name}_low']} … {cells[f'{name}_high']})" if cells.get(name) else ""

    lines = [[*plain, *spans], ["---"] * (len(plain) + len(spans))]
    lines += [[*(cells.get(name, "") for name in plain), *(span(cells, name) for name in spans)] for cells in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    args = table_parser("Patch distance against fidelity, for references of other styles").parse_args()
    settings = quick_settings() if args.quick else chosen(all_settings(), args.only)
    folder = table_folder(args)

    domain = read_domain(args.domain)
    model = load_embedded(args.mixed_precision, domain.weights)
    sizes = (2, 10) if args.quick else (len(domain.foreign), REAL)
    bench = Bench(model, model.process, domain, settings[0], *sizes)
    table = list(bench.real_rows())
    for setting in tqdm(settings, unit="setting"):
        table.append(bench.setting_row(setting))
        write_csv(table, folder / "translation.csv")
    plot(folder / "translation.csv", folder / "translation-front.png")
    print(markdown(table))


if __name__ == "__main__":
    main()

"""What factor, filter, range, strength, sampler and steps do to fidelity, diversity and realism.

    python -m benchmarks.quality --mixed_precision bf16   # the whole table and its plot: assets/quality.csv and .png
    python -m benchmarks.quality --quick                  # few of everything, into results/: a smoke test

Every setting draws the same variations of the same held-out references from the same noise. The 95% intervals are
from a bootstrap over references, the same resamplings for every setting, so that the difference of two settings is
judged reference by reference. --domain measures another model than the embedded portraits'.

* fidelity: RMSE of D(sample) against D(reference), D being the downsampler, in grey levels (of 255); for the 8-bit
  images, and raw, before clipping and rounding. within_1 is the share of samples whose raw fidelity is at most one
  grey level.
* distance: RMSE of the whole image against the reference, which, unlike fidelity, can be compared between factors.
* diversity: between the variations of a reference, pixel RMSE in grey levels and 1 - MS-SSIM.
* realism: sliced Wasserstein distance ×1000 to other held-out images (benchmarks/realism.py), the mean of three
  levels and each of them; and how much longer it is than the first setting's, which takes the most calls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace

from torch import Tensor
from tqdm import tqdm

from benchmarks.domain import read_domain
from benchmarks.draw import SEED, draw
from benchmarks.measures import Measures, measure_diversity, measure_fidelity, measure_realism, resample
from benchmarks.networks import load_embedded
from benchmarks.quality_plot import plot
from benchmarks.realism import Realism
from benchmarks.table import Row, chosen, row, table_folder, table_parser, write_csv
from diffusions import ILVR, Guide, Process, make_sampler
from diffusions.process import Denoiser

REAL = 176  # held-out images that realism is measured against; the references are others


@dataclass(frozen=True)
class Setting:
    """A row of the table. Without a factor, samples are unconditional."""

    factor: float | None = 8
    low_pass: str = "resize"
    range_t: int = 0
    strength: float = 1.0
    sampler: str = "DDPM"
    steps: int = 50

    @property
    def calls(self) -> int:
        """Network calls per sample."""
        return max(1, round(self.strength * self.steps))


def all_settings() -> list[Setting]:
    """List the setting of the most calls; each choice on its own around one base; then cheaper combinations."""
    base = Setting()
    return list(
        dict.fromkeys(
            [
                replace(base, steps=250),
                *(replace(base, low_pass=p, factor=n) for p in ("resize", "projection") for n in (2, 4, 8, 16, 32)),
                *(replace(base, range_t=b) for b in (10, 20, 30, 40)),
                *(replace(base, strength=s) for s in (0.8, 0.6, 0.4, 0.2)),
                *(replace(base, steps=s) for s in (10, 25, 100)),
                *(replace(base, sampler="DDIM 0", steps=s) for s in (10, 25, 50, 100, 250)),
                *(replace(base, sampler="DDIM 1", steps=s) for s in (10, 25, 50)),  # DDPM again: its σ² is β̃
                *(replace(base, strength=0.4, steps=s) for s in (25, 100)),
                *(replace(base, strength=s, steps=250) for s in (0.2, 0.1)),
                *(replace(base, low_pass="projection", steps=s) for s in (10, 25, 250)),
                replace(base, factor=None),
            ]
        )
    )


def quick_settings() -> list[Setting]:
    """One of each kind, in three steps."""
    base = Setting(steps=3)
    return [
        base,
        replace(base, low_pass="projection", factor=32),
        replace(base, range_t=2),
        replace(base, strength=0.4, sampler="DDIM 0"),
        replace(base, factor=None),
    ]


def draw_setting(model: Denoiser, process: Process, setting: Setting, references: Tensor) -> Tensor:
    """Draw one sample per reference, before clipping. [M, 3, H, W] → [M, 3, H, W]."""
    name, _, eta = setting.sampler.lower().partition(" ")
    sampler = make_sampler(name, process, respace_steps=setting.steps, eta=float(eta or 0))

    def guide(some: Tensor) -> Guide:
        return ILVR(some, setting.factor or 1, range_t=setting.range_t, low_pass=setting.low_pass)

    return draw(model, sampler, references, guide if setting.factor is not None else None, setting.calls)


def rows(
    model: Denoiser, process: Process, held_out: Tensor, settings: Sequence[Setting], count: int, variations: int
) -> Iterator[Row]:
    """Yield the floor (the scores of as many real images, and of the references), then the settings."""
    real, references, others = held_out.tensor_split([REAL, REAL + count])
    realism, weights = Realism(real), resample(count, SEED)
    references = references.repeat(variations, 1, 1, 1)
    yield row("real images", {}, measure_realism(others[: len(references)], weights, realism))
    yield row("the references", {}, measure_realism(references, weights, realism))

    most_calls: Measures = {}
    for setting in settings:
        samples = draw_setting(model, process, setting, references)
        measures = measure_diversity(samples, weights) | measure_realism(samples, weights, realism)
        if setting.factor is not None:
            measures |= measure_fidelity(samples, references, setting.factor, weights)
        most_calls = most_calls or measures
        measures["realism_gap"] = measures["realism"] - most_calls["realism"]
        measures["diversity_share"] = measures["diversity"] / most_calls["diversity"]
        name = "samples" if setting.factor is not None else "unconditional"
        yield row(name, asdict(setting) | {"calls": setting.calls}, measures)


def markdown(table: Sequence[Row]) -> str:
    """Format the table as the docs show it: estimates, and the intervals that matter."""
    shown = ["name", *(field.name for field in fields(Setting)), "calls", "fidelity", "fidelity_raw", "within_1"]
    with_interval = ["distance", "diversity", "diversity_ssim", "realism", "realism_gap"]
    levels = [column for column in table[0] if column.removeprefix("realism_").isdigit()]

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [line([*shown, *with_interval, *levels]), line(["---"] * (len(shown) + len(with_interval) + len(levels)))]
    for cells in table:
        spans = [
            f"{cells[c]} ({cells[f'{c}_low']} … {cells[f'{c}_high']})" if c in cells else "" for c in with_interval
        ]
        lines.append(line([*(cells.get(c, "") for c in shown), *spans, *(cells[c] for c in levels)]))
    return "\n".join(lines)


def main() -> None:
    parser = table_parser("Fidelity, diversity and realism of ILVR")
    parser.add_argument("--references", type=int, default=48)
    parser.add_argument("--variations", type=int, default=2)
    args = parser.parse_args()
    count, variations = (2, 2) if args.quick else (args.references, args.variations)
    weights, held_out, _ = read_domain(args.domain)
    if count * (1 + variations) > len(held_out) - REAL:
        parser.error("there are not that many held-out images")  # references, and as many for the floor as samples
    settings = quick_settings() if args.quick else chosen(all_settings(), args.only)
    folder = table_folder(args)

    calls = sum(setting.calls for setting in settings) * count * variations
    print(f"{len(settings)} settings × {count} references × {variations} variations: {calls} network calls")
    model = load_embedded(args.mixed_precision, weights)
    with tqdm(total=calls, unit="call") as bar:

        def counted(x: Tensor, t: Tensor) -> Tensor:
            bar.update(len(x))
            return model(x, t)

        table = list(rows(counted, model.process, held_out, settings, count, variations))
    write_csv(table, folder / "quality.csv")
    plot(folder / "quality.csv", folder / "quality.png")
    print(markdown(table))


if __name__ == "__main__":
    main()

"""The picture of quality.csv: what each choice does, with 95% intervals.

python -m benchmarks.quality_plot assets/quality.csv assets/quality.png
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("Agg")

Row = dict[str, str]
BASE = {"factor": "8", "low_pass": "resize", "range_t": "0", "strength": "1.0", "sampler": "DDPM", "steps": "50"}
REALISM = "realism beyond N = 8, 250 steps\n(less is better)"


def plot(table: Path, picture: Path) -> None:
    """Read a quality.csv, write the picture."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(15, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    sampled = [row for row in rows if row["name"] == "samples"]

    for low_pass in ("resize", "projection"):
        chosen = choose(sampled, "factor", low_pass=low_pass)
        for ax, measure in zip(axes[0], ("distance", "diversity", "realism_gap"), strict=True):
            curve(ax, chosen, "factor", measure, f"{low_pass} filter")
    for ax, label in zip(axes[0], ("distance to the reference", "diversity", REALISM), strict=True):
        ax.set(xlabel="factor N", ylabel=label, xscale="log")
        ax.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"], minor=False)
        ax.minorticks_off()

    ranges, strengths = choose(sampled, "range_t"), choose(sampled, "strength")
    curve(axes[1][0], ranges, "range_t", "diversity", "diversity")
    curve(axes[1][0], ranges, "range_t", "distance", "distance to the reference")
    axes[1][0].set(xlabel="range_t of 50 steps", ylabel="grey levels")
    curve(axes[1][1], strengths, "strength", "diversity", "diversity")
    curve(axes[1][1], strengths, "strength", "distance", "distance to the reference")
    axes[1][1].set(xlabel="strength", ylabel="grey levels")
    for sampler in ("DDPM", "DDIM 0"):
        curve(axes[1][2], choose(sampled, "steps", sampler=sampler), "calls", "realism_gap", sampler)
    curve(axes[1][2], strengths, "calls", "realism_gap", "DDPM, 50 steps, by strength")
    axes[1][2].set(xlabel="network calls", ylabel=REALISM, xscale="log")
    for ax in (axes[0][2], axes[1][2]):
        ax.axhline(0, color="grey", linestyle=":")
    for ax in axes.flat:
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
    figure.savefig(picture, dpi=80)


def choose(rows: list[Row], free: str, **fixed: str) -> list[Row]:
    """Select the rows that equal the base except in the `free` and `fixed` columns, sorted by the free one."""
    wanted = {key: value for key, value in (BASE | fixed).items() if key != free}
    return sorted(filter(_has(wanted), rows), key=lambda row: float(row[free]))


def _has(wanted: dict[str, str]) -> Callable[[Row], bool]:
    return lambda row: all(row[key] == value for key, value in wanted.items())


def curve(ax: Axes, rows: list[Row], across: str, measure: str, label: str) -> None:
    """Plot a measure with its intervals."""
    x, y = ([float(row[column]) for row in rows] for column in (across, measure))
    below = [float(row[measure]) - float(row[f"{measure}_low"]) for row in rows]
    above = [float(row[f"{measure}_high"]) - float(row[measure]) for row in rows]
    ax.errorbar(x, y, yerr=[below, above], marker="o", capsize=3, label=label)


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]))

"""The picture of translation.csv: patch distance against fidelity, a curve per method as its knob turns.

python -m benchmarks.research.translation_plot assets/translation.csv assets/translation-front.png
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measures import FIDELITY_FACTORS

matplotlib.use("Agg")

Row = dict[str, str]
CURVES = {  # label: what its rows have in common, and the knob that turns
    "every step refined but the last range_t, N = 8": ({"refine": "sample", "factor": "8", "steps": "10"}, "range_t"),
    "by regions, N": ({"refine": "regions", "range_t": "0", "steps": "10"}, "factor"),
    "by regions, the last 2 steps free, N": ({"refine": "regions", "range_t": "2", "steps": "10"}, "factor"),
    "by regions, N = 8, range_t": ({"refine": "regions", "factor": "8", "steps": "10"}, "range_t"),
    "50 steps, N = 8, range_t": ({"refine": "sample", "factor": "8", "steps": "50"}, "range_t"),
}


def plot(table: Path, picture: Path) -> None:
    """Read a translation.csv, write the picture."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = [row for row in rows if row["references"] == "foreign" and row["candidates"] == "1"]
    plain = {"weight": "1.0", "low_pass": "resize"}
    foreign = [row for row in drawn if plain.items() <= row.items() and row["factor"].isdecimal()]
    others = [row for row in drawn if row not in foreign and row["refine"] == "regions"]
    a_fifth_free = [row for row in foreign if row["refine"] == "regions" and row["factor"] == "8"]
    a_fifth_free = [row for row in a_fifth_free if int(row["steps"]) == 5 * int(row["range_t"])]
    figure = Figure(figsize=(19, 5), layout="constrained")
    axes = figure.subplots(1, len(FIDELITY_FACTORS), sharey=True)
    for ax, factor in zip(axes, FIDELITY_FACTORS, strict=True):
        for label, (common, knob) in CURVES.items():
            curve(ax, [row for row in foreign if common.items() <= row.items()], f"fidelity_{factor}", knob, label)
        curve(ax, a_fifth_free, f"fidelity_{factor}", "steps", "by regions, a fifth of the steps free, steps")
        for row in foreign:
            if row["refine"] not in ("sample", "regions"):
                ax.plot(float(row[f"fidelity_{factor}"]), float(row["patch_distance"]), "x", label=row["refine"])
        for row in others:
            label = (
                f"by regions, N = {row['factor']}, range_t {row['range_t']}, weight {row['weight']}, {row['low_pass']}"
            )
            ax.plot(float(row[f"fidelity_{factor}"]), float(row["patch_distance"]), "+", label=label)
        ax.set(xlabel=f"distance to the reference at N = {factor}, grey levels")
    axes[0].set(ylabel="patch distance (1 is real)")
    figure.legend(*axes[-1].get_legend_handles_labels(), fontsize="x-small", loc="outside right upper")
    figure.savefig(picture, dpi=80)


def curve(ax: Axes, rows: Sequence[Row], across: str, knob: str, label: str) -> None:
    """Plot the rows by their knob, each with its value and the patch distance's interval."""
    rows = sorted(rows, key=lambda row: float(row[knob]))
    x, y = ([float(row[column]) for row in rows] for column in (across, "patch_distance"))
    half = [float(row["patch_distance_high"]) - float(row["patch_distance"]) for row in rows]
    ax.errorbar(x, y, yerr=half, marker="o", capsize=3, label=label)
    for row, at in zip(rows, zip(x, y, strict=True), strict=True):
        ax.annotate(row[knob], at, textcoords="offset points", xytext=(4, 4), fontsize="small")


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]))

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
    "by regions, N = 8, range_t": ({"refine": "regions", "factor": "8", "steps": "10"}, "range_t"),
    "50 steps, N = 8, range_t": ({"refine": "sample", "factor": "8", "steps": "50"}, "range_t"),
}


def plot(table: Path, picture: Path) -> None:
    """Read a translation.csv, write the picture."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    foreign = [row for row in rows if row["references"] == "foreign" and row["candidates"] == "1"]
    a_fifth_free = [
        row for row in foreign if row["refine"] == "regions" and int(row["steps"]) == 5 * int(row["range_t"])
    ]
    figure = Figure(figsize=(15, 5), layout="constrained")
    axes = figure.subplots(1, len(FIDELITY_FACTORS), sharey=True)
    for ax, factor in zip(axes, FIDELITY_FACTORS, strict=True):
        for label, (common, knob) in CURVES.items():
            curve(ax, [row for row in foreign if common.items() <= row.items()], f"fidelity_{factor}", knob, label)
        curve(ax, a_fifth_free, f"fidelity_{factor}", "steps", "by regions, a fifth of the steps free, steps")
        for row in foreign:
            if row["refine"] not in ("sample", "regions"):
                ax.plot(float(row[f"fidelity_{factor}"]), float(row["patch_distance"]), "x", label=row["refine"])
        ax.set(xlabel=f"distance to the reference at N = {factor}, grey levels")
    axes[0].set(ylabel="patch distance (1 is real)")
    axes[-1].legend(fontsize="x-small", loc="upper right")
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

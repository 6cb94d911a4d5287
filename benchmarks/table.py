"""The tables of the benchmarks: a row per setting, of every measure the estimate and its interval."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measures import Measures, interval

Row = dict[str, str]


def row(name: str, settings: Mapping[str, object], measures: Measures) -> Row:
    """Of the CSV: the settings, and every measure with both ends of its interval."""
    cells = {"name": name} | {key: str(value) for key, value in settings.items()}
    for key, values in measures.items():
        cells |= zip((key, f"{key}_low", f"{key}_high"), (f"{value:.4g}" for value in interval(values)), strict=True)
    return cells


def write_csv(table: Sequence[Row], path: Path) -> None:
    """All the rows' columns, empty where a row has none."""
    columns = list(dict.fromkeys(column for cells in table for column in cells))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)

"""The tables of the benchmarks: a row per setting, with an estimate and an interval of every measure."""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measures import Measures, interval
from utils.files import PROJECT

Row = dict[str, str]


def table_parser(description: str) -> argparse.ArgumentParser:
    """Make the parser of the commands that make a table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a smoke test, not for reading")
    parser.add_argument("--mixed_precision", choices=["no", "bf16"], default="no", help="of the network")
    parser.add_argument("--save_dir", type=Path, help="assets/, or results/ with --quick, if left out")
    return parser


def table_folder(args: argparse.Namespace) -> Path:
    """Return the table's folder, and make it if it does not exist."""
    folder: Path = args.save_dir or PROJECT / ("results" if args.quick else "assets")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def row(name: str, settings: Mapping[str, object], measures: Measures) -> Row:
    """Make a row of the CSV: the settings, and every measure with both ends of its interval."""
    cells = {"name": name} | {key: str(value) for key, value in settings.items()}
    for key, values in measures.items():
        cells |= zip((key, f"{key}_low", f"{key}_high"), (f"{value:.4g}" for value in interval(values)), strict=True)
    return cells


def write_csv(table: Sequence[Row], path: Path) -> None:
    """Write all the rows' columns, empty where a row has none."""
    columns = list(dict.fromkeys(column for cells in table for column in cells))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)

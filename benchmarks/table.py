"""The tables of the benchmarks: a row per setting, with an estimate and an interval of every measure."""

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.domain import add_domain
from benchmarks.measures import Measures, interval
from utils.files import PROJECT

Row = dict[str, str]
Setting = TypeVar("Setting", bound=Any)


def table_parser(description: str) -> argparse.ArgumentParser:
    """Make the parser of the commands that make a table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a smoke test, not for reading")
    parser.add_argument("--mixed_precision", choices=["no", "bf16"], default="no", help="of the network")
    add_domain(parser)
    parser.add_argument("--only", nargs="+", metavar="COLUMN=VALUES", help="settings alone that have one of the values")
    parser.add_argument("--save_dir", type=Path, help="assets/, or results/ with --quick, if left out")
    return parser


def table_folder(args: argparse.Namespace) -> Path:
    """Return the table's folder, and make it if it does not exist."""
    folder: Path = args.save_dir or PROJECT / ("results" if args.quick else "assets")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def chosen(settings: Sequence[Setting], only: Sequence[str] | None) -> list[Setting]:
    """Choose the settings that `--only` names, such as "steps=10,25"; others are compared with the first left."""
    wanted = {column: values.split(",") for column, _, values in (each.partition("=") for each in only or ())}
    left = [each for each in settings if all(str(asdict(each).get(name)) in wanted[name] for name in wanted)]
    if not left:
        raise SystemExit(f"there is no setting with {' '.join(only or ())}")
    return left


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

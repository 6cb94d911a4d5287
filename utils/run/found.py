"""What is in the output folder when a run begins, and whether it may stay there or be replaced."""

import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.files import check_replaceable, open_regular
from utils.png import PngText
from utils.run.ownership import is_ours, not_ours
from utils.run.page import is_page
from utils.run.pictures import FOLDER
from utils.run.record import read_run_record, settings_record
from utils.run.settings import Settings

# a picture edited since its samples were made is no other setting: its samples are made anew
OF_THE_REFERENCE = {"fingerprint", "reference", "reference_sha256"}
PAGE_START = 4096  # bytes, which say whose page it is


def present(settings: Settings) -> list[int]:
    """The positions of the samples that have a file in their place, whatever it holds."""
    found: set[int | None] = set()
    for binding in settings.bindings:
        folder = settings.save_dir / binding.folder
        names = os.listdir(folder) if folder.is_dir() else []  # in a dry run, there may be none
        found.update(settings.samples.find(binding, name) for name in names)
    return sorted(position for position in found if position is not None)


def check_record(settings: Settings, weights_hash: str) -> None:
    """See that run.yaml is ours; and where there are images beside it, of the same settings.

    Raises:
        InputError: it is not.
    """
    folder = settings.save_dir
    record = folder / "run.yaml"
    if not os.path.lexists(record):
        return
    found = read_run_record(record)
    if not any(path.relative_to(folder).parts[0] != FOLDER for path in folder.rglob("*.png")):
        return
    wanted = settings_record(settings, weights_hash)
    for swept in ("downsample_factor", "range_t"):
        if isinstance(found.get(swept), list) or isinstance(wanted[swept], list):
            del wanted[swept]  # a sweep has a folder for each, and may grow by others
    differences = name_differences(found, wanted)
    if differences:
        raise InputError(
            f"save_dir {folder}: holds images of other settings ({differences}); choose another, or --overwrite"
        )


def check_page(settings: Settings) -> None:
    """See that the page can be written, and replaces none that is not ours.

    Raises:
        InputError: it would.
    """
    path = settings.save_dir / "index.html"
    check_replaceable(path)
    if path.is_file() and not settings.overwrite:
        with open_regular(path) as file:
            if not is_page(file.read(PAGE_START)):
                raise not_ours(path)


def check_ours(path: Path, found: PngText) -> None:
    """See that an image which is about to be replaced is ours.

    Raises:
        InputError: it is not.
    """
    if not is_ours(found):
        raise not_ours(path)


def check_image(path: Path, found: PngText, wanted: Mapping[str, str]) -> None:
    """See that an image of ours which is about to be replaced is the same sample of an older reference, or cut short.

    Raises:
        InputError: it is something else.
    """
    keep = wanted.keys() - OF_THE_REFERENCE
    differences = name_differences({k: found.text.get(k) for k in keep}, {k: wanted[k] for k in keep})
    if found.is_whole and differences:
        raise InputError(f"{path}: was made otherwise ({differences}); choose another save_dir, or --overwrite")


def name_differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 5) -> str:
    """The settings that differ, and how: "seed 1, now 2; diffusion.respace_steps 50, now 100"."""
    before, now = dict(_flat(old)), dict(_flat(new))
    differing = [key for key in now if key not in before or before[key] != now[key]]
    shown = [f"{key} {reprlib.repr(before.get(key))}, now {reprlib.repr(now[key])}" for key in differing[:most]]
    return "; ".join(shown + ([f"{len(differing) - most} more"] if len(differing) > most else []))


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _flat(value, f"{key}.")
        else:
            yield prefix + str(key), value

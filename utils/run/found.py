"""What is in the output folder when a run begins, and whether it may stay there or be replaced."""

import os
from collections.abc import Mapping
from pathlib import Path

from utils.errors import InputError
from utils.files import check_replaceable, open_regular
from utils.images import PngText
from utils.run.differences import name_differences
from utils.run.ownership import is_ours, not_ours
from utils.run.page import is_page
from utils.run.pictures import FOLDER
from utils.run.record import read_run_record, settings_record
from utils.run.settings import Settings

# a picture edited since its samples were made is no other setting: its samples are made anew
OF_THE_REFERENCE = {"fingerprint", "reference", "reference_sha256", "shape"}
PAGE_START = 4096  # bytes, which say whose page it is


def present(settings: Settings) -> list[int]:
    """The positions of the samples that have a file in their place, whatever it holds.

    Raises:
        InputError: a folder that cannot be read.
    """
    found: set[int | None] = set()
    for binding in settings.bindings:
        folder = settings.save_dir / binding.folder
        try:
            found.update(settings.samples.find(binding, name) for name in os.listdir(folder))
        except FileNotFoundError:  # a dry run makes none
            continue
        except OSError as error:
            raise InputError(f"save_dir {folder}: cannot be read: {error.strerror or error}") from None
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

"""What is checked of the references before hours are spent on the first of them."""

import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from utils.errors import InputError
from utils.pictures import HUGE, PictureLimits, open_picture
from utils.run.references import Reference

THREADS = min(8, os.cpu_count() or 1)
MOST_NAMES = 3  # of the references that a note is about


@dataclass
class Examination:
    """What was found of the references, by their names.

    Attributes:
        hashes: SHA-256 of the content of each that can be read.
        shapes: height and width of each of these, in pixels, as it is to be seen.
        faults: what is the matter with each other.
        notes: what there is to be said of how they are read, one line each.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def examine(references: Iterable[Reference], size: int, tolerance: PictureLimits) -> Examination:
    """Decode every reference once.

    Args:
        size: of the images, their longer side in pixels: as `read_reference` is told.
        tolerance: what they may cost and lack.
    """
    found, alone = Examination(), Lock()
    notes = defaultdict[str, list[str]](list)
    references = list(references)
    with ThreadPoolExecutor(THREADS) as pool:
        results = pool.map(partial(_decode, size=size, tolerance=tolerance, alone=alone), references)
        for reference, result in zip(references, results, strict=True):
            if isinstance(result, InputError):
                found.faults[reference.name] = str(result)
                continue
            found.hashes[reference.name], found.shapes[reference.name], its_notes = result
            for note in dict.fromkeys(its_notes):
                notes[note].append(reference.path.name)
    found.notes = [_line(note, names) for note, names in notes.items()]
    return found


def _decode(
    reference: Reference, size: int, tolerance: PictureLimits, alone: Lock
) -> tuple[str, tuple[int, int], list[str]] | InputError:
    """A picture's hash, shape and notes, or why it cannot be read. Of huge ones, one is decoded at a time."""
    try:
        with open_picture(reference.path, tolerance) as picture, alone if picture.megapixels > HUGE else nullcontext():
            picture.load(size)
            return picture.sha256, picture.swap(picture.stored), picture.notes
    except InputError as error:
        return error


def _line(note: str, names: list[str]) -> str:
    more = f", … {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{len(names)} reference{'s' if len(names) > 1 else ''}: {note} ({', '.join(names[:MOST_NAMES])}{more})"

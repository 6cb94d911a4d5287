"""The reference images of a folder, and the names that their samples are written under."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils.errors import InputError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
HASH_DIGITS = 12  # two of ten thousand paths share one once in millions of runs
HASHED = re.compile(rf"-[0-9a-f]{{{HASH_DIGITS}}}$", re.IGNORECASE)
LONGEST_NAME = 200  # bytes; leaves room for a variation, an ending and a temporary name within 255


@dataclass(frozen=True)
class Reference:
    """A reference image: `path` relative to the input folder's parent, `name` unique among its fellows."""

    path: Path
    name: str


def find_references(
    folder: Path, exclude: Path | None = None, on_unreadable: Callable[[OSError], None] | None = None
) -> list[Reference]:
    """Every image of a folder and its subfolders, sorted by path.

    Hidden files and folders are passed over, and links to folders are not followed.

    Args:
        folder: the folder.
        exclude: a folder whose files do not count (a run's own results inside the input folder).
        on_unreadable: told of each subfolder that cannot be listed; without it, one is a fault.

    Raises:
        InputError: no such folder, or no image in it.
    """
    if not os.path.isdir(folder):  # Path.is_dir raises on names too long
        raise InputError(f"input_dir {folder}: {'is not a folder' if os.path.exists(folder) else 'no such folder'}")
    excluded = exclude.resolve() if exclude is not None else None
    if folder.resolve() == excluded:
        raise InputError(f"save_dir {exclude}: is the input_dir too; results need a folder of their own")
    paths = []
    for here, folders, files in os.walk(folder, onerror=on_unreadable or _refuse):
        if Path(here).resolve() == excluded:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(here, f) for f in files if Path(f).suffix.lower() in EXTENSIONS and not f.startswith(".")]
    if not paths:
        raise InputError(f"input_dir {folder}: holds no image ({', '.join(sorted(EXTENSIONS))})")
    paths.sort(key=lambda path: path.relative_to(folder).parts)
    names = _unique_names([path.relative_to(folder) for path in paths])
    return [Reference(path, name) for path, name in zip(paths, names, strict=True)]


def _unique_names(paths: list[Path]) -> list[str]:
    """Each file's stem; where two share it (also on file systems blind to case), a hash of the path is added.

    And where it looks as if one had been added: no file can bear another's name on purpose.
    """
    stems = [_printable(path.stem) for path in paths]
    count = Counter(stem.casefold() for stem in stems)
    return [
        stem
        if count[stem.casefold()] == 1 and stem == path.stem and not HASHED.search(stem)
        else f"{stem}-{_path_hash(path)}"
        for stem, path in zip(stems, paths, strict=True)
    ]


def _printable(stem: str) -> str:
    """The stem without what a shell or a file system would stumble over, cut to a length all of them take."""
    stem = "".join(c if c.isprintable() and c not in '\\/:*?"<>|' else "_" for c in stem)
    return stem.encode("utf-8", "replace")[: LONGEST_NAME - HASH_DIGITS - 1].decode("utf-8", "ignore")


def _path_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()[:HASH_DIGITS]


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is no empty one."""
    raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}")

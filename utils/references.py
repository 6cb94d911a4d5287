"""The reference images of a folder, and the names that their samples are written under."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from utils.errors import InputError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
LONGEST_NAME = 200  # bytes; leaves room for a variation, an ending and a temporary name within 255


@dataclass(frozen=True)
class Reference:
    """A reference image: `path` relative to the input folder's parent, `name` unique among its fellows."""

    path: Path
    name: str


def find_references(folder: Path, exclude: Path | None = None) -> list[Reference]:
    """Every image of a folder and its subfolders, sorted by path.

    Hidden files and folders are passed over, and links to folders are not followed.

    Args:
        folder: the folder.
        exclude: a folder whose files do not count (a run's own results inside the input folder).

    Raises:
        InputError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"input_dir {folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    excluded = exclude.resolve() if exclude is not None else None
    paths = []
    for here, folders, files in os.walk(folder):
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
    """Each file's stem; where two share it (also on file systems blind to case), a hash of the path is added."""
    stems = [_printable(path.stem) for path in paths]
    count = Counter(stem.casefold() for stem in stems)
    return [
        stem if count[stem.casefold()] == 1 and stem == path.stem else f"{stem}-{_path_hash(path)}"
        for stem, path in zip(stems, paths, strict=True)
    ]


def _printable(stem: str) -> str:
    """The stem without what a shell or a file system would stumble over, cut to a length all of them take."""
    stem = "".join(c if c.isprintable() and c not in '\\/:*?"<>|' else "_" for c in stem)
    return stem.encode("utf-8", "replace")[: LONGEST_NAME - 9].decode("utf-8", "ignore")


def _path_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()[:8]

"""The reference images of a folder, and the names that their samples are written under."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils.errors import InputError

EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".jp2"),
}
OTHER_PICTURES = {  # which are not read, but are not passed over without a word
    *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".j2k", ".jpx", ".psd", ".xcf", ".tga", ".exr", ".hdr", ".svg", ".ppm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".qoi", ".ico"),
}
SYSTEM_FOLDERS = {"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found"}  # of previews and of deleted files
HASH_DIGITS = 12  # two of ten thousand paths share one once in millions of runs
HASHED = re.compile(rf"-[0-9a-f]{{{HASH_DIGITS}}}$", re.IGNORECASE)
LONGEST_NAME = 200  # bytes; leaves room for a variation, an ending and a temporary name within 255


@dataclass(frozen=True)
class Reference:
    """A reference image: `path` relative to the input folder's parent, `name` unique among its fellows."""

    path: Path
    name: str


def find_references(
    source: Path, exclude: Path | None = None, on_unreadable: Callable[[OSError], None] | None = None
) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """Every picture of a folder and its subfolders, sorted by path; or the one that `source` is itself.

    Hidden files and folders are passed over, and so are those that systems and archives leave behind. Links to folders
    are not followed.

    Args:
        source: the folder, or a picture.
        exclude: a folder whose files do not count (a run's own results inside the input folder).
        on_unreadable: told of each subfolder that cannot be listed; without it, one is a fault.

    Returns:
        The references, and what is to be said of what was passed over, one line each.

    Raises:
        InputError: there is nothing of that name, or no picture in it.
    """
    if not os.path.exists(source):  # Path.exists raises on names too long
        raise InputError(f"input_dir {source}: no such folder or file")
    if not os.path.isdir(source):
        return (Reference(source, _printable(source.stem)),), ()
    excluded = exclude.resolve() if exclude is not None else None
    if source.resolve() == excluded:
        raise InputError(f"save_dir {exclude}: is the input_dir too; results need a folder of their own")
    paths: list[Path] = []
    left: Counter[str] = Counter()
    for here, folders, files in os.walk(source, onerror=on_unreadable or _refuse):
        if Path(here).resolve() == excluded:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not _is_hidden(name)]
        left["links to folders"] += sum(os.path.islink(os.path.join(here, name)) for name in folders)
        for name in files:
            ending = "hidden" if _is_hidden(name) else Path(name).suffix.lower()
            if ending in EXTENSIONS:
                paths.append(Path(here, name))
            left[ending] += ending in OTHER_PICTURES
    passed_over = ", ".join(f"{count} {what}" for what, count in sorted((+left).items()))
    notes = [f"input_dir {source}: passed over {passed_over}"] if passed_over else []
    if not paths:
        raise InputError(f"input_dir {source}: holds no image ({', '.join(sorted(EXTENSIONS))})", *notes)
    paths.sort(key=lambda path: path.relative_to(source).parts)
    names = _unique_names([path.relative_to(source) for path in paths])
    return tuple(map(Reference, paths, names)), tuple(notes)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


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

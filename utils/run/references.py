"""The reference pictures of a run: which there are, the names of their samples, and whether all can be read."""

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

from utils.errors import InputError
from utils.pictures import HUGE, PictureLimits, open_picture

EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".jp2", ".j2k", ".j2c", ".jpf", ".pgm", ".ppm", ".pnm", ".pbm"),
}
# previews and deleted files
SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found"}
HASH_DIGITS = 12  # two of ten thousand paths share one once in millions of runs
HASHED = re.compile(rf"-[0-9a-f]{{{HASH_DIGITS}}}$", re.IGNORECASE)
MAX_NAME_BYTES = 200  # leaves room for a variation, an ending and a temporary name within 255
THREADS = min(8, os.cpu_count() or 1)
MAX_NAMED, MAX_KINDS = 3, 12  # references that a note names, and kinds of files


@dataclass(frozen=True)
class Reference:
    """A reference picture: its path, in the input folder as given, and a name that no other of the run has."""

    path: Path
    name: str


def find_references(
    source: Path, exclude: Path | None = None, on_unreadable: Callable[[OSError], None] | None = None
) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """Find every picture of a folder and its subfolders, sorted by path; or the one that `source` is itself.

    Hidden files and folders are skipped, and so are those that systems and archives leave behind. Links to folders are
    not followed.

    Args:
        source: the folder, or a picture.
        exclude: a folder whose files do not count (a run's own results inside the input folder).
        on_unreadable: called for each subfolder that cannot be listed; without it, one is an error.

    Returns:
        The references, and what there is to say of what was skipped, one line each.

    Raises:
        InputError: there is nothing of that name, or no picture in it.
    """
    if not os.path.exists(source):  # Path.exists raises on names too long
        raise InputError(f"--input_dir {source}: no such folder or file")
    if not os.path.isdir(source):
        return (Reference(source, _printable(source.stem)),), ()
    excluded = exclude.resolve() if exclude is not None else None
    if source.resolve() == excluded:
        raise InputError(f"--save_dir {exclude}: is the --input_dir too; results need a folder of their own")
    paths: list[Path] = []
    left: Counter[str] = Counter()
    for here, folders, files in os.walk(source, onerror=on_unreadable or _refuse):
        if Path(here).resolve() == excluded:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name[0] != "." and name.lower() not in SYSTEM_NAMES]
        left["links to folders"] += sum(os.path.islink(os.path.join(here, name)) for name in folders)
        for name in files:
            if name[0] == "." or name.lower() in SYSTEM_NAMES:
                continue
            ending = Path(name).suffix.lower()
            if ending in EXTENSIONS:
                paths.append(Path(here, name))
            else:
                left[ending or "without an ending"] += 1
    kinds = [f"{count} {what}" for what, count in sorted((+left).items())]
    skipped = ", ".join(kinds[:MAX_KINDS] + [f"{len(kinds) - MAX_KINDS} more kinds"] * (len(kinds) > MAX_KINDS))
    notes = [f"--input_dir {source}: skipped {skipped}"] if skipped else []
    if not paths:
        raise InputError(f"--input_dir {source}: contains no picture ({', '.join(sorted(EXTENSIONS))})", *notes)
    paths.sort(key=lambda path: path.relative_to(source).parts)
    names = _unique_names([path.relative_to(source) for path in paths])
    return tuple(map(Reference, paths, names)), tuple(notes)


@dataclass
class Examination:
    """What was found of the references, by their names.

    Attributes:
        sha256s: of the content of each that can be read.
        shapes: height and width of each of these, in pixels, upright.
        faults: what is wrong with each of the others.
        notes: what there is to say of how they are read, one line each.
    """

    sha256s: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def examine(references: Sequence[Reference], size: int, limits: PictureLimits) -> Examination:
    """Decode every reference once, before hours are spent on the first of them.

    Args:
        references: the pictures.
        size: of the images, their longer side in pixels, as `read_reference` is given.
        limits: what they may cost and lack.
    """
    found, alone = Examination(), Lock()
    notes = defaultdict[str, list[str]](list)
    with ThreadPoolExecutor(THREADS) as pool:
        results = pool.map(partial(_decode, size=size, limits=limits, alone=alone), references)
        for reference, result in zip(references, results, strict=True):
            if isinstance(result, InputError):
                found.faults[reference.name] = str(result)
                continue
            found.sha256s[reference.name], found.shapes[reference.name], its_notes = result
            for note in dict.fromkeys(its_notes):
                notes[note].append(reference.path.name)
    for note, names in notes.items():
        more = f", … {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        plural = "s" if len(names) > 1 else ""
        found.notes.append(f"{len(names)} reference{plural}: {note} ({', '.join(names[:MAX_NAMED])}{more})")
    return found


def _decode(
    reference: Reference, size: int, limits: PictureLimits, alone: Lock
) -> tuple[str, tuple[int, int], list[str]] | InputError:
    """Return a picture's hash, shape and notes, or why it cannot be read. Of huge ones, one is decoded at a time."""
    try:
        with (
            open_picture(reference.path, limits) as picture,
            alone if picture.megapixels > HUGE else nullcontext(),
        ):
            picture.load(size)
            return picture.sha256, picture.shape, picture.notes
    except InputError as error:
        return error


def _unique_names(paths: list[Path]) -> list[str]:
    """Return each file's stem; where two share it (as `folded` has them), a hash of the path is added.

    It is also added where a stem looks as if it had one: no file can take another's name on purpose.
    """
    stems = [_printable(path.stem) for path in paths]
    count = Counter(map(folded, stems))
    names = []
    for stem, path in zip(stems, paths, strict=True):
        if count[folded(stem)] > 1 or stem != path.stem or HASHED.search(stem):
            stem += f"-{hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()[:HASH_DIGITS]}"
        names.append(stem)
    return names


def folded(name: str) -> str:
    """Return the same text for names that a file system may take for one: it may ignore case, and compose accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _printable(stem: str) -> str:
    """Return the stem without what a shell or a file system would stumble over, and not too long for any."""
    stem = "".join(c if c.isprintable() and c not in '\\/:*?"<>|' else "_" for c in stem)
    return stem.encode("utf-8", "replace")[: MAX_NAME_BYTES - HASH_DIGITS - 1].decode("utf-8", "ignore")


def _refuse(error: OSError) -> None:
    """Raise InputError: a folder that cannot be listed is not an empty one."""
    raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}")

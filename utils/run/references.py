"""The reference pictures of a run: which there are, the names of their samples, and whether all can be read."""

import hashlib
import math
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from utils.arrays import open_reference
from utils.errors import InputError, is_shown
from utils.pictures import HUGE, Reading, ValueRange

EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".jp2", ".j2k", ".j2c", ".jpf", ".pgm", ".ppm", ".pnm", ".pbm", ".npy", ".npz"),
}
# of previews, and of deleted files
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
    source: Path,
    exclude: Path | None = None,
    on_unreadable: Callable[[OSError], None] | None = None,
    flag: str = "--input_dir",
) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """Find every picture of a folder and its subfolders, sorted by path; or the one that `source` is itself.

    Hidden files and folders are skipped, and so are those that systems and archives leave behind. Links to folders are
    not followed.

    Args:
        source: the folder, or a picture.
        exclude: a folder whose files do not count (a run's own results inside the input folder).
        on_unreadable: called for each subfolder that cannot be listed; without it, one is an error.
        flag: the argument that the source is given by, for messages.

    Returns:
        The references, and a line on what was skipped, if anything was.

    Raises:
        InputError: there is nothing of that name, or no picture in it.
    """

    def refuse(error: OSError) -> None:  # a folder that cannot be listed is not an empty one
        raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}")

    if not os.path.exists(source):  # Path.exists raises on names too long
        raise InputError(f"{flag} {source}: no such folder or file")
    root = source if os.path.isdir(source) else source.parent
    excluded = exclude.resolve() if exclude is not None else None
    if source.resolve() == excluded:
        raise InputError(f"--save_dir {exclude}: is the --input_dir too; results need a folder of their own")
    paths = [] if root == source else [source]
    left: Counter[str] = Counter()
    for here, folders, files in os.walk(source, onerror=on_unreadable or refuse) if root == source else ():
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
    notes = [f"{flag} {source}: skipped {skipped}"] if skipped else []
    if not paths:
        raise InputError(f"{flag} {source}: contains no picture ({', '.join(sorted(EXTENSIONS))})", *notes)
    paths.sort(key=lambda path: path.relative_to(root).parts)
    stems = []
    for path in paths:  # without what a shell or a file system would stumble over, and not too long for any
        stem = "".join(c if is_shown(c) and c not in '\\/:*?"<>|' else "_" for c in path.stem)
        stem += "_" * (stem.casefold() == "grid")  # index_files/grid.png is the grid
        stems.append(stem.encode("utf-8", "replace")[: MAX_NAME_BYTES - HASH_DIGITS - 1].decode("utf-8", "ignore"))
    count, references = Counter(map(folded, stems)), []
    for stem, path in zip(stems, paths, strict=True):
        # where two share a stem, or one looks like that, a hash is added: no file can take another's name on purpose
        if root == source and (count[folded(stem)] > 1 or stem != path.stem or HASHED.search(stem)):
            content = os.fsencode(path.relative_to(root).as_posix())
            stem += f"-{hashlib.sha256(content).hexdigest()[:HASH_DIGITS]}"
        references.append(Reference(path, stem))
    return tuple(references), tuple(notes)


def find_masks(source: Path, input_dir: Path, references: Sequence[Reference]) -> dict[str, Path]:
    """Find each reference's mask, by its name: the picture of the same path but for the ending, or one for all.

    Raises InputError if one of them has no mask, or several; or if masks lie among the references.
    """
    found, _ = find_references(source, flag="--mask_dir")
    is_folder = os.path.isdir(input_dir)
    if is_folder and source.resolve().is_relative_to(input_dir.resolve()):
        raise InputError(f"--mask_dir {source}: is inside of --input_dir, so that masks are references; move it out")
    if not os.path.isdir(source):
        return {reference.name: source for reference in references}
    by_stem = defaultdict[Path, list[Path]](list)
    for mask in found:
        by_stem[mask.path.relative_to(source).with_suffix("")].append(mask.path)
    masks, faults = {}, []
    for reference in references:
        path = reference.path.relative_to(input_dir if is_folder else input_dir.parent)
        its = by_stem[path.with_suffix("")]
        its = [mask for mask in its if mask.name == path.name] or its
        if len(its) == 1:
            masks[reference.name] = its[0]
        else:
            faults.append(f"--mask_dir {source}: has {len(its) or 'no'} masks for {path}; it takes one of its name")
    if faults:
        raise InputError(*faults)
    return masks


class Seen(NamedTuple):
    """What was seen of one reference, see `PictureFile`; and how many of its values are outside of the value range."""

    sha256: str
    shape: tuple[int, int]
    notes: list[str]
    axes: str
    value_range: ValueRange | None
    extremes: tuple[float, float]
    outside: int


def examine(
    references: Sequence[Reference], size: int, reading: Reading, noun: str = "reference"
) -> tuple[dict[str, Seen], dict[str, str], list[str]]:
    """Decode every reference once, before hours are spent on the first of them.

    Args:
        references: the files.
        size: the images' longer side in pixels.
        reading: how they are read.
        noun: what the notes call one of them.

    Returns:
        What was seen of each reference that can be read, by its name; what is wrong with each of the others; and what
        there is to say of how they are read, one line each.
    """
    alone, (low, high) = Lock(), reading.value_range or (-math.inf, math.inf)
    found, faults = dict[str, Seen](), dict[str, str]()
    notes = defaultdict[str, list[str]](list)

    def decode(reference: Reference) -> Seen | InputError:
        try:
            with (
                open_reference(reference.path, reading) as file,
                alone if file.megapixels > HUGE else nullcontext(),  # of huge ones, one is decoded at a time
            ):
                file.load(size)
                count = 0
                if not low <= file.extremes[0] <= file.extremes[1] <= high:
                    for top in range(0, file.height, 256):  # in bands, for the file may be huge
                        band = file.pixels(slice(top, min(top + 256, file.height)), slice(0, file.width))
                        count += int(((band < low) | (band > high)).sum())
                return Seen(file.sha256, file.shape, file.notes, file.axes, file.value_range, file.extremes, count)
        except InputError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        for reference, seen in zip(references, pool.map(decode, references), strict=True):
            if isinstance(seen, InputError):
                faults[reference.name] = str(seen)
                continue
            found[reference.name] = seen
            for note in dict.fromkeys(seen.notes):
                notes[note].append(reference.path.name)
    if outside := sum(seen.outside for seen in found.values()):
        names = [each.path.name for each in references if each.name in found and found[each.name].outside]
        notes[f"{outside:,} values outside of the value range, which are kept"] = names
    lines = []
    for note, names in notes.items():
        more = f", … {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        plural = "s" if len(names) > 1 else ""
        lines.append(f"{len(names)} {noun}{plural}: {note} ({', '.join(names[:MAX_NAMED])}{more})")
    return found, faults, lines


def folded(name: str) -> str:
    """Return the same text for names that a file system may take for one: it may ignore case, and compose accents."""
    return unicodedata.normalize("NFC", name).casefold()

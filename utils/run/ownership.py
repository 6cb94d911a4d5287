"""Which files are this program's own, by what they say of themselves: no other is ever replaced unasked."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from PIL import ExifTags, Image

from utils.errors import InputError
from utils.images import PngText, read_png_text
from utils.run.settings import Settings

SOFTWARE = "ILVR sampler"
FIGURE_EXIF = {int(ExifTags.Base.Software): SOFTWARE}  # of an animation, as the text chunks are of a PNG


def signed(text: Mapping[str, str]) -> dict[str, str]:
    """The text of a PNG of ours: it, who made it, and a fingerprint of both."""
    text = {"Software": SOFTWARE, **text}
    return text | {"fingerprint": _fingerprint(text)}


def is_ours(found: PngText) -> bool:
    """Whether a PNG is of this program; one that is cut short need not say everything."""
    text = dict(found.text)
    fingerprint = text.pop("fingerprint", None)
    return text.get("Software") == SOFTWARE and (not found.is_whole or fingerprint == _fingerprint(text))


def not_ours(path: Path) -> InputError:
    """What there is to be said of a file that is in the way."""
    return InputError(f"{path}: is in the way, and not one of ours; choose another save_dir, or --overwrite")


def figure_paths(settings: Settings) -> list[Path]:
    """The pictures that a run draws of its images."""
    folders = [settings.save_dir / binding.folder for binding in settings.bindings]
    shown = [] if settings.progress_grid is None else folders
    progress = [folder / f"progress_grid{ending}" for folder in shown for ending in (".png", ".webp")]
    return [settings.save_dir / "grid.png", *progress]


def check_figure(path: Path, overwrite: bool) -> None:
    """That a picture which is about to be drawn replaces none but its like, unless it may.

    Raises:
        InputError: there is something else in its place.
    """
    found = read_png_text(path)
    if found and not (overwrite or is_ours(found) or (path.suffix == ".webp" and _is_our_animation(path))):
        raise not_ours(path)


def _is_our_animation(path: Path) -> bool:
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            return image.getexif().get(ExifTags.Base.Software) == SOFTWARE
    except Exception:  # whatever it is, it is not ours
        return False


def _fingerprint(text: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()

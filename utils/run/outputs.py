"""What lies in save_dir: what a run writes there, whose a file is, and whether an image is finished."""

import hashlib
import json
import os
import platform
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import ExifTags

from utils.errors import InputError, RunError, one_line
from utils.files import MAX_YAML_BYTES, check_replaceable, file_sha256, open_regular, parse_yaml, write_atomically
from utils.images import PngText, read_png_text
from utils.run.references import Reference
from utils.run.samples import PREVIEWS, Binding, Sample, Samples
from utils.run.settings import OMITTED, Settings

SOFTWARE = "ILVR sampler"
WAY_OUT = "choose another --save_dir or pass --overwrite"
FIGURE_EXIF = {int(ExifTags.Base.Software): SOFTWARE}
# how an animation and a page of ours begin, and what else they contain; text chunks mark a PNG
MARKS = {".webp": (b"RIFF", SOFTWARE.encode()), ".html": (b"<!", b'<meta name="generator" content="ILVR sampler">')}
GRID = f"{PREVIEWS}/grid.png"
ARRAY_HASH = "array_sha256"  # the text of a PNG beside which the sample lies as an array; not of its identity
FILM = "progress_grid"  # a strip and an animation of one sample's steps
ALWAYS_RECORDED = {"weights_sha256", "num_processes", "versions"}
PACKAGES = ("torch", "accelerate", "numpy", "pillow")
# a temporary file of `write_atomically`
LEFTOVER = re.compile(r"\.(.+\.(png|npy|webp)|index\.html|run\.yaml)\.[0-9a-f]{16}\.tmp", re.DOTALL)
# a picture edited since its samples were made is not another setting: its samples are made anew
OF_THE_REFERENCE = {"fingerprint", "reference", "reference_sha256", "mask_sha256", "shape"}


@dataclass(frozen=True)
class Preview:
    """The picture that the page shows of a reference as the model sees it; or, given a binding, of what of it binds."""

    reference: Reference
    binding: Binding | None = None


@dataclass(frozen=True)
class Outputs:
    """The files of one run.

    Attributes:
        record: what all images of the run have in common; a folder holds images of one such record.
        reference_sha256s: of each reference's content, by its name.
        mask_sha256s: of its mask's; empty where there are none.
    """

    settings: Settings
    samples: Samples
    record: Mapping[str, Any]
    reference_sha256s: Mapping[str, str]
    mask_sha256s: Mapping[str, str]

    def path(self, image: Sample | Preview) -> Path:
        """Return where a sample or a preview is written."""
        name = image.reference.name
        if isinstance(image, Sample):
            return self.settings.save_dir / image.binding.folder / f"{name}_{image.variation}.png"
        return self.settings.save_dir / (image.binding.previews if image.binding else PREVIEWS) / f"{name}.png"

    def text(self, image: Sample | Preview) -> dict[str, str]:
        """Return the text chunks of an image: what it depends on, nothing that it does not, and their fingerprint."""
        reference = image.reference
        values: dict[str, Any] = {
            "reference": one_line(reference.path.name),
            "reference_sha256": self.reference_sha256s[reference.name],
        }
        if self.mask_sha256s:
            values["mask_sha256"] = self.mask_sha256s[reference.name]
        if isinstance(image, Sample):
            values = {"sample": image.number, **values, "variation": image.variation, **self.record}
            values |= {"downsample_factor": image.binding.downsample_factor, "range_t": image.binding.range_t}
            values["class_id"] = image.class_id
        else:
            factor = image.binding.downsample_factor if image.binding else None
            values |= {**self.record, "downsample_factor": factor, "range_t": None}
        if self.settings.keep_aspect:
            values["shape"] = self.settings.shapes[reference.name]
        return signed(values)

    def is_finished(self, image: Sample | Preview) -> bool:
        """Return whether the file in an image's place is this image, whole; raise InputError if it must stay."""
        path, wanted = self.path(image), self.text(image)
        found = read_png_text(path)
        is_of_size = found is not None and found.shape == self.settings.shapes[image.reference.name]
        if found and found.is_whole and is_of_size and found.text.get("fingerprint") == wanted["fingerprint"]:
            if not isinstance(image, Sample) or self.settings.save_as != "npy":
                return True
            if found.text.get(ARRAY_HASH) == (file_sha256(path.with_suffix(".npy")) or "none"):
                return True
        if not found or self.settings.overwrite:
            return False
        if not is_ours(found):
            raise not_ours(path)
        if isinstance(image, Sample) and found.is_whole:
            before, now = ({**signed(OMITTED), **text} for text in (found.text, wanted))
            differences = name_differences(before, {k: v for k, v in now.items() if k not in OF_THE_REFERENCE})
            if differences:
                raise InputError(f"{path}: was made with other settings ({differences}); {WAY_OUT}")
        return False

    def check(self) -> None:
        """Raise InputError if the run would replace somebody else's file, or mix its images with other settings'."""
        settings, folder = self.settings, self.settings.save_dir
        check_replaceable(folder / "run.yaml")
        recorded: Mapping[str, Any] = {}
        if not settings.overwrite and os.path.lexists(folder / "run.yaml"):
            recorded = self._check_record(folder / "run.yaml")
        if settings.save_as == "npy" and not settings.overwrite and recorded.get("save_as") != "npy":
            for binding in settings.bindings:
                for path in (folder / binding.folder).glob("*.npy"):
                    picture = path.with_suffix(".png")
                    beside = read_png_text(picture)
                    is_in_place = self.samples.find(binding, picture.name) is not None
                    if is_in_place and not (beside and ARRAY_HASH in beside.text):
                        raise not_ours(path)
        filmed = [] if settings.progress_grid is None else settings.bindings
        films = [folder / binding.folder / f"{FILM}{ending}" for binding in filmed for ending in (".png", ".webp")]
        for path in (folder / GRID, *films, folder / "index.html"):
            check_figure(path, settings.overwrite)

    def _check_record(self, path: Path) -> Mapping[str, Any]:
        """Return a run.yaml; raise InputError if it is not ours, or there are images beside it of other settings."""
        folder = path.parent
        try:
            with open_regular(path) as file:
                # The settings come first; the references after them may be very many.
                content = file.read(MAX_YAML_BYTES + 1).partition(b"\nreferences:")[0]
        except OSError as error:
            raise InputError(f"run record {path}: cannot be read: {error.strerror or error}") from None
        try:
            found = parse_yaml(content, f"run record {path}") if len(content) <= MAX_YAML_BYTES else None
        except InputError as error:
            raise InputError(f"{error}; {WAY_OUT}") from None
        if not isinstance(found, dict) or not found.keys() >= ALWAYS_RECORDED:
            raise not_ours(path)
        if not any(image.relative_to(folder).parts[0] != PREVIEWS for image in folder.rglob("*.png")):
            return found
        before, wanted = ({**OMITTED, **record} for record in (found, self.record))
        for swept in ("downsample_factor", "range_t"):
            if isinstance(found.get(swept), list) or isinstance(wanted[swept], list):
                del wanted[swept]  # a sweep has a folder for each, and may grow by others
        without = {"save_as": "png"} if found.get("save_as") == "npy" else {}  # an array beside the same picture
        if differences := name_differences(before | without, wanted):
            raise InputError(f"--save_dir {folder}: contains images of other settings ({differences}); {WAY_OUT}")
        return found

    def begin(self, todo: np.ndarray, previews: Iterable[Preview], num_processes: int) -> None:
        """Make the folder ready: from here on, a sample's file is there if and only if it is finished.

        Temporary files of runs that were killed while writing go, and run.yaml says every setting from now on. Raises
        RunError if the folder cannot be written to.

        Args:
            todo: [N] bool, of each sample, whether it is not finished.
            previews: those that are not finished.
            num_processes: those that share the work.
        """
        settings = self.settings
        try:
            for folder in settings.folders:
                for path in (settings.save_dir / folder).glob(".*.tmp"):
                    if LEFTOVER.fullmatch(path.name):
                        path.unlink(missing_ok=True)
            for index in self.samples.existing(settings.save_dir):
                if todo[index]:
                    path = self.path(self.samples[index])
                    path.unlink(missing_ok=True)
                    if settings.save_as == "npy" or settings.overwrite:
                        path.with_suffix(".npy").unlink(missing_ok=True)  # of another image
            for preview in previews:
                self.path(preview).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{settings.save_dir}: cannot be written to: {error.strerror or error}") from None
        record = {
            "config": one_line(settings.config.source),
            "weights": one_line(settings.weights),
            "input_dir": one_line(settings.input_dir),
            **({"mask_dir": one_line(settings.mask_dir)} if settings.mask_dir else {}),
            "save_dir": one_line(settings.save_dir),
            "n_samples": settings.n_samples,
            **self.record,
            "micro_batch": settings.micro_batch,
            "compile": settings.compile,
            **({"save_as": "npy"} if settings.save_as == "npy" else {}),
            "allow_truncated": settings.reading.allow_truncated,
            "max_megapixels": settings.reading.max_megapixels,
            "num_processes": num_processes,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "references": {reference.name: one_line(reference.path) for reference in settings.references},
            "skipped_inputs": {name: one_line(fault) for name, fault in settings.skipped.items()},
        }
        content = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        write_atomically(settings.save_dir / "run.yaml", content.encode())


def signed(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as the text of a PNG of ours, JSON but for what is text already, with a fingerprint of them all."""
    text = {"Software": SOFTWARE}
    text |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return text | {"fingerprint": hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()}


def is_ours(found: PngText) -> bool:
    """Return whether a PNG is of this program; one that is cut short need not say everything."""
    text = {name: value for name, value in found.text.items() if name not in ("Software", "fingerprint", ARRAY_HASH)}
    text = signed(text) | {name: value for name, value in found.text.items() if name == ARRAY_HASH}
    return found.text.get("Software") == SOFTWARE and (not found.is_whole or found.text == text)


def not_ours(path: Path) -> InputError:
    """Return the error for a file of somebody else in the place of one of ours."""
    return InputError(f"{path}: exists and was not written by this program; {WAY_OUT}")


def check_figure(path: Path, overwrite: bool) -> None:
    """Raise InputError if something else than ours is in the place of a figure or the page, unless it may go."""
    check_replaceable(path)
    is_own = True
    if path.suffix == ".png":
        found = read_png_text(path)
        is_own = found is None or is_ours(found)
    elif path.is_file():
        with open_regular(path) as file:
            content = file.read()
        begin, mark = MARKS[path.suffix]
        is_own = not content or (content.startswith(begin) and mark in content)
    if not (is_own or overwrite):
        raise not_ours(path)


def name_differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 5) -> str:
    """Return which settings differ, and how: "seed 1, now 2; diffusion.respace_steps 50, now 100"."""

    def flat(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
        for key, value in record.items():
            if isinstance(value, Mapping) and not prefix:
                yield from flat(value, f"{key}.")
            else:
                yield prefix + str(key), value

    before, now = dict(flat(old)), dict(flat(new))
    differing = [key for key in now if key not in before or before[key] != now[key]]
    shown = [f"{key} {reprlib.repr(before.get(key))}, now {reprlib.repr(now[key])}" for key in differing[:most]]
    return "; ".join(shown + ([f"{len(differing) - most} more"] if len(differing) > most else []))

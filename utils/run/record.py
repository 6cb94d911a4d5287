"""What is written down of a run: run.yaml beside the images, and text chunks inside each of them."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from utils.errors import InputError, one_line
from utils.files import open_regular, write_atomically
from utils.plain_yaml import LARGEST, parse_yaml
from utils.run.ownership import not_ours, signed
from utils.run.pictures import Picture
from utils.run.references import Reference
from utils.run.samples import Sample
from utils.run.settings import Settings

ALWAYS_RECORDED = {"weights_sha256", "num_processes", "versions"}
PACKAGES = ("torch", "accelerate", "numpy", "pillow")


def settings_record(settings: Settings, weights_hash: str) -> dict[str, Any]:
    """What all images of a run have in common; a folder holds images of one such record."""
    return {"weights_sha256": weights_hash, **settings.image_settings}


def read_run_record(path: Path) -> dict[str, Any]:
    """A run.yaml of ours; nothing is ever done with it but to compare it.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    source = f"run record {path}"
    try:
        with open_regular(path) as file:
            # The settings come first; the references after them may be very many.
            content = file.read(LARGEST + 1).partition(b"\nreferences:")[0]
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror or error}") from None
    try:
        record = parse_yaml(content, source) if len(content) <= LARGEST else None
    except InputError as error:
        raise InputError(f"{error}; choose another save_dir, or --overwrite") from None
    if not isinstance(record, dict) or not record.keys() >= ALWAYS_RECORDED:
        raise not_ours(path)
    return record


def write_run_record(settings: Settings, weights_hash: str, num_processes: int) -> None:
    """Write save_dir/run.yaml: every setting, the versions, and the checkpoint's hash.

    Raises:
        RunError: it cannot be written.
    """
    record = {
        "config": one_line(settings.config.source),
        "weights": one_line(settings.weights),
        "input_dir": one_line(settings.input_dir),
        "save_dir": one_line(settings.save_dir),
        "n_samples": settings.n_samples,
        **settings_record(settings, weights_hash),
        "micro_batch": settings.micro_batch,
        "compile": settings.compile,
        "allow_truncated": settings.allow_truncated,
        "max_megapixels": settings.max_megapixels,
        "num_processes": num_processes,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "references": {reference.name: one_line(reference.path) for reference in settings.references},
        "skipped_inputs": {name: one_line(fault) for name, fault in settings.skipped.items()},
    }
    content = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    write_atomically(settings.save_dir / "run.yaml", content.encode())


def png_text(settings: Settings, sample: Sample, weights_hash: str, reference_hash: str) -> dict[str, str]:
    """The text chunks of one image: what it depends on, nothing that it does not, and a fingerprint of all that."""
    values: dict[str, Any] = {
        "sample": sample.number,
        "reference": one_line(sample.reference.path.name),
        "reference_sha256": reference_hash,
        "variation": sample.variation,
        **settings_record(settings, weights_hash),
        "downsample_factor": sample.binding.downsample_factor,
        "range_t": sample.binding.range_t,
    }
    return _signed(values | _own_shape(settings, sample.reference))


def picture_text(settings: Settings, picture: Picture, weights_hash: str, reference_hash: str) -> dict[str, str]:
    """The text chunks of a reference's picture, or of what binds of it, as `png_text` gives an image's."""
    values = {
        "reference": one_line(picture.reference.path.name),
        "reference_sha256": reference_hash,
        **settings_record(settings, weights_hash),
        "downsample_factor": picture.downsample_factor,
        "range_t": None,
    }
    return _signed(values | _own_shape(settings, picture.reference))


def _own_shape(settings: Settings, reference: Reference) -> dict[str, Any]:
    return {"shape": settings.shape_of(reference)} if settings.keep_aspect else {}


def _signed(values: Mapping[str, Any]) -> dict[str, str]:
    return signed({name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()})

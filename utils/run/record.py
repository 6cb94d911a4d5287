"""What is written down of a run: run.yaml beside the images, and text chunks inside each of them."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from models.diffusers_folder import weight_files
from utils.errors import InputError, one_line
from utils.files import write_atomically
from utils.plain_yaml import read_yaml
from utils.run.settings import Sample, Settings

PACKAGES = ("torch", "accelerate", "numpy", "pillow")


def hash_weights(weights: Path) -> str:
    """SHA-256 of the SHA-256 of each file that holds the checkpoint's parameters.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in weight_files(weights):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise InputError(f"weights {weights}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def settings_record(settings: Settings, weights_hash: str) -> dict[str, Any]:
    """What all images of a run have in common; a folder holds images of one such record."""
    return {"weights_sha256": weights_hash, **settings.image_settings}


def read_run_record(path: Path) -> dict[str, Any]:
    """A run.yaml of ours; nothing is ever done with it but to compare it.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    record = read_yaml(path, "run record")
    if not isinstance(record, dict):
        raise InputError(f"run record {path}: is not one of ours; choose another save_dir, or --overwrite")
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
        "Software": "ILVR sampler",
        "sample": sample.number,
        "reference": one_line(sample.reference.path.name),
        "reference_sha256": reference_hash,
        "variation": sample.variation,
        **settings_record(settings, weights_hash),
        "downsample_factor": sample.binding.downsample_factor,
        "range_t": sample.binding.range_t,
    }
    if settings.keep_aspect:
        values["shape"] = settings.shape_of(sample)
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return text | {"fingerprint": hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()}

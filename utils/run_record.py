"""What is written down of a run: run.yaml beside the images, and text chunks inside each of them."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from utils.diffusers_folder import weight_files
from utils.settings import Sample, Settings

PACKAGES = ("torch", "accelerate", "numpy", "pillow")


def hash_weights(weights: Path) -> str:
    """SHA-256 of the SHA-256 of each file that holds the checkpoint's parameters.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in weight_files(weights):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def write_run_record(settings: Settings, weights_hash: str, num_processes: int) -> None:
    """Write save_dir/run.yaml: every setting, the versions, and the checkpoint's hash."""
    record = {
        "config": settings.config.source,
        "weights": str(settings.weights),
        "weights_sha256": weights_hash,
        "input_dir": str(settings.input_dir),
        "save_dir": str(settings.save_dir),
        "n_samples": settings.n_samples,
        **settings.image_settings,
        "micro_batch": settings.micro_batch,
        "compile": settings.compile,
        "num_processes": num_processes,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "references": {reference.name: str(reference.path) for reference in settings.references},
    }
    path = settings.save_dir / "run.yaml"
    temporary = path.with_name(".run.yaml.tmp")
    temporary.write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
    temporary.replace(path)


def png_text(settings: Settings, sample: Sample, weights_hash: str) -> dict[str, str]:
    """The text chunks of one image: what it depends on, and nothing that it does not."""
    values: dict[str, Any] = {
        "Software": "ILVR sampler",
        "sample": sample.number,
        "reference": sample.reference.path.name,
        "variation": sample.variation,
        "weights_sha256": weights_hash,
        **settings.image_settings,
        "downsample_factor": sample.binding.downsample_factor,
        "range_t": sample.binding.range_t,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}

"""Everything a run is told, and what of it is recorded."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from models import Checkpoint
from models.files.config import Config
from utils.images import Shape
from utils.pictures import Tolerance
from utils.run.references import Reference
from utils.run.samples import Binding, Samples
from utils.run.shapes import canvas_of

# settings that came later, and their values in all images made before: left out of the record at those, so that
# finished images stay valid
CAME_LATER: dict[str, Any] = {"refine": "sample", "raw_weights": False, "autoencoder": None}
CAME_LATER |= {"keep_aspect": False, "tile_overlap": None, "detail": None}


@dataclass(frozen=True)
class Settings:
    """A run, whole: the command line and the config, resolved against each other.

    `diffusion` is the config's, with the command line's values in place of its own, `respace_steps` among them.
    `sampler_options` are those of the sampler alone. `command` is what was typed. `skipped` are the references that
    cannot be read, and why; `input_notes` what else there is to be said of the input folder. `shapes` are the
    references' own, by their names, where they keep their aspect: their short side is `image_size`'s.
    """

    config: Config
    weights: Path
    raw_weights: bool
    class_id: int | None
    input_dir: Path
    save_dir: Path
    references: tuple[Reference, ...]
    image_size: Shape
    keep_aspect: bool
    size_multiple: int
    tile_overlap: float
    detail: float
    n_samples: int
    seed: int
    diffusion: Mapping[str, Any]
    sampler: str
    sampler_options: Mapping[str, Any]
    downsample_factor: tuple[float, ...]
    interp_method: str
    low_pass: str
    refine: str
    range_t: tuple[int, ...]
    strength: float
    micro_batch: int
    mixed_precision: str
    compile: bool
    progress_grid: int | None
    overwrite: bool
    skip_bad_inputs: bool
    allow_truncated: bool
    max_megapixels: float
    dry_run: bool
    open: bool = False
    command: str = ""
    input_notes: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    checkpoint: Checkpoint | None = field(default=None, compare=False, repr=False)

    @property
    def tolerance(self) -> Tolerance:
        """What a reference may cost and lack."""
        return Tolerance(self.max_megapixels, self.allow_truncated)

    @property
    def walk_steps(self) -> int:
        """The network calls that a sample takes: S, or its share that `strength` leaves."""
        return share_walked(self.strength, self.diffusion["respace_steps"])

    @property
    def detail_steps(self) -> int:
        """The last so many of the S steps look at an image larger than the model's itself, in windows."""
        return share_walked(self.detail, self.diffusion["respace_steps"]) if self.detail else 0

    @property
    def is_larger(self) -> bool:
        """Whether there may be images that are larger than the model's own."""
        return self.keep_aspect or max(self.image_size) > self.config.image_size

    @property
    def all_shapes(self) -> list[Shape]:
        """Of the run's images, each once."""
        return sorted(set(self.shapes.values()) or {self.image_size})

    def shape_of(self, reference: Reference) -> Shape:
        """Of the images that follow a reference."""
        return self.shapes.get(reference.name, self.image_size)

    def canvas(self, shape: Shape) -> Shape:
        """What is made for an image of this shape, which is the middle of it."""
        return canvas_of(shape) if max(shape) > self.config.image_size and self.detail < 1 else shape

    @cached_property
    def bindings(self) -> tuple[Binding, ...]:
        """Every factor with every range; where there are several, each has a folder named after it."""

        def folder(factor: float, range_t: int) -> str:
            names = [f"N{factor!r}".removesuffix(".0")] if len(self.downsample_factor) > 1 else []
            names += [f"range{range_t}"] if len(self.range_t) > 1 else []
            return "/".join(names)

        return tuple(Binding(n, b, folder(n, b)) for n in self.downsample_factor for b in self.range_t)

    @cached_property
    def samples(self) -> Samples:
        """All samples, see `Samples`."""
        return Samples(self.references, self.skipped, self.n_samples, self.bindings)

    @property
    def image_settings(self) -> dict[str, Any]:
        """What an image depends on, apart from its number, its reference and the weights' content."""
        options = [f"{key} {value}" for key, value in self.sampler_options.items()]
        values = {
            "model": self.config.words(),
            "autoencoder": self.config.autoencoder.words() if self.config.autoencoder else None,
            "raw_weights": self.raw_weights,
            "class_id": self.class_id,
            "image_size": self.image_size[0] if len(set(self.image_size)) == 1 else list(self.image_size),
            "keep_aspect": self.keep_aspect,
            "tile_overlap": self.tile_overlap if self.is_larger else None,
            "detail": self.detail if self.is_larger else None,
            "image_channels": self.config.image_channels,
            "diffusion": {key: _brief(value) for key, value in self.diffusion.items()},
            "sampler": ", ".join([self.sampler.upper(), *options]),
            "downsample_factor": _one_or_all(self.downsample_factor),
            "interp_method": self.interp_method,
            "low_pass": self.low_pass,
            "refine": self.refine,
            "range_t": _one_or_all(self.range_t),
            "strength": self.strength,
            "seed": self.seed,
            "mixed_precision": self.mixed_precision,
        }
        return {key: value for key, value in values.items() if key not in CAME_LATER or value != CAME_LATER[key]}


def share_walked(strength: float, respace_steps: int) -> int:
    """How many of the S steps a strength s walks: s·S in whole steps, at least one."""
    return max(1, round(strength * respace_steps))


def _brief(value: object) -> Any:
    """The value itself; of a long list, as a schedule of betas is one, a hash: every image carries it."""
    if not isinstance(value, list):
        return value
    return f"{len(value)} numbers, SHA-256 {hashlib.sha256(json.dumps(value).encode()).hexdigest()}"


def _one_or_all(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values)

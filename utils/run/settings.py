"""Everything a run is told, and what of it is recorded."""

import hashlib
import json
import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, overload

import numpy as np

from models.config import Config
from utils.pictures import Tolerance
from utils.run.references import Reference

# settings that came later, and their values in all images made before: left out of the record at those, so that
# finished images stay valid
CAME_LATER = {"refine": "sample", "raw_weights": False, "autoencoder": None}


@dataclass(frozen=True)
class Binding:
    """How much of a reference binds; `folder` is where the run puts the images it binds so."""

    downsample_factor: float
    range_t: int
    folder: str = field(default="", compare=False)


@dataclass(frozen=True)
class Sample:
    """One image to make: its number, the reference it follows, which variation of it this is, and what binds it.

    Its noise is its number's, so that the images of a sweep differ by what binds them only.
    """

    number: int
    reference: Reference
    variation: int
    binding: Binding

    @property
    def file_name(self) -> str:
        """Under which it is written in the run's folder."""
        return (PurePath(self.binding.folder) / f"{self.reference.name}_{self.variation}.png").as_posix()


class Samples(Sequence[Sample]):
    """A run's samples, each made when it is asked for: there may be millions.

    Sample i follows reference i mod R and is its variation i div R; all of them for each binding. References that
    cannot be read are counted too, so that the others' numbers, and with them their noise, stay what they are when the
    file is mended; only their own samples are left out.

    Args:
        references: all R.
        skipped: the names of those that cannot be read.
        n_samples: for each binding, those left out included.
        bindings: how much of its reference binds each.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        skipped: Collection[str],
        n_samples: int,
        bindings: Sequence[Binding],
    ) -> None:
        self.references, self.bindings = references, bindings
        followed = [i for i, reference in enumerate(references) if reference.name not in skipped]
        rounds, rest = divmod(n_samples, len(references))
        self.per_binding = rounds * len(followed) + bisect_left(followed, rest)
        self._followed = followed
        names = [references[i].name for i in followed]
        self._places = {_alike(name): place for place, name in enumerate(names)}
        self._places |= {name: place for place, name in enumerate(names)}  # where both are there, the name itself holds

    def __len__(self) -> int:
        return self.per_binding * len(self.bindings)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        binding, place = divmod(range(len(self))[index], self.per_binding)
        variation, place = divmod(place, len(self._followed))
        i = self._followed[place]
        return Sample(variation * len(self.references) + i, self.references[i], variation, self.bindings[binding])

    @property
    def numbers(self) -> np.ndarray:
        """[N] int64, the numbers of one binding's samples; all bindings have the same."""
        variation, place = np.divmod(np.arange(self.per_binding), max(len(self._followed), 1))
        return variation * len(self.references) + np.array(self._followed, dtype=np.int64)[place]

    def variations(self, binding: Binding, count: int) -> list[Sample]:
        """The first `count` variations of every reference, as far as there are."""
        first = self.bindings.index(binding) * self.per_binding
        return self[first : first + min(self.per_binding, count * len(self._followed))]

    def numbered(self, number: int | None) -> list[Sample]:
        """The samples of this number, one per binding; none for None, or where its reference is left out."""
        at = np.flatnonzero(self.numbers == number)
        return [self[int(i) + binding * self.per_binding] for binding in range(len(self.bindings)) for i in at]

    def position(self, sample: Sample) -> int:
        """Where in the sequence a sample stands."""
        within = sample.variation * len(self._followed) + self._places[sample.reference.name]
        return self.bindings.index(sample.binding) * self.per_binding + within

    def find(self, binding: Binding, file_name: str) -> int | None:
        """Where the sample stands that a file in the binding's folder is named after; None if there is none.

        File systems may be blind to case, and store accents in a form of their own.
        """
        stem, ending = file_name[:-4], file_name[-4:]
        name, _, digits = stem.rpartition("_")
        place = self._places.get(name, self._places.get(_alike(name)))
        if ending.lower() != ".png" or place is None or not digits.isdecimal() or str(int(digits)) != digits:
            return None
        within = int(digits) * len(self._followed) + place
        return self.bindings.index(binding) * self.per_binding + within if within < self.per_binding else None


def _alike(name: str) -> str:
    """The same for names that a file system may hold to be one."""
    return unicodedata.normalize("NFC", name).casefold()


@dataclass(frozen=True)
class Settings:
    """A run, whole: the command line and the config, resolved against each other.

    `diffusion` is the config's, with the command line's values in place of its own, `respace_steps` among them.
    `sampler_options` are those of the sampler alone. `command` is what was typed. `skipped` are the references that
    cannot be read, and why; `input_notes` what else there is to be said of the input folder.
    """

    config: Config
    weights: Path
    raw_weights: bool
    class_id: int | None
    input_dir: Path
    save_dir: Path
    references: tuple[Reference, ...]
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

    @property
    def tolerance(self) -> Tolerance:
        """What a reference may cost and lack."""
        return Tolerance(self.max_megapixels, self.allow_truncated)

    @property
    def walk_steps(self) -> int:
        """The network calls that a sample takes: S, or its share that `strength` leaves."""
        return share_walked(self.strength, self.diffusion["respace_steps"])

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
            "image_size": self.config.image_size,
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

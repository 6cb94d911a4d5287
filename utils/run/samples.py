"""The samples of a run: which images there are to make, from numbers alone."""

import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import overload

import numpy as np

from utils.run.references import Reference


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

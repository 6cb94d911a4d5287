"""The samples of a run and their micro-batches, from numbers alone: there may be millions."""

import os
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.errors import InputError
from utils.images import Shape
from utils.run.references import Reference, folded

PREVIEWS = "index_files"  # the folder beside index.html


@dataclass(frozen=True)
class Binding:
    """How much of a reference binds, see `Settings`.

    Attributes:
        ends: N at the first refined step, and at the last.
        words: the factor as people write it: 8, 2.5 or 32:4.
        folder: where the run puts the images it binds so.
        previews: where it puts the pictures of what binds.
    """

    downsample_factor: float | str
    range_t: int
    ends: tuple[float, float] = field(default=(1, 1), compare=False)
    words: str = field(default="", compare=False)
    folder: str = field(default="", compare=False)
    previews: str = field(default="", compare=False)


@dataclass(frozen=True)
class Sample:
    """One image to make: its number, the reference it follows, which variation of it this is, and what binds it.

    Its noise is its number's, so that the images of a sweep differ only by what binds them. `index` is its place in the
    run, and `class_id` the class that it draws, if any.
    """

    number: int
    reference: Reference
    variation: int
    binding: Binding
    index: int
    class_id: int | None = None


class Samples:
    """A run's samples, each made when it is asked for.

    Sample i follows reference i mod R and is its variation i div R; all of them for each binding. References that
    cannot be read are counted too, so that the others keep their numbers, and with them their noise, when the file is
    mended; only their own samples are left out.

    Args:
        references: all R.
        skipped: the names of those that cannot be read.
        n_samples: for each binding, those left out included.
        bindings: how much of its reference binds each.
        class_ids: the classes that the variations draw in turn.

    Attributes:
        numbers: [N] int64, the numbers of one binding's samples; all bindings have the same.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        skipped: Collection[str],
        n_samples: int,
        bindings: Sequence[Binding],
        class_ids: Sequence[int] = (),
    ) -> None:
        self.references, self.bindings, self.class_ids = references, bindings, class_ids
        self._followed = [i for i, reference in enumerate(references) if reference.name not in skipped]
        rounds, rest = divmod(n_samples, len(references))
        self.per_binding = rounds * len(self._followed) + bisect_left(self._followed, rest)
        variation, place = np.divmod(np.arange(self.per_binding), max(len(self._followed), 1))
        self.numbers = variation * len(references) + np.array(self._followed, dtype=np.int64)[place]
        names = [references[i].name for i in self._followed]
        self._places = {folded(name): place for place, name in enumerate(names)}
        self._places |= {name: place for place, name in enumerate(names)}  # where both exist, the exact name wins

    def __len__(self) -> int:
        return self.per_binding * len(self.bindings)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        binding, place = divmod(index, self.per_binding)
        variation, place = divmod(place, len(self._followed))
        i = self._followed[place]
        class_id = self.class_ids[variation % len(self.class_ids)] if self.class_ids else None
        number = variation * len(self.references) + i
        return Sample(number, self.references[i], variation, self.bindings[binding], index, class_id)

    def variations(self, binding: Binding, count: int) -> list[Sample]:
        """Return the first `count` variations of every reference, or as many as there are."""
        first = self.bindings.index(binding) * self.per_binding
        return [self[first + i] for i in range(min(self.per_binding, count * len(self._followed)))]

    def numbered(self, number: int) -> list[Sample]:
        """Return the samples of this number, one per binding; none where its reference is left out."""
        (at,) = np.nonzero(self.numbers == number)
        return [self[int(i) + binding * self.per_binding] for binding in range(len(self.bindings)) for i in at]

    def existing(self, save_dir: Path) -> list[int]:
        """Return the indices of the samples with a file in their place, whatever it contains.

        Raises InputError for a folder that cannot be read.
        """
        found: set[int | None] = set()
        for binding in self.bindings:
            folder = save_dir / binding.folder
            try:
                found.update(self.find(binding, name) for name in os.listdir(folder))
            except FileNotFoundError:  # a dry run makes none
                continue
            except OSError as error:
                raise InputError(f"--save_dir {folder}: cannot be read: {error.strerror or error}") from None
        return sorted(index for index in found if index is not None)

    def find(self, binding: Binding, file_name: str) -> int | None:
        """Return the index of the sample that a file in the binding's folder is named after; None if there is none.

        File systems may ignore case, and store accents in a form of their own.
        """
        stem, ending = file_name[:-4], file_name[-4:]
        name, _, digits = stem.rpartition("_")
        place = self._places.get(name, self._places.get(folded(name)))
        if ending.lower() != ".png" or place is None or not digits.isdecimal() or str(int(digits)) != digits:
            return None
        within = int(digits) * len(self._followed) + place
        return self.bindings.index(binding) * self.per_binding + within if within < self.per_binding else None


def make_batches(
    samples: Samples, todo: np.ndarray, micro_batch: int, num_processes: int, shapes: Mapping[str, Shape] | None = None
) -> list[np.ndarray]:
    """Return the batches of a run that contain a sample to make; process r makes every `num_processes`th, from r on.

    They are those of a whole run, finished samples included: the device's rounding may depend on a batch's size. Sample
    i belongs to process i mod `num_processes` in a run that begins. Each batch is of one binding, since it has one
    filter, as if each binding had a run of its own; and of one shape.

    Args:
        samples, micro_batch, num_processes: the run's.
        todo: [N] bool, whether each is to be made.
        shapes: of the images that follow each reference, by its name; None if all have one.

    Returns:
        The indices of each batch's samples, [≤ micro_batch] int.
    """
    process = samples.numbers % num_processes
    sizes = [shapes[each.name] if shapes else (1, 1) for each in samples.references]
    distinct, of_reference = np.unique(sizes, axis=0, return_inverse=True)
    shape = of_reference.reshape(-1)[samples.numbers % len(samples.references)]
    bindings = np.arange(len(samples.bindings))[:, None]
    group = ((process * len(bindings) + bindings) * len(distinct) + shape).ravel()
    order = np.argsort(group, kind="stable")
    first = np.flatnonzero(np.diff(group[order], prepend=-1))  # of each group
    lengths = np.diff(first, append=len(samples))
    within = np.arange(len(samples)) - np.repeat(first, lengths)
    starts = np.flatnonzero(within % min(micro_batch, len(samples)) == 0)

    process = group[order[starts]] // (len(bindings) * len(distinct))
    count = np.bincount(process, minlength=num_processes)
    turn = np.arange(len(starts)) - (count.cumsum() - count)[process]  # of a batch among its process's own
    in_turn = np.lexsort((process, turn))
    unfinished = in_turn[np.logical_or.reduceat(todo[order], starts)[in_turn]]
    batches = np.split(order, starts[1:])
    return [batches[i] for i in unfinished.tolist()]

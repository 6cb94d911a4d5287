"""The samples of a run and their micro-batches, from numbers alone: there may be millions."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from utils.run.references import Reference, folded


@dataclass(frozen=True)
class Binding:
    """How much of a reference binds; `folder` is where the run puts the images it binds so.

    A downsample factor is N, or "A:B", which goes from one N to another along the walk.
    """

    downsample_factor: float | str
    range_t: int
    folder: str = field(default="", compare=False)


@dataclass(frozen=True)
class Sample:
    """One image to make: its number, the reference it follows, which variation of it this is, and what binds it.

    Its noise is its number's, so that the images of a sweep differ only by what binds them.
    """

    number: int
    reference: Reference
    variation: int
    binding: Binding


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

    Attributes:
        numbers: [N] int64, the numbers of one binding's samples; all bindings have the same.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        skipped: Collection[str],
        n_samples: int,
        bindings: Sequence[Binding],
    ) -> None:
        self.references, self.bindings = references, bindings
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
        binding, place = divmod(range(len(self))[index], self.per_binding)
        variation, place = divmod(place, len(self._followed))
        i = self._followed[place]
        return Sample(variation * len(self.references) + i, self.references[i], variation, self.bindings[binding])

    def variations(self, binding: Binding, count: int) -> list[Sample]:
        """Return the first `count` variations of every reference, or as many as there are."""
        first = self.bindings.index(binding) * self.per_binding
        return [self[first + i] for i in range(min(self.per_binding, count * len(self._followed)))]

    def numbered(self, number: int | None) -> list[Sample]:
        """Return the samples of this number, one per binding; none for None, or where its reference is left out."""
        at = np.flatnonzero(self.numbers == number)
        return [self[int(i) + binding * self.per_binding] for binding in range(len(self.bindings)) for i in at]

    def position(self, sample: Sample) -> int:
        """Return a sample's index in the sequence."""
        within = sample.variation * len(self._followed) + self._places[sample.reference.name]
        return self.bindings.index(sample.binding) * self.per_binding + within

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
    samples: Samples, todo: np.ndarray, micro_batch: int, num_processes: int, shapes: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the batches of a run that contain a sample to make, the first of each process first.

    They are those of a whole run, finished samples included: the device's rounding may depend on a batch's size. Sample
    i belongs to process i mod `num_processes` in a run that begins. Each batch is of one binding, since it has one
    filter, as if each binding had a run of its own; and of one shape.

    Args:
        samples: the run's.
        todo: [N] bool, whether each is to be made.
        micro_batch: samples in a batch at most.
        num_processes: the processes that share the work.
        shapes: [R] int, of each reference, the number of its images' shape; None if all have one.

    Returns:
        The indices of each batch's samples, [≤ micro_batch] int.
    """
    process = samples.numbers % num_processes
    shape = 0 if shapes is None else shapes[samples.numbers % len(samples.references)]
    num_shapes = 1 if shapes is None else 1 + shapes.max()
    bindings = np.arange(len(samples.bindings))[:, None]
    group = ((process * len(bindings) + bindings) * num_shapes + shape).ravel()
    order = np.argsort(group, kind="stable")
    first = np.flatnonzero(np.diff(group[order], prepend=-1))  # of each group
    lengths = np.diff(first, append=len(samples))
    within = np.arange(len(samples)) - np.repeat(first, lengths)
    starts = np.flatnonzero(within % min(micro_batch, len(samples)) == 0)

    process = group[order[starts]] // (len(bindings) * num_shapes)
    count = np.bincount(process, minlength=num_processes)
    turn = np.arange(len(starts)) - (count.cumsum() - count)[process]  # of a batch among its process's own
    in_turn = np.lexsort((process, turn))
    unfinished = in_turn[np.logical_or.reduceat(todo[order], starts)[in_turn]]
    batches = np.split(order, starts[1:])
    return [batches[i] for i in unfinished.tolist()]


def largest_batch(samples: Samples, micro_batch: int, num_processes: int) -> int:
    """Return how many samples the largest batch of a whole run has; at least 1."""
    return min(micro_batch, int(np.bincount(samples.numbers % num_processes).max(initial=1)))

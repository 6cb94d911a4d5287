"""The micro-batches of a run, by the positions of their samples: a run may have millions of them."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from utils.run.samples import Sample, Samples


class Batches(Sequence[list[Sample]]):
    """Micro-batches, whose samples are made when they are asked for.

    Args:
        samples: the run's.
        order: [N] int, positions of samples, those of a batch one after the other.
        starts: [M] int, where in `order` each batch begins.
        sizes: [M] int, how many samples each has.
    """

    def __init__(self, samples: Samples, order: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> None:
        self.samples, self.order, self.starts, self.sizes = samples, order, starts, sizes

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> list[Sample]: ...

    @overload
    def __getitem__(self, index: slice) -> "Batches": ...

    def __getitem__(self, index: int | slice) -> "list[Sample] | Batches":
        start, size = self.starts[index], self.sizes[index]
        if isinstance(index, slice):
            return Batches(self.samples, self.order, start, size)
        return [self.samples[position] for position in self.order[start : start + size].tolist()]

    @property
    def num_samples(self) -> int:
        """Of all batches together."""
        return int(self.sizes.sum())

    @property
    def largest(self) -> int:
        """Samples in the largest batch; 0 if there is none."""
        return int(self.sizes.max(initial=0))


def largest_batch(samples: Samples, micro_batch: int, num_processes: int) -> int:
    """Samples in the largest batch of a whole run, see `make_batches`; at least 1."""
    return min(micro_batch, int(np.bincount(samples.numbers % num_processes).max(initial=1)))


def make_batches(
    samples: Samples, todo: np.ndarray, micro_batch: int, num_processes: int, shapes: np.ndarray | None = None
) -> Batches:
    """The batches of a run that hold a sample to make, the first of each process first.

    They are those of a whole run, finished samples included: the device's rounding may depend on a batch's size. Sample
    i is of process i mod `num_processes` in a run that begins. Each batch is of one binding, since it has one filter:
    the same as if each binding had a run of its own. And each is of one shape.

    Args:
        samples: the run's.
        todo: [N] bool, whether each is to be made.
        micro_batch: samples in a batch at most.
        num_processes: that share the work.
        shapes: [R] int, of each reference, the number of its images' shape; None if all have one.
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
    sizes = np.diff(starts, append=len(samples))

    process = group[order[starts]] // (len(bindings) * num_shapes)
    count = np.bincount(process, minlength=num_processes)
    turn = np.arange(len(starts)) - (count.cumsum() - count)[process]  # of a batch among its process's own
    in_turn = np.lexsort((process, turn))
    unfinished = np.logical_or.reduceat(todo[order], starts)[in_turn]
    return Batches(samples, order, starts[in_turn][unfinished], sizes[in_turn][unfinished])

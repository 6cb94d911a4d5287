"""Micro-batches that fit into the accelerator's memory, found by trying."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from utils.errors import RunError

T = TypeVar("T")


def for_each_batch(batches: Iterable[Sequence[T]], work: Callable[[Sequence[T]], None]) -> None:
    """Call `work` on each batch; one that does not fit into memory is halved, and so are those after it.

    Accelerate's own `find_executable_batch_size` starts the whole over, and by which factor it shrinks
    differs between its versions; only its knowledge of the errors is used.

    Args:
        batches: what is to be done.
        work: may be called again with some of the items it failed on.

    Raises:
        RunError: one item alone does not fit.
    """
    limit = told = sys.maxsize
    for batch in batches:
        while batch:
            if _fits(work, batch[:limit]):
                batch = batch[limit:]
                if limit < told:
                    print(f"\nsample_ilvr: out of memory; going on with {limit} samples at a time", file=sys.stderr)
                told = limit
                continue
            # here, not where the error is caught: its traceback keeps the failed batch in memory
            limit = min(limit, len(batch)) // 2
            if limit == 0:
                raise RunError("out of memory with one sample at a time; try mixed_precision bf16 or a larger device")
            clear_device_cache(garbage_collection=True)


def _fits(work: Callable[[Sequence[T]], None], batch: Sequence[T]) -> bool:
    try:
        work(batch)
    except RuntimeError as error:
        if is_out_of_memory(error):
            return False
        raise
    return True


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a smaller batch might have fitted."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)

"""Micro-batches that fit into the accelerator's memory, found by trying."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from utils.errors import RunError

T = TypeVar("T")


def for_each_batch(items: Sequence[T], size: int, work: Callable[[Sequence[T]], None]) -> None:
    """Call `work` on batch after batch; one that does not fit into memory is halved, and so are those after it.

    Accelerate's own `find_executable_batch_size` starts the whole over, and by which factor it shrinks
    differs between its versions; only its knowledge of the errors is used.

    Args:
        items: what is to be done.
        size: items a batch.
        work: may be called again with some of the items it failed on.

    Raises:
        RunError: one item alone does not fit.
    """
    wanted = size
    while items:
        if fits := _fits(work, items[:size]):
            items = items[size:]
        # here, not where the error is caught: its traceback keeps the failed batch in memory
        elif (size := min(size, len(items)) // 2) == 0:
            raise RunError("out of memory with one sample at a time; try --mixed_precision bf16 or a larger device")
        else:
            clear_device_cache(garbage_collection=True)
        if fits and size < wanted:
            print(f"\nsample_ilvr: out of memory with {wanted} samples at a time; {size} fit", file=sys.stderr)
            wanted = size


def _fits(work: Callable[[Sequence[T]], None], batch: Sequence[T]) -> bool:
    try:
        work(batch)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error):
            return False
        raise
    return True

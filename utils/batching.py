"""Work in batches: read ahead, write behind, halve what does not fit into memory, watch for values not finite."""

import ctypes
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from utils.errors import RunError

T = TypeVar("T")
R = TypeVar("R")

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)

CGROUP = Path("/sys/fs/cgroup")
# of Linux's control groups, versions 2 and 1: the files of the limit and of the usage, and its part that can be freed
CONTAINER_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)

# messages of exhausted memory that `should_reduce_batch_size` does not know
EXHAUSTED = re.compile(
    "out of memory|out_of_(device|host)_memory|alloc(ation)?_failed|allocation failed|invalid buffer size|"
    "(can't|not enough memory to|not enough memory: you tried to) allocate",
    re.IGNORECASE,
)


def read_ahead(function: Callable[[T], R], batches: Iterable[Sequence[T]]) -> Iterator[list[tuple[T, Future[R]]]]:
    """Call `function` on each item in a thread of its own, one batch ahead of the caller.

    A network seldom holds Python's lock, so that the thread reads while it computes.

    Yields:
        The batches, each item with the future of its result. Ask for the results before the next batch: the
        last ones are dropped when the caller stops.
    """
    pool = ThreadPoolExecutor(1)
    try:
        following: list[tuple[T, Future[R]]] = []
        for batch in batches:
            this, following = following, [(item, pool.submit(function, item)) for item in batch]
            if this:
                yield this
        if following:
            yield following
    finally:
        pool.shutdown(cancel_futures=True)


class BackgroundWriter(ThreadPoolExecutor):
    """Run one job at a time in another thread; the next `submit`, or leaving, raises what a job raised.

    Leaving waits for the last job, also where the caller has failed.
    """

    _job: Future[Any] | None = None

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Begin a job, once the one before is done."""
        if self._job is not None:
            self._job.result()
        self._job = super().submit(function, *args, **kwargs)
        return self._job

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self.shutdown()
        if self._job is not None and failure is None:
            self._job.result()


def for_each_batch(batches: Iterable[Sequence[T]], work: Callable[[Sequence[T]], None], may_halve: bool = True) -> None:
    """Call `work` on each batch; one that does not fit into memory is halved, and so are those after it.

    Accelerate's `find_executable_batch_size` would start the whole over, and its versions shrink by different factors.

    Args:
        batches: lists of items.
        work: may be called again with some of the items that it failed on.
        may_halve: whether smaller batches take less memory; a compiled network fills them up.

    Raises:
        RunError: one item alone does not fit, or a batch that may not be halved.
    """
    limit = announced = sys.maxsize
    for batch in batches:
        while batch:
            try:
                work(batch[:limit])
                batch = batch[limit:]
                if limit < announced:
                    print(f"\nsample_ilvr: out of memory; going on with {limit} samples at a time", file=sys.stderr)
                announced = limit
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # here, not where the error is caught: its traceback keeps the failed batch in memory
            if not may_halve:
                raise RunError(f"out of memory with {len(batch)} samples at a time; give a smaller micro_batch")
            limit = min(limit, len(batch)) // 2
            if limit == 0:
                raise RunError("out of memory with one sample at a time; try mixed_precision bf16 or a larger device")
            clear_device_cache(garbage_collection=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory is exhausted, under whichever of its names."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, RunError) or not isinstance(error, RuntimeError):
        return False
    return should_reduce_batch_size(error) or EXHAUSTED.search(str(error)) is not None


def available_memory(device: torch.device) -> int:
    """Return how many bytes can be had on the accelerator, or for other devices on the machine or in its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    for limit, used, cached in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # there is none: no such file, or the word "max"
            (reclaimable,) = re.findall(
                rf"^{cached} (\d+)$", (CGROUP / limit).with_name("memory.stat").read_text(), re.M
            )
            taken = int((CGROUP / used).read_text()) - int(reclaimable)
            free = min(free, int((CGROUP / limit).read_text()) - taken)
    return max(free, 0)


def keep_freed_memory() -> None:
    """Let glibc, where there is one, reuse freed memory rather than hand it back to the system.

    It would map every large tensor anew and give it back at once, and the system would zero its pages every time.
    Keeping them saved a network a quarter of its time on one CPU (Zen 5; 256×256, float32; a tenth at 64×64) and 4 % on
    another (Zen 3), for up to 1.16 times the memory.
    """
    if LIBC and hasattr(LIBC, "mallopt"):
        LIBC.mallopt(M_MMAP_MAX, 0)
        LIBC.mallopt(M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Give freed memory back to the system all the same: other threads cannot reuse what one thread keeps."""
    if LIBC and hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


@dataclass
class FiniteWatch:
    """A model, and a sum of all it returned, which is finite only if every value was.

    The images alone do not show it: clipping x̂0 turns an infinity, which half precision may return, into black or
    white. The sum stays on the device, so that no step waits for it; ask for it while the next batch is computed.

    Attributes:
        model: maps x [B, C, H, W] and t [B] to an output [B, …].
        sum: [B] float32, once something was watched.
    """

    model: Callable[[Tensor, Tensor], Tensor]
    sum: Tensor | float = 0.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Call the model and watch its output."""
        output = self.model(x, t)
        self.add(output)
        return output

    def add(self, values: Tensor) -> None:
        """Watch these [B, …] too."""
        self.sum = self.sum + values.detach().flatten(1).sum(1, dtype=torch.float32)

    def is_finite(self) -> list[bool]:
        """Return whether all was finite, for each of the batch; wait for the device."""
        return torch.as_tensor(self.sum).isfinite().tolist()

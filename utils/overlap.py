"""Reading and writing while the network works: one thread each, since it seldom holds Python's lock."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], batches: Iterable[Sequence[T]]) -> Iterator[list[tuple[T, Future[R]]]]:
    """The batches, each item with what `function` makes of it; the next batch is worked on beside the caller's.

    Results are to be asked for before the next batch is: the last ones are dropped when the caller stops.
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


class Background:
    """Does one job at a time in another thread; what it raises is raised by the next `submit`, or on leaving.

    Leaving waits for the last job, also where the caller has failed.
    """

    def __enter__(self) -> "Background":
        self._pool = ThreadPoolExecutor(1)
        self._job: Future[Any] | None = None
        return self

    def submit(self, function: Callable[..., object], *args: object) -> None:
        """Begin a job, once the one before is done."""
        if self._job is not None:
            self._job.result()
        self._job = self._pool.submit(function, *args)

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if self._job is not None and failure is None:
            self._job.result()

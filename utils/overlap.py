"""Reading and writing while the network works: one thread each, since it seldom holds Python's lock."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map`, with the next result made in another thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        following: Future[R] | None = None
        for item in items:
            this, following = following, pool.submit(function, item)
            if this is not None:
                yield this.result()
        if following is not None:
            yield following.result()


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

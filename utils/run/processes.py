"""How the processes of one run find each other and come to the same plan. After that they never talk again.

So no process can fail or wait because of another: each writes its own samples, and whichever is last sees it.

They talk through a store of keys and values, torch's TCPStore, which the main process or its launcher serves: unlike
a collective call, it can be asked who is missing.
"""

import os
import pickle
import threading
import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch.distributed import DistError, PrefixStore, Store, TCPStore

from utils.errors import InputError, ReportedByOtherRankError, RunError
from utils.run.place import Place, own_place

PATIENCE = timedelta(hours=1)  # the longest that processes wait for one that has not come yet
SILENCE = 60.0  # seconds without a sign of life after which a process counts as dead
BEAT = 5.0  # seconds between two signs of life
GLANCE = 0.1  # seconds between two looks for a value
FAREWELL = 5.0  # seconds that the main process, whose end is the store's, leaves the others to read it
PIECE = 2**22  # bytes; the store takes values of up to 8 MB

GONE = b"gone"

T = TypeVar("T")


class Processes:
    """The processes of a run, seen from one of them. A context that they leave together, or as each fails.

    Attributes:
        rank: this one's, of 0 … count-1; 0 is the main one.
        count: how many there are.
        device: that this one computes on.
    """

    def __init__(self) -> None:
        place = own_place()
        self.rank, self.count = place.rank, place.count
        self.is_main = self.rank == 0
        self._store: Any = _connect(place) if self.count > 1 else None  # torch's stubs know no values of bytes
        self._apart = threading.Event()  # set once they have parted
        self._signs: dict[int, tuple[bytes, float]] = {}  # each one's last sign of life, and when it was new
        self._rounds = 0
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        self.gather(None)  # now all have come, and nobody can be missing where torch would wait for it
        self.device = self._make_accelerator()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None or issubclass(failure, Exception):
            self.part_ways(failure is not None)

    def print(self, text: str) -> None:
        """Print in the main process."""
        if self.is_main:
            print(text)

    def gather(self, value: T) -> list[T]:
        """What each process gave here, by rank.

        Raises:
            RunError: a process has died, or never came.
        """
        if self._store is None:
            return [value]
        self._rounds += 1
        self._put(f"{self._rounds}/{self.rank}", value)
        return [self._get(f"{self._rounds}/{rank}", rank) for rank in range(self.count)]

    def each(self, make: Callable[[], T]) -> T:
        """What `make` returns here, if it raised in no process.

        Raises:
            InputError, RunError: raised by `make` here, and by none of a lower rank with the same words.
            ReportedByOtherRankError: raised by it elsewhere.
        """
        made: T | None = None
        error: InputError | RunError | None = None
        try:
            made = make()
        except (InputError, RunError) as raised:
            error = raised
        errors: list[InputError | RunError | None] = self.gather(error)
        words = [str(its) if its else None for its in errors]
        if error is not None and words.index(str(error)) == self.rank:
            raise error
        if failed := next((its for its in errors if its), None):
            raise ReportedByOtherRankError(failed.exit_code)
        return made  # type: ignore[return-value]

    def agree(self, make: Callable[[], T]) -> T:
        """What `make` returns in the main process, in every process.

        Raises:
            InputError, RunError: raised by `make`, in the main process.
            ReportedByOtherRankError: the same, in the others.
        """
        made = self.each(lambda: make() if self.is_main else None)
        if self._store is None:
            return made  # type: ignore[return-value]
        self._rounds += 1
        if self.is_main:
            self._put(f"{self._rounds}/0", made)
            return made  # type: ignore[return-value]
        return self._get(f"{self._rounds}/0", 0)

    def part(self) -> None:
        """Wait until every process is here; from now on, each is on its own."""
        self.gather(None)
        self.part_ways()

    def part_ways(self, failed: bool = False) -> None:
        """Talk no more; the main process waits until the others have read all they need."""
        if self._store is None or self._apart.is_set():
            return
        self._apart.set()
        try:
            self._store.set(f"left/{self.rank}", b"")
            if failed:
                self._store.set(f"alive/{self.rank}", GONE)
            end = time.monotonic() + FAREWELL
            others = [f"left/{rank}" for rank in range(self.count)] if self.is_main else []
            while not self._store.check(others) and time.monotonic() < end:  # whoever has died needs no farewell
                time.sleep(GLANCE)
        except DistError:
            pass
        self._beating.join(GLANCE + 1)  # a thread that Python's end meets within torch would end it with an abort

    def _make_accelerator(self) -> torch.device:
        """The device that Accelerate gives this process.

        Accelerate is to leave the precision alone: `models.make_ready` sees to it. On a machine without accelerators
        it would take processes that are not told to use the CPU for runs of their own.
        """
        no_accelerator = not torch.accelerator.is_available()
        patience = InitProcessGroupKwargs(timeout=PATIENCE)
        try:
            accelerator = Accelerator(cpu=no_accelerator, mixed_precision="no", kwargs_handlers=[patience])
        except (RuntimeError, ValueError) as error:
            raise RunError(f"rank {self.rank} cannot join the other processes: {error}") from None
        if accelerator.num_processes != self.count:
            raise RunError(f"Accelerate sees {accelerator.num_processes} processes where {self.count} were started")
        self.gather(None)
        accelerator.state.destroy_process_group()
        return accelerator.device

    def _put(self, key: str, value: object) -> None:
        content = zlib.compress(pickle.dumps(value), 1)
        pieces = range(0, len(content), PIECE)
        try:
            for start in pieces:
                self._store.set(f"{key}/{start}", content[start : start + PIECE])
            self._store.set(key, str(len(content)))
        except DistError:
            _main_has_gone()

    def _get(self, key: str, rank: int) -> Any:
        """What the process of this rank puts, as soon as it does."""
        begun = time.monotonic()
        try:
            while not self._store.check([key]):  # rather than wait: that cannot see who is alive meanwhile
                self._see_to(rank, time.monotonic() - begun)
                time.sleep(GLANCE)
            pieces = range(0, int(self._store.get(key)), PIECE)
            content = b"".join(self._store.get(f"{key}/{start}") for start in pieces)
        except DistError:
            _main_has_gone()
        return pickle.loads(zlib.decompress(content))

    def _see_to(self, rank: int, waited: float) -> None:
        """That the process that is waited for may still come."""
        key = f"alive/{rank}"
        sign = self._store.get(key) if self._store.check([key]) else None
        if sign is None:
            if waited > PATIENCE.total_seconds():
                raise RunError(
                    f"rank {rank} of {self.count} has not come within {waited / 60:.0f} minutes: see that it was "
                    f"started, and that it reaches rank 0"
                )
            return
        if sign != self._signs.get(rank, (None, 0))[0]:
            self._signs[rank] = (sign, time.monotonic())
        if sign != GONE and time.monotonic() - self._signs[rank][1] < SILENCE:
            return
        if rank and not self.is_main:  # the main process waits for the same, and says so
            raise ReportedByOtherRankError(RunError.exit_code)
        raise RunError(
            f"rank {rank} of {self.count} has ended before the first sample: see what it said, and start all again"
        )

    def _beat(self) -> None:
        """Give signs of life."""
        count = 0
        while self._store is not None and not self._apart.is_set():
            count += 1
            try:
                self._store.set(f"alive/{self.rank}", str(count))
            except DistError:  # the store has gone: whoever waits for it sees so
                return
            self._apart.wait(BEAT)


def _connect(place: Place) -> Store:
    """The store that the processes share: the launcher's, or that of the main process."""
    has_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    serves = place.rank == 0 and not has_agent
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        # multi_tenant: torch opens it once more for the process group
        store = TCPStore(place.address, place.port, is_master=serves, timeout=PATIENCE, multi_tenant=True)
    except DistError as error:
        problem = str(error).splitlines()[0]
        what = "cannot listen" if serves else "rank 0 does not answer"
        raise RunError(f"MASTER_ADDR {place.address}, MASTER_PORT {place.port}: {what}: {problem}") from None
    return PrefixStore(f"sample_ilvr/{attempt}", store)


def _main_has_gone() -> NoReturn:
    raise RunError("rank 0, the main process, has ended before the first sample: see what it said") from None

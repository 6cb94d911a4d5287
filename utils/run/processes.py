"""The processes of one run, and how they come to one plan. After that they never wait for each other again."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState

from utils.errors import InputError, ReportedByOtherRankError, RunError

MAX_WAIT = timedelta(hours=1)  # for a process that has not come yet, or is slow to answer
NOTICE_AFTER = 10.0  # seconds of waiting


class Processes:
    """The processes of a run, seen from one: `rank` of `count`, computing on `device`; rank 0 is the main one.

    Raises InputError if the launcher's environment contradicts itself, RunError if a process does not come or dies.
    """

    def __init__(self) -> None:
        self.rank, self.count = 0, 1
        if os.environ.get("WORLD_SIZE") != "1" and os.environ.keys() & {"WORLD_SIZE", "LOCAL_RANK"}:
            count = os.environ.get("WORLD_SIZE", "")
            limits = {"WORLD_SIZE": "65536", "LOCAL_RANK": "65536", "MASTER_PORT": "65536", "RANK": count}
            for name, limit in limits.items():
                word = os.environ.get(name, "")
                if not word.isdecimal() or int(word) >= int(limit):
                    raise InputError(f"{name} is {word!r} in the environment, and must be a whole number below {limit}")
            self.rank, self.count = int(os.environ["RANK"]), int(count)
        self.is_main, self._group = self.rank == 0, None
        # another program, which calls `main`, is to find its own as they were
        self._owns_state, self._owns_groups = not PartialState._shared_state, not dist.is_initialized()
        if self.count > 1:
            self._meet()
        try:
            state = PartialState(cpu=not torch.accelerator.is_available(), timeout=MAX_WAIT)
            torch.empty(0, device=state.device)  # Accelerate does not ask whether there is one
            self._group = dist.new_group(backend="gloo", timeout=MAX_WAIT) if self.count > 1 else None
        except dist.DistNetworkError:  # the main process came, and has ended since
            self.close()
            with self._waiting_for(0):
                raise
        except (AssertionError, ImportError, RuntimeError, ValueError) as error:
            self.close()
            raise RunError(f"rank {self.rank} cannot start: {str(error).splitlines()[0]}") from None
        self.device: torch.device = state.device

    def close(self) -> None:
        """Part: from now on, each process is on its own."""
        if self._group is not None:
            dist.destroy_process_group(None if self._owns_groups else self._group)
            self._group = None
        if self._owns_state:
            PartialState._reset_state()

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave here, by rank."""
        values: list[Any] = [value] * self.count
        for rank in range(1, self.count if self.is_main else 1):
            with self._waiting_for(rank):
                dist.recv_object_list(box := [None], src=rank, group=self._group)
            values[rank] = box[0]
        if self.count > 1:
            with self._waiting_for(0):
                if not self.is_main:
                    dist.send_object_list([value], dst=0, group=self._group)
                dist.broadcast_object_list(values, src=0, group=self._group)
        return values

    def each(self, make: Callable[[], Any]) -> Any:
        """Return what `make` returns here, if it raised in no process. Else the first process that raised says why."""
        try:
            made, error = make(), None
        except (InputError, RunError) as raised:
            made, error = None, raised
        exit_codes = self.gather(error and error.exit_code)
        if failed := [rank for rank, code in enumerate(exit_codes) if code]:
            raise error if error and failed[0] == self.rank else ReportedByOtherRankError(exit_codes[failed[0]])
        return made

    def in_main(self, make: Callable[[], Any]) -> Any:
        """Return what `make` returns in the main process, and None in the others; if it raises, each ends."""
        return self.each(make if self.is_main else lambda: None)

    def _meet(self) -> None:
        """Wait until every process has come; what torch does next would wait without naming the missing one."""
        host, port = os.environ.get("MASTER_ADDR", "localhost"), int(os.environ["MASTER_PORT"])
        serves = self.is_main and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            socket.getaddrinfo(host, port)  # torch would try for an hour
            server = dist.TCPStore(host, port, None, serves, MAX_WAIT, wait_for_workers=False, multi_tenant=True)
        except (OSError, RuntimeError) as error:
            raise RunError(f"MASTER_ADDR {host}, MASTER_PORT {port}: cannot be used: {error}".splitlines()[0]) from None
        self._store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), server)  # torch meets on it
        self._store.set(str(self.rank), "here")
        for rank in range(self.count):
            with self._waiting_for(rank):
                self._store.wait([str(rank)], MAX_WAIT)

    @contextmanager
    def _waiting_for(self, rank: int) -> Iterator[None]:
        """Say in the main process, after a while, that a rank is waited for; name it if it does not come."""
        notice = threading.Timer(NOTICE_AFTER, print, [f"waiting for rank {rank} of {self.count} …"])
        if self.is_main:
            notice.start()
        try:
            yield
        except RuntimeError as error:
            rank = 0 if isinstance(error, dist.DistNetworkError) else rank  # rank 0 serves the store
            who = f"rank {rank} of {self.count}" if rank else "rank 0, the main process,"
            raise RunError(f"{who} did not start or has ended: see what it said, and start all again") from None
        finally:
            notice.cancel()

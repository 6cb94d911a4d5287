"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1: whatever the process is doing, it ends within seconds and says how to go on.

A signal raises `Interrupted` in the main thread, which unwinds as from any exception. Python cannot raise it
while compiled code runs (a collective that waits for a dead process, say), nor in some of its own callbacks; so
a second thread ends the process if it has not ended itself after `GRACE` seconds.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

# Ctrl-C, an end that is asked for, a terminal that is closed, and a batch system's warning
SIGNALS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")]
GRACE = 3.0  # seconds


class Interrupted(BaseException):
    """A signal asked the process to end; not an Exception, so that no `except Exception` holds it up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Interrupts:
    """Handles this process's signals from `watch` on, which only a process of our own may call.

    Attributes:
        last_words: returns how far the run has come; the main process prints it when a signal ends it.
    """

    last_words: Callable[[], str] = lambda: "nothing was sampled"
    _leaving: threading.Lock = field(default_factory=threading.Lock)

    def watch(self) -> None:
        """Raise `Interrupted` on each of `SIGNALS` from now on; to be called in the main thread."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup's run goes on
                signal.signal(number, _interrupt)
        with suppress(RuntimeError):  # the system allows no more threads: nothing watches the main one
            threading.Thread(target=self._see_it_through, args=(reader, os.getppid()), daemon=True).start()

    def leave(self, number: int) -> NoReturn:
        """End the process as a signal does, exit code 128 + number, with the last words.

        Without waiting for anything: communication with processes that are gone may never end in order.
        """
        if not self._leaving.acquire(blocking=False):
            time.sleep(GRACE)  # the other thread is ending the process
        try:
            self.say_last_words()
        finally:
            os._exit(128 + number)

    def say_last_words(self) -> None:
        """Print the last words in the main process, on standard error."""
        sys.stdout.flush()
        if os.environ.get("RANK", "0") in ("", "0"):
            print(f"sample_ilvr: interrupted: {self.last_words()}", file=sys.stderr, flush=True)

    def _see_it_through(self, reader: int, parent: int) -> NoReturn:
        """Wait for a signal, or for the launcher's death, which leaves its processes without one."""
        launched = "TORCHELASTIC_RUN_ID" in os.environ  # which nobody sets by hand
        number = 0
        while number not in SIGNALS:
            if select.select([reader], [], [], 1.0)[0]:
                number = os.read(reader, 1)[0]
            elif launched and os.getppid() != parent:
                self.leave(signal.SIGTERM)
        time.sleep(GRACE)
        self.leave(number)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    for each in SIGNALS:  # once is enough: a second Ctrl-C would only disturb the unwinding
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)

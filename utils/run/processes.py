"""How the processes of one run come to the same plan. After that they never talk again.

So no process can fail or wait because of another: each writes its own samples, and the last to finish knows that it is.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

from utils.errors import InputError, RunError

PATIENCE = timedelta(hours=1)  # the longest that processes wait for each other, before the first sample

T = TypeVar("T")


def connect() -> Accelerator:
    """The processes that Accelerate's launcher started, connected; or this one alone.

    Accelerate itself is to leave the precision alone, which is for `models.make_ready`. On a machine without
    accelerators it would take processes that are not told to use the CPU for runs of their own.
    """
    no_accelerator = not torch.accelerator.is_available()
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    return Accelerator(cpu=no_accelerator, mixed_precision="no", kwargs_handlers=[patience])


def agree(accelerator: Accelerator, make: Callable[[], T]) -> T:
    """What `make` returns in the main process, in every process.

    Raises:
        InputError, RunError: in every process, if `make` raised it.
    """
    made: list[T | InputError | RunError | None] = [None]
    if accelerator.is_main_process:
        try:
            made[0] = make()
        except (InputError, RunError) as error:
            made[0] = error
    broadcast_object_list(made)
    if isinstance(made[0], (InputError, RunError)):
        raise made[0]
    return made[0]  # type: ignore[return-value]


def part(accelerator: Accelerator) -> None:
    """Wait until every process is here; from now on, each is on its own."""
    accelerator.wait_for_everyone()
    accelerator.state.destroy_process_group()

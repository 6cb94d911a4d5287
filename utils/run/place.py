"""Where a process stands in its run, as its launcher says it in the environment."""

import os
from dataclasses import dataclass

from utils.errors import InputError


@dataclass(frozen=True)
class Place:
    """RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; without the latter two where it is alone."""

    rank: int = 0
    count: int = 1
    address: str = ""
    port: int = 0


def own_place() -> Place:
    """This process's place: RANK of WORLD_SIZE, or, as MPI's launchers say it, under names of their own.

    Raises:
        InputError: variables that contradict each other, or some without the others.
    """
    count = _number("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    rank = _number("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
    local_rank = _number("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
    if count is None and local_rank is None:
        return Place()
    if count == 1:
        return Place()
    address, port = os.environ.get("MASTER_ADDR"), _number("MASTER_PORT")
    told = {"WORLD_SIZE": count, "RANK": rank, "LOCAL_RANK": local_rank, "MASTER_ADDR": address, "MASTER_PORT": port}
    if missing := [name for name, value in told.items() if value in (None, "")]:
        raise InputError(
            f"{', '.join(missing)} not set, though {', '.join(name for name in told if name not in missing)} "
            f"{'is' if len(missing) == len(told) - 1 else 'are'}: start it with accelerate launch, or set all of them"
        )
    assert count is not None and rank is not None and address and port is not None
    if not 0 <= rank < count:
        raise InputError(f"RANK is {rank}, and must be 0 … {count - 1} with a WORLD_SIZE of {count}")
    return Place(rank, count, address, port)


def _number(*names: str) -> int | None:
    """The first of these environment variables that is set."""
    for name in names:
        value = os.environ.get(name)
        if value is not None:
            if not value.isdecimal():
                raise InputError(f"{name} is {value!r} in the environment, and must be a whole number; or unset it")
            return int(value)
    return None

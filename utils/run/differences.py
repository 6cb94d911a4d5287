"""How two runs' settings differ, in words."""

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any


def name_differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 5) -> str:
    """The settings that differ, and how: "seed 1, now 2; diffusion.respace_steps 50, now 100"."""
    before, now = dict(_flat(old)), dict(_flat(new))
    differing = [key for key in now if key not in before or before[key] != now[key]]
    shown = [f"{key} {reprlib.repr(before.get(key))}, now {reprlib.repr(now[key])}" for key in differing[:most]]
    return "; ".join(shown + ([f"{len(differing) - most} more"] if len(differing) > most else []))


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _flat(value, f"{key}.")
        else:
            yield prefix + str(key), value

"""What is said of weights that do not fit their config: the parameters to change, where the file's names tell them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from models.config import Architecture
from models.families import TABLES
from models.families.family import Shapes
from models.foreign import foreign_kind
from utils.errors import InputError


def check_family(shapes: Shapes, architecture: Architecture, source: str) -> None:
    """See that a file's parameters bear the names of the config's family.

    Args:
        shapes: of the file's tensors, by their names there.
        architecture: what the config describes.
        source: where the weights are from.

    Raises:
        InputError: they are of another family or of none.
    """
    check_known(shapes, source, architecture.key)
    spoken = [name for name, family in TABLES[architecture.key].items() if family.bears(shapes)]
    if architecture.family not in spoken:
        raise InputError(
            f"weights {source} bear the names of family {spoken[0]}, and {architecture.source} is of "
            f"{architecture.family}"
        )


def check_known(shapes: Shapes, source: str, key: str = "model") -> None:
    """See that parameters bear the names of some family, and are those of a network that draws from noise alone.

    Args:
        shapes, source: as for `check_family`.
        key: of the families' table: a network's, or an autoencoder's.

    Raises:
        InputError: they do not; what they are, if their names tell.
    """
    if key == "model" and (kind := foreign_kind(shapes)):
        raise InputError(f"weights {source}: are those of {kind}")
    families = TABLES[key]
    if not any(family.bears(shapes) for family in families.values()):
        raise InputError(f"weights {source}: {first(list(shapes))} are names of none of {', '.join(families)}")


def wrong_params(shapes: Shapes, architecture: Architecture) -> dict[str, tuple[Any, Any]]:
    """The config's parameters that a file's names and shapes contradict: what the file has, and what the config says.

    Args:
        shapes: of the file's tensors, by the family's names.
        architecture: what the config describes.
    """
    family = TABLES[architecture.key][architecture.family]
    try:
        derived = family.derive(shapes, architecture.params.get("resolution"))
    except (ArithmeticError, LookupError, TypeError, ValueError):  # names that are not the family's throughout
        return {}
    said = family.defaults() | dict(architecture.params)
    pairs = {name: (value, said.get(name)) for name, value in derived.items()}
    return {name: pair for name, pair in pairs.items() if not same_value(*pair)}


def name_faults(names: Collection[str], wanted: Collection[str]) -> list[str]:
    """What is missing among the names, and what is left over."""
    faults = []
    if missing := sorted(set(wanted) - set(names)):
        faults.append(f"they lack {first(missing)}")
    if extra := sorted(set(names) - set(wanted)):
        faults.append(f"the config's model has no place for {first(extra)}")
    return faults


def first(items: Sequence[str], most: int = 3) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def same_value(one: object, other: object) -> bool:
    """Whether two values of a parameter mean the same: a list and a tuple do, and sets of resolutions in any order."""
    return _plain(one) == _plain(other)


def _plain(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        return value
    return sorted(value) if all(isinstance(item, int) for item in value) and len(set(value)) == len(value) else [*value]


def tell(wrong: Mapping[str, tuple[Any, Any]]) -> str:
    """What to change, as a text."""
    texts = {name: [str([*value] if isinstance(value, tuple) else value) for value in wrong[name]] for name in wrong}
    return "; ".join(f"{name}: the file has {file}, the config says {config}" for name, (file, config) in texts.items())

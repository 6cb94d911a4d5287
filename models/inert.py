"""Opening PyTorch's files without running what they name.

Training scripts save more than parameters: a Lightning callback, an argparse.Namespace, a Path, a whole module. Pickle
would import the class of each and run its code. Here `torch.load(weights_only=True)` reads the file, and an `Inert`
record stands for every object of a class that torch does not know.
"""

import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# An inert record would stand for these as well, but no training script needs them: a file that names one is hostile.
SUSPECT_MODULES = ("ctypes", "importlib", "marshal", "nt", "os", "posix", "runpy", "shutil", "subprocess", "sys")
SUSPECT_BUILTINS = ("__import__", "breakpoint", "compile", "eval", "exec", "open")


class WouldRunCodeError(Exception):
    """A file names a function that would run code; the text is its name."""


class Inert:
    """What a file says of an object whose class is not imported: its arguments and state, and no behaviour."""

    args: tuple[Any, ...]
    state: object

    def __new__(cls, *args: Any) -> "Inert":
        """As pickle makes objects, which is without `__init__`."""
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: object) -> None:
        self.state = state

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Of a pickled torch module, its parameters and buffers by name, as its `state_dict` would name them."""
        for kind in ("_parameters", "_buffers"):
            yield from ((name, value) for name, value in self._entries(kind) if isinstance(value, Tensor))
        for name, module in self._entries("_modules"):
            if isinstance(module, Inert):
                yield from ((f"{name}.{inner}", value) for inner, value in module.parameters())

    def _entries(self, kind: str) -> list[tuple[str, Any]]:
        entries = self.state.get(kind) if isinstance(self.state, Mapping) else None
        return list(entries.items()) if isinstance(entries, Mapping) else []


class InertDict:
    """The same for classes that are dicts: pickle fills them item by item, which torch allows on its own kinds only."""

    def __new__(cls, *args: Any) -> OrderedDict:  # type: ignore[misc]
        """An empty dict; what a defaultdict would make of missing keys does not matter here."""
        return OrderedDict()


def _stand_in(name: str) -> Callable[..., Any]:
    return InertDict if name.lower().endswith("dict") else Inert


def load_inert(file: Path) -> object:
    """What a file written by `torch.save` holds; an older file, not zipped, only if torch knows all its classes.

    Raises:
        WouldRunCodeError: it names a function that would run code.
        Exception: of any kind, from a file that is none of torch's, or a damaged one.
    """
    zipped = zipfile.is_zipfile(file)
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(file)) if zipped else []
    for name in names:
        module, _, inner = name.partition(".")
        if module in SUSPECT_MODULES or (module == "builtins" and inner in SUSPECT_BUILTINS):
            raise WouldRunCodeError(name)
    try:
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in names]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise WouldRunCodeError(named[1]) from None
        raise

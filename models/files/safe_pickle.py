"""A stand-in for Python's `pickle` that reads PyTorch's files and EDM's without running anything they name.

Training scripts save more than parameters: a Lightning callback, an argparse.Namespace, a Path, a whole module. Pickle
would import the class of each and run its code. Here a name in a file leads to an entry of `KNOWN` or to an `Inert`
record, never to an import. Names that no checkpoint needs and that would run code end the reading.

`torch.load(file, pickle_module=safe_pickle, weights_only=False)` uses `Unpickler` and `load` for all pickles in a file.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

# Inert records would do for these as well, but no training script needs them: a file that names one is hostile.
HOSTILE_MODULES = ("ctypes", "importlib", "marshal", "nt", "os", "posix", "runpy", "shutil", "subprocess", "sys")
HOSTILE_BUILTINS = ("__import__", "breakpoint", "compile", "eval", "exec", "open")


class WouldRunCodeError(Exception):
    """A file names a function that would run code; the text is its name."""


class Inert(dict):
    """What a file says of an object whose class is not imported: its arguments, state and items, and no behaviour.

    Pickle's BUILD instruction finds `__setstate__` on the class too, so a file cannot change the class by it.
    """

    state: object = None
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__

    def __init__(self, *args: Any) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __call__(self, *args: Any) -> "Inert":
        """Stand for a method of the object, and for what it would return."""
        return Inert()

    def append(self, *items: object) -> None:
        """Accept the items of a subclass of list, and keep none."""

    extend = append

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield a pickled torch module's parameters and buffers, named as in its `state_dict`."""
        fields = self.state if isinstance(self.state, Mapping) else {}
        for kind in ("_parameters", "_buffers", "_modules"):
            entries = fields.get(kind)
            for name, value in entries.items() if isinstance(entries, Mapping) else ():
                if isinstance(value, PickledTensor):
                    yield name, value.take()
                elif isinstance(value, Tensor) and kind != "_modules":
                    yield name, value
                elif isinstance(value, Inert):
                    yield from ((f"{name}.{inner}", tensor) for inner, tensor in value.parameters())


class PersistentModule(Inert):
    """A module of NVlabs' files, whose source code is in the file, and stays unused."""

    class_name: object = None

    def __init__(self, meta: Mapping[str, Any]) -> None:
        super().__init__()
        self.class_name = meta["class_name"]
        self.state = meta["state"]

    def constructor(self) -> tuple[object, object]:
        """Return the name of its class and the arguments it was constructed with, None where these are not known."""
        fields = self.state if isinstance(self.state, Mapping) else {}
        return self.class_name, None if fields.get("_init_args") else fields.get("_init_kwargs")


class PickledStorage(Inert):
    """The bytes of a storage that was pickled rather than saved, as in NVlabs' files.

    They are read when the tensors are taken: pickle keeps all bytes until it ends, so the numbers would be there twice.
    """

    content: Any = None

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content

    def numbers(self) -> torch.storage.TypedStorage:
        """Return the numbers, for all tensors that share them."""
        if isinstance(self.content, bytes):
            self.content = torch.load(io.BytesIO(self.content), map_location="cpu", weights_only=True)
        return self.content


class PickledTensor(Inert):
    """A tensor in a `PickledStorage`."""

    def __init__(self, storage: PickledStorage, *place: Any) -> None:
        super().__init__()
        self.storage, self.place = storage, place

    def take(self) -> Tensor:
        """Return the tensor; the bytes in the file are let go."""
        return torch._utils._rebuild_tensor(self.storage.numbers(), *self.place)


@dataclass(frozen=True)
class Call:
    """A function that files may call; its `__setstate__` keeps BUILD from changing it."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a function has no state")


def _rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    kind = PickledTensor if isinstance(storage, PickledStorage) else torch._utils._rebuild_tensor
    return kind(storage, offset, size, stride)


class UntypedStorage(Inert):
    """Names the kind of a storage of bytes."""

    dtype = torch.uint8


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch", "UntypedStorage"): UntypedStorage,
    ("torch.storage", "UntypedStorage"): UntypedStorage,
    ("torch.storage", "_load_from_bytes"): PickledStorage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): PersistentModule,
    ("torch._utils", "_rebuild_tensor"): Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Call(lambda tensor, *_: tensor),
    ("torch._utils", "_rebuild_parameter_with_state"): Call(lambda tensor, *_: tensor),
    ("torch._tensor", "_rebuild_from_type_v2"): Call(lambda rebuild, kind, args, state: rebuild(*args)),
    # kinds of tensors that are refused by name once they are read
    ("torch.serialization", "_get_layout"): Call(torch.serialization._get_layout),
    **{
        ("torch._utils", name): Call(getattr(torch._utils, name))
        for name in (
            "_rebuild_tensor_v3",
            "_rebuild_meta_tensor_no_storage",
            "_rebuild_nested_tensor",
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
        )
    },
    **{
        ("torch", name): value
        for name, value in vars(torch).items()
        if isinstance(value, (torch.dtype, torch.layout, torch.qscheme))
    },
}


class Unpickler(pickle.Unpickler):
    """Python's own, with no way to reach anything but `KNOWN` and inert records."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name; raise WouldRunCodeError for a function that would run code."""
        module = module.replace("__builtin__", "builtins")
        if module.partition(".")[0] in HOSTILE_MODULES or (module == "builtins" and name in HOSTILE_BUILTINS):
            raise WouldRunCodeError(f"{module}.{name}"[:80])
        return KNOWN.get((module, name), Inert)


def load(file: IO[bytes], **options: Any) -> Any:
    """Read one pickle, like `pickle.load`; raise WouldRunCodeError, or anything else if it is damaged."""
    return Unpickler(file, **options).load()

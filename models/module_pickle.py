"""NVlabs' pickles of whole networks, source code included (EDM's `.pkl` files), read without running any of it.

Such a file names what its objects are made by. Only what stands in `STAND_INS` may be named, and is taken by something
here that keeps what it is given and can do nothing else; any other name ends the reading. The source code is skipped.
"""

import io
import pickle
import reprlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import InputError


def is_module_pickle(path: Path) -> bool:
    """Whether a file is there and begins as a bare pickle of Python 3, which PyTorch's own files do not."""
    try:
        with path.open("rb") as stream:
            return stream.read(2) in (b"\x80\x03", b"\x80\x04", b"\x80\x05")
    except OSError:
        return False


def read_arguments(path: Path) -> tuple[str, dict[str, Any]]:
    """The class of an EDM pickle's network, and the arguments that it was constructed with.

    Raises:
        InputError: the file cannot be read, is damaged, cut short or no such pickle, or names anything else.
    """
    with _reading(path) as network:
        class_name, arguments = network.class_name, network.fields["_init_kwargs"]
        if not isinstance(class_name, str) or not isinstance(arguments, dict) or network.fields["_init_args"]:
            raise TypeError("arguments without names")
        return class_name, arguments


def read_state(path: Path) -> dict[str, Tensor]:
    """The averaged parameters of an EDM pickle, and its buffers, under the names that a `state_dict` would have.

    At its peak this takes the file's size and its largest tensor's in memory.

    Raises:
        InputError: as `read_arguments`.
    """
    with _reading(path) as network:
        return network.take_state()


@contextmanager
def _reading(path: Path) -> Iterator["_Persistent"]:
    """The network of a file, and what goes wrong while it is taken apart as an InputError."""
    try:
        with path.open("rb") as stream:
            content = _Unpickler(stream).load()
        yield content["ema"]
    except OSError as error:
        raise InputError(f"weights {path}: cannot be read: {error.strerror or error}") from None
    except _RefusedError as error:
        raise InputError(
            f"weights {path}: is not opened, because it names {error}, which is no part of an EDM network, and reading "
            "it could run code"
        ) from None
    except Exception as error:  # what a damaged pickle leads to knows no bounds, and is the file's fault
        raise InputError(
            f"weights {path}: is no EDM network, or is damaged or cut short ({type(error).__name__})"
        ) from None


class _RefusedError(Exception):
    """A name that the reader does not know."""


class _Unpickler(pickle.Unpickler):
    """Python's own, with no way to reach anything but the stand-ins."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in STAND_INS:
            raise _RefusedError(reprlib.repr(f"{module}.{name}"))
        return STAND_INS[module, name]


class _Ignored:
    """Takes whatever an object is made of, and keeps nothing. All stand-ins are of this kind.

    Being a class with a `__setstate__`, none can be changed by the pickle: its BUILD instruction finds that first.
    """

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Module(_Ignored):
    """What a module held."""

    fields: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:  # type: ignore[override]
        self.fields = state

    def take_state(self, prefix: str = "") -> dict[str, Tensor]:
        """Its tensors, by name; the file's bytes of each are let go as it is made."""
        tensors = self.fields["_parameters"] | self.fields["_buffers"]
        state = {prefix + name: tensor.take() for name, tensor in tensors.items() if tensor is not None}
        for name, module in self.fields["_modules"].items():
            if module is not None:
                state |= module.take_state(f"{prefix}{name}.")
        return state


class _Persistent(_Module):
    """A module whose source code is in the file."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.class_name = meta["class_name"]
        self.fields = meta["state"]


class _Storage(_Ignored):
    """Numbers, as PyTorch writes them."""

    def __init__(self, content: bytes) -> None:
        self.content: Any = content

    def numbers(self) -> torch.storage.TypedStorage:
        """The numbers, for the tensors that share them."""
        if isinstance(self.content, bytes):
            self.content = torch.load(io.BytesIO(self.content), map_location="cpu", weights_only=True)
        return self.content


class _Tensor(_Ignored):
    """A tensor: numbers, and where in them it lies."""

    def __init__(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
        self.storage = storage
        self.place = (offset, size, stride)

    def take(self) -> Tensor:
        """The tensor."""
        return torch._utils._rebuild_tensor(self.storage.numbers(), *self.place)


class _Parameter(_Ignored):
    """A tensor that was trained."""

    def __init__(self, data: _Tensor, *_: object) -> None:
        self.take = data.take


STAND_INS: dict[tuple[str, str], type] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Persistent,
    ("torch.nn.modules.container", "ModuleDict"): _Module,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch.storage", "_load_from_bytes"): _Storage,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _Ignored,
    ("numpy.core.multiarray", "scalar"): _Ignored,
    ("numpy._core.multiarray", "scalar"): _Ignored,
}

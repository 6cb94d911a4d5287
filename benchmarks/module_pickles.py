"""Pickles as NVlabs' EDM writes them, to measure and to test with: modules with their source code."""

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from torch import Tensor

SOURCE = 'raise SystemExit("this source must never be run")'


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    """Stand in for the function of `torch_utils.persistence`, which would run the source code."""


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Saved:
    """A module, pickled as `torch_utils.persistence` pickles one."""

    def __init__(self, class_name: str, **fields: Any) -> None:
        self.class_name = class_name
        self.fields = {"_parameters": {}, "_buffers": {}, "_modules": {}} | fields

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.class_name}
        return _reconstruct_persistent_obj, (meta | {"state": self.fields},)


class Call:
    """Pickled as a call, which unpickling would make."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.call


def saved_network(class_name: str, arguments: dict[str, Any], state: dict[str, Tensor], **fields: Any) -> Saved:
    """Make a network whose modules hold these tensors, by their names in a state dict."""
    root: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        inside = root
        for part in path:
            inside = inside["_modules"].setdefault(part, {"_parameters": {}, "_buffers": {}, "_modules": {}})
        inside["_parameters"][leaf] = tensor
    return _saved(class_name, root, _init_args=(), _init_kwargs=arguments, **fields)


def _saved(class_name: str, fields: dict[str, Any], **more: Any) -> Saved:
    modules = {name: _saved("Module", module) for name, module in fields["_modules"].items()}
    return Saved(class_name, **fields | {"_modules": modules} | more)


def write_pickle(path: Path, content: Any) -> Path:
    """Pickle something that holds modules."""
    with persistence():
        path.write_bytes(pickle.dumps(content, protocol=4))
    return path


@contextmanager
def persistence() -> Iterator[None]:
    """Let `torch_utils.persistence` be imported, so that modules can be pickled."""
    modules = {name: ModuleType(name) for name in ("torch_utils", "torch_utils.persistence")}
    modules["torch_utils.persistence"].__dict__["_reconstruct_persistent_obj"] = _reconstruct_persistent_obj
    with mock.patch.dict(sys.modules, modules):
        yield

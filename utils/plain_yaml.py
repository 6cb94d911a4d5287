"""YAML that anyone may have written: values only, in bounded time."""

import re
from pathlib import Path
from typing import Any

import yaml

from utils.errors import InputError

LARGEST = 16 * 2**20  # bytes; the record of a run over many thousand references has a few


class PlainLoader(yaml.SafeLoader):
    """The safe loader, which cannot name code, without merge keys (`<<`): nested, they double the work at each level.

    A key given twice is an error, and `1e-6` is a number, as in YAML 1.2; in YAML 1.1 it would need a dot.

    libyaml's faster loader overflows its stack on deep nesting, and takes the process with it.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` where it is, as a key that the constructor does not know."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, of which each key is given once."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is given twice", node.start_mark)
        return mapping


PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path, what: str) -> object:
    """What a YAML file holds.

    Args:
        path: the file.
        what: what it is, for messages.

    Raises:
        InputError: no such file, or not YAML.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{what} {path}: cannot be read: is not a file")
        if path.stat().st_size > LARGEST:
            raise InputError(f"{what} {path}: is larger than {LARGEST // 2**20} MB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{what} {path}: is not a text file") from None
    return parse_yaml(text, f"{what} {path}")


def parse_yaml(text: str, source: str) -> object:
    """What YAML text holds.

    Args:
        text: the YAML.
        source: where it is from, for messages.

    Raises:
        InputError: it is not YAML.
    """
    try:
        return yaml.load(text, Loader=PlainLoader)
    except (yaml.YAMLError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{source}: is not valid YAML: {problem}") from None

"""YAML that anyone may have written: values only, in bounded time."""

import re
from pathlib import Path
from typing import Any

import yaml

from utils.errors import InputError
from utils.files import open_regular

LARGEST = 2**17  # bytes; PyYAML takes a second or so for them, and no config has a tenth


class PlainLoader(yaml.SafeLoader):
    """The safe loader, which cannot name code, without what reads as one thing and is another.

    Merge keys (`<<`): nested, they double the work at each level. Numbers of YAML 1.1 that look like others: 020 is 16
    there, and 1:30 is 90.

    A key given twice is an error, and `1e-6` is a number, as in YAML 1.2; in YAML 1.1 it would need a dot.

    libyaml's faster loader overflows its stack on deep nesting, and takes the process with it.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` where it is, as a key that the constructor does not know."""

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        """A whole number, unless it is octal or sexagesimal."""
        digits = self.construct_scalar(node).lstrip("+-")
        if ":" in digits or (digits.startswith("0") and digits[1:].strip("_").isdecimal()):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{node.value} is no decimal number: write it without leading zeros and colons",
                node.start_mark,
            )
        return self.construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, of which each key is given once."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is given twice", node.start_mark)
        return mapping


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_plain_int)
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path, what: str) -> object:
    """What a YAML file holds.

    Args:
        path: the file.
        what: what it is, for messages.

    Raises:
        InputError: no such file, not YAML, or larger than `LARGEST`.
    """
    try:
        with open_regular(path, LARGEST) as file:
            return parse_yaml(file.read(), f"{what} {path}")
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read: {error.strerror or error}") from None


def parse_yaml(content: bytes, source: str) -> object:
    """What YAML says.

    Args:
        content: at most `LARGEST` bytes.
        source: where they are from, for messages.

    Raises:
        InputError: it is no YAML.
    """
    try:
        return yaml.load(content.decode("utf-8"), Loader=PlainLoader)
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not a text file") from None
    except (yaml.YAMLError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{source}: is not valid YAML: {problem}") from None

"""The parameters of a config's network, checked against the annotations of the function that takes them."""

import inspect
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from utils.errors import InputError

NOUNS = {int: "whole number", float: "number", str: "name", bool: "truth value", dict: "mapping"}
MAX_NUMBER = 1e9  # among a network's parameters; a typo is reported rather than computed


def check_params(function: Callable[..., Any], params: Mapping[str, Any], source: str) -> None:
    """Check that parameters are those of a function, and each of the annotated type.

    Args:
        function: annotated with int, float, bool, str, sequences of these, or a union with None.
        params: by name.
        source: where they are from, for messages.

    Raises:
        InputError: an unknown, missing or repeated parameter, or a value of another type or too large.
    """
    try:
        inspect.signature(function).bind(**params)
    except TypeError as error:
        raise InputError(f"{source}: {error}") from None
    hints = typing.get_type_hints(function)
    for name, value in params.items():
        if name in hints and not _has_type(value, hints[name]):
            raise InputError(f"{source}: {name} must be {_words(hints[name])}, not {reprlib.repr(value)}")


def _has_type(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType):
        return any(_has_type(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) in (tuple, list, Sequence):
        item = typing.get_args(hint)[0]
        return isinstance(value, (list, tuple)) and all(_has_type(each, item) for each in value)
    if hint is float:
        hint = int | float
    is_bool = isinstance(value, bool)
    if not isinstance(value, hint) or (is_bool and hint is not bool):
        return False
    return is_bool or not isinstance(value, (int, float)) or abs(value) <= MAX_NUMBER


def _words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_words, typing.get_args(hint)))
    if typing.get_origin(hint) in (tuple, list, Sequence):
        return f"a list of {NOUNS[typing.get_args(hint)[0]]}s"
    return {bool: "true or false", type(None): "null"}.get(hint) or f"a {NOUNS[hint]}"

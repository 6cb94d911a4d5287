"""What a family of checkpoints is: its names for a network's arguments and parameters."""

import inspect
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from models.networks.layers import Resample
from models.networks.unet import Level, UNet
from utils.errors import InputError

NOUNS = {int: "whole number", float: "number", str: "name", bool: "truth value", dict: "mapping"}
MAX_NUMBER = 1e9  # among a network's parameters; a typo is reported rather than computed

Shapes = Mapping[str, Sequence[int]]  # of tensors, by their names


@dataclass(frozen=True)
class Family:
    r"""How one family names a network's arguments and its parameters.

    Attributes:
        mark: a regular expression for the beginning of names that only this family's parameters have; it must not match
            further inside names, after a dot (`temb\.`, not `temb.`, which also matches `temb_proj`).
        network_params: the network's arguments from those of the family's own constructor.
        module_names: pairs of our modules and theirs, the longer name before the shorter.
        leaf_names: the modules inside those, ours to theirs; several of theirs are joined, in that order.
        derive: the arguments of the family's constructor that follow from its names and their shapes, and from the
            images' size where that is known. Those that do not follow are left out.
        hidden_params: the arguments that do not follow, and their usual values, as a text.
        alternatives: other plausible values of the arguments that do not follow, each a change of some of them.
        ignored_params: arguments of their constructor without meaning for inference.
        newer_names: parts of names in older files, and what they are called now.
        unused: a regular expression, found in the names of tensors that the network has no use for.
        diffusion: what its code trains in one way only, under a config's keys.
        read_diffusion: what a file's tensors say about the diffusion, under a config's keys.
        diffusion_words: its words for noise schedules and for what is predicted, where they are not a config's.
        adapt: converts one of their tensors, given its name, for our module.
        heads_first: whether, with these arguments, `qkv` holds a head's query, key and value and then the
            next head's, rather than all queries, all keys and all values.
        null_class: whether a network trained with labels dropped knows no class as an embedding of 0.
        network: what is built from `network_params`.
    """

    mark: str
    network_params: Callable[..., dict[str, Any]]
    module_names: Callable[[Any], Iterable[tuple[str, str]]]
    leaf_names: Mapping[str, str | tuple[str, ...]]
    derive: Callable[[Shapes, int | None], dict[str, Any]] = lambda shapes, image_size: {}
    hidden_params: Mapping[str, str] = field(default_factory=dict)
    alternatives: Sequence[Mapping[str, Any]] = ()
    ignored_params: tuple[str, ...] = ()
    newer_names: Mapping[str, str] = field(default_factory=dict)
    unused: str = r"(?!)"  # in none
    diffusion: Mapping[str, Any] = field(default_factory=dict)
    read_diffusion: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda tensors: {}
    diffusion_words: Mapping[str, str] = field(default_factory=dict)
    adapt: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor
    heads_first: Callable[[Mapping[str, Any]], bool] = lambda params: False
    null_class: bool = False
    network: Callable[..., Any] = UNet

    def matches(self, names: Collection[str]) -> bool:
        """Return whether these are names of this family's parameters."""
        return any(re.match(self.mark, name) for name in names)

    def defaults(self) -> dict[str, Any]:
        """Return the arguments for which its constructor has default values."""
        arguments = inspect.signature(self.network_params).parameters.values()
        return {each.name: each.default for each in arguments if each.default is not each.empty}

    def newer(self, name: str) -> str:
        """Return a parameter's name as this family writes it today."""
        for old, new in self.newer_names.items():
            name = name.replace(old, new)
        return name

    def names(self, network: nn.Module) -> dict[str, tuple[str, ...]]:
        """Return the family's name of each of the network's parameters: one, or several that are joined."""
        modules = list(self.module_names(network))
        names: dict[str, tuple[str, ...]] = {}
        for name in network.state_dict():
            names[name] = (name,)
            for ours, theirs in modules:
                if name.startswith(ours + "."):
                    leaf, _, kind = name[len(ours) + 1 :].rpartition(".")
                    leaves = self.leaf_names.get(leaf, leaf)
                    parts = (leaves,) if isinstance(leaves, str) else leaves
                    names[name] = tuple(".".join(filter(None, (theirs, part, kind))) for part in parts)
                    break
        return names


def check_params(function: Callable[..., Any], params: Mapping[str, Any], source: str) -> None:
    """Check that parameters are those of a function, and of the types that it is annotated with.

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


def autoencoder_names(
    autoencoder: nn.Module, coder_names: Callable[[Any], Iterable[tuple[str, str]]]
) -> Iterator[tuple[str, str]]:
    """Yield an autoencoder's modules and theirs; `coder_names` yields those of one half."""
    yield "codebook", "quantize.embedding"
    for half in ("encoder", "decoder"):
        for ours, theirs in coder_names(getattr(autoencoder, half)):
            yield f"{half}.{ours}", f"{half}.{theirs}"


def count(names: Iterable[str], pattern: str) -> int:
    """Count the numbers 0, 1, … that the names have in the place of `{}` in their beginning, `down.0.block.{}.`."""
    names, number = set(names), 0
    while any(name.startswith(pattern.format(number)) for name in names):
        number += 1
    return number


def levels(
    channels: Sequence[int],
    num_blocks: int | Sequence[int],
    attention: Sequence[bool],
    resample: Resample,
    attention_up: Sequence[bool | Literal["last"]] | None = None,
) -> dict[str, list[Level]]:
    """Return the `down` and `up` of a UNet that has one more block per level on the way up.

    Args:
        channels: of each level, from the full resolution down.
        num_blocks: of each level on the way down; one number if all have as many.
        attention: whether each level has attention.
        resample: how resolution changes after all levels but the last.
        attention_up: as `attention`, on the way up; the same by default.
    """
    changes = [*[resample] * (len(channels) - 1), None]
    blocks = [num_blocks] * len(channels) if isinstance(num_blocks, int) else num_blocks
    more = [number + 1 for number in blocks]
    up = zip(channels, more, attention_up or attention, [None, *changes[:-1]], strict=True)
    return {
        "down": [Level(*level) for level in zip(channels, blocks, attention, changes, strict=True)],
        "up": [Level(*level) for level in up][::-1],
    }

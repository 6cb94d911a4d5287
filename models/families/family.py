"""What a family of checkpoints is: the words in which it speaks of a network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from models.unet import UNet


@dataclass(frozen=True)
class Family:
    """How one family names a network's arguments and its parameters.

    Attributes:
        mark: what the names of this family's parameters alone begin with.
        network_params: the network's arguments from those of the family's own constructor.
        module_names: pairs of our modules and theirs, the longer name before the shorter.
        leaf_names: the modules inside those, ours to theirs; several of theirs are joined, in that order.
        ignored_params: arguments of their constructor without meaning for inference.
        newer_names: parts of names that older files bear, and what they are called now.
        heads_first: whether, with these arguments, `qkv` holds a head's query, key and value and then the
            next head's, rather than all queries, all keys and all values.
        network: what is built of `network_params`.
    """

    mark: str
    network_params: Callable[..., dict[str, Any]]
    module_names: Callable[[Any], Iterable[tuple[str, str]]]
    leaf_names: Mapping[str, str | tuple[str, ...]]
    ignored_params: tuple[str, ...] = ()
    newer_names: Mapping[str, str] = field(default_factory=dict)
    heads_first: Callable[[Mapping[str, Any]], bool] = lambda params: False
    network: Callable[..., Any] = UNet

    def newer(self, name: str) -> str:
        """A parameter's name as this family writes it today."""
        for old, new in self.newer_names.items():
            name = name.replace(old, new)
        return name

    def names(self, network: nn.Module) -> dict[str, tuple[str, ...]]:
        """The network's parameters, and the family's name of each: one, or several that are joined."""
        modules = list(self.module_names(network))
        return {name: self._theirs(name, modules) for name in network.state_dict()}

    def _theirs(self, name: str, modules: list[tuple[str, str]]) -> tuple[str, ...]:
        for ours, theirs in modules:
            if name.startswith(ours + "."):
                leaf, _, kind = name[len(ours) + 1 :].rpartition(".")
                leaves = self.leaf_names.get(leaf, leaf)
                parts = (leaves,) if isinstance(leaves, str) else leaves
                return tuple(".".join(filter(None, (theirs, part, kind))) for part in parts)
        return (name,)

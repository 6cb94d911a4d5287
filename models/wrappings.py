"""Which of the tensors in a training script's file are the network's parameters, and which of its copies to take.

Training scripts save the plain weights, their running average, which samples better, and much else, under names that
differ from script to script. What lies where a name speaks of an average is taken, unless the plain weights are asked
for.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Size, Tensor

from models.inert import Inert
from utils.errors import InputError

# how wrappers of networks (DataParallel, torch.compile, an average, a Lightning module) begin the names inside them
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "model_ema.",
    "ema_model.",
    "online_model.",
    "diffusion_model.",
    "ema.",
    "unet.",
    "net.",
)
AVERAGED_WORDS = {"ema", "shadow", "averaged"}
PLAIN_WORDS = {"online", "raw"}  # inside an average's own record, the network that it averages

# what else lies in such files and holds tensors: no network
OTHER_ENTRIES = re.compile(r"opt|sched|scaler|callback|loops|rng|random", re.IGNORECASE)
BUFFERS = re.compile(r"(^|\.)(sigmas|betas|alphas\w*|num_updates|decay)$")

MOST_DEPTH = 8


@dataclass(frozen=True)
class Copy:
    """A network's parameters as they lie in a file.

    Attributes:
        place: the keys and prefixes that lead to them, as `ema.shadow`; empty for a bare state dict.
        tensors: by name; without names, as some averages are kept, numbered as text.
        averaged: whether they are a running average.
        named: whether `tensors` has names.
        beside: tensors of the same record that are not the network's, by their names there: a schedule, an autoencoder.
    """

    place: str
    tensors: dict[str, Tensor]
    averaged: bool = False
    named: bool = True
    beside: dict[str, Tensor] = field(default_factory=dict)


def choose_copy(copies: Collection[Copy], raw_weights: bool, source: str) -> tuple[Copy, str]:
    """The copy to sample with, and a line to say where there was a choice ("" where there was none).

    Raises:
        InputError: no copy, or several and no telling which is meant.
    """
    averaged = [copy for copy in copies if copy.averaged]
    plain = [copy for copy in copies if not copy.averaged]
    if raw_weights and averaged and not plain:
        raise InputError(f"weights {source}: hold averaged weights only ({_places(averaged)}), no raw ones")
    left = plain if raw_weights or not averaged else averaged
    named = [copy for copy in left if copy.named]
    if len(named or left) > 1 and any(copy.averaged or _shapes(copy) != _shapes(left[0]) for copy in named):
        raise InputError(f"weights {source}: hold several networks ({_places(named)}): save the one you mean alone")
    chosen = (named or left)[0]
    chosen = chosen if chosen.named else _give_names(chosen, plain, source)
    if not (averaged and plain):
        return chosen, ""
    kinds = ("raw", "averaged", averaged) if raw_weights else ("averaged", "raw", plain)
    return chosen, f"Taken are the {kinds[0]} weights ({chosen.place}); {_places(kinds[2])} holds the {kinds[1]} ones."


def find_copies(content: object) -> list[Copy]:
    """All networks in what a training script saved, in the order they lie there."""
    return [part for copy in _walk(content, (), set()) for part in (_by_prefix(copy) if copy.named else [copy])]


def is_optimizer(content: object) -> bool:
    """Whether this is what `torch.optim.Optimizer.state_dict` returns."""
    return isinstance(content, Mapping) and "param_groups" in content and "state" in content


def _walk(content: object, keys: tuple[str, ...], seen: set[int]) -> Iterator[Copy]:
    """All records that hold tensors, each once, since a file may hold itself; none of an optimizer and the like."""
    if len(keys) > MOST_DEPTH or is_optimizer(content) or id(content) in seen:
        return
    seen.add(id(content))
    entries = _entries(content)
    tensors = {key: value for key, value in entries if isinstance(value, Tensor)}
    if isinstance(content, (list, tuple)) and tensors:
        if len(tensors) == len(entries) and _is_averaged(keys):
            yield Copy(".".join(keys), tensors, averaged=True, named=False)
        return
    others = [(key, value) for key, value in entries if key not in tensors and not OTHER_ENTRIES.match(key)]
    if tensors:
        yield Copy(".".join(keys), tensors, _is_averaged(keys))
    for key, value in others:
        yield from _walk(value, (*keys, key), seen)


def _entries(content: object) -> list[tuple[str, object]]:
    """What a record holds, by name."""
    if isinstance(content, Inert):
        content = dict(content.parameters()) or content.state
    if isinstance(content, Mapping):
        return [(str(key), value) for key, value in content.items()]
    if not isinstance(content, (list, tuple)):
        return []
    networks = [i for i, value in enumerate(content) if isinstance(value, Mapping) and not is_optimizer(value)]
    ema = networks[-1] if len({len(content[i]) for i in networks}) == 1 < len(networks) else None
    return [(f"{i}_ema" if i == ema else str(i), value) for i, value in enumerate(content)]  # ermongroup/ddim's order


def _is_averaged(keys: Collection[str]) -> bool:
    """Whether the innermost key that speaks of it says so."""
    for key in reversed(list(keys)):
        words = set(re.split(r"[._\d-]+", key.lower()))
        if words & PLAIN_WORDS:
            return False
        if words & AVERAGED_WORDS:
            return True
    return False


def _by_prefix(copy: Copy) -> Iterator[Copy]:
    """A record taken apart by its names' known beginnings, the beginnings left out."""
    groups = {
        prefix: {name[len(prefix) :]: value for name, value in copy.tensors.items() if name.startswith(prefix)}
        for prefix in PREFIXES
    }
    groups = {prefix: tensors for prefix, tensors in groups.items() if tensors}
    if not groups:
        yield copy
        return
    beside = {name: value for name, value in copy.tensors.items() if not name.startswith(tuple(groups))}
    for prefix, tensors in groups.items():
        if prefix == "model_ema.":  # of latent-diffusion: names of which the dots are left out
            dotted = {name.replace(".", ""): name for name in groups.get("model.", ())}
            tensors = {dotted[name]: value for name, value in tensors.items() if name in dotted}
        place = f"{copy.place}.{prefix}".strip(".")
        averaged = _is_averaged((copy.place, prefix)) if copy.place else _is_averaged((prefix,))
        yield from _by_prefix(Copy(place, tensors, averaged, beside=copy.beside | beside))


def _give_names(copy: Copy, plain: Collection[Copy], source: str) -> Copy:
    """An average kept as a list: the plain weights beside it have the names, in the same order.

    Raises:
        InputError: no plain weights, or ones that are not these.
    """
    if len(plain) != 1:
        raise InputError(
            f"weights {source}: {copy.place} is a list without names, and the weights that would name its tensors are "
            "not beside it"
        )
    (model,) = plain
    values = list(copy.tensors.values())
    names = [name for name in model.tensors if len(model.tensors) == len(values) or not BUFFERS.search(name)]
    if len(names) != len(values) or any(
        model.tensors[name].shape != value.shape for name, value in zip(names, values, strict=True)
    ):
        raise InputError(f"weights {source}: the list {copy.place} does not fit the names in {model.place or 'it'}")
    return Copy(copy.place, dict(zip(names, values, strict=True)), averaged=True, beside=model.beside)


def _shapes(copy: Copy) -> dict[str, Size]:
    return {name: tensor.shape for name, tensor in copy.tensors.items()}


def _places(copies: Collection[Copy]) -> str:
    return ", ".join(copy.place or "the file itself" for copy in copies)

"""Which of the tensors in a training script's file are the network's parameters, and which copy of them to take.

Training scripts save the plain weights, their running average, which samples better, and much else, under names that
differ from script to script. A network is found by its family's names, whatever stands before them. Of its copies the
one whose place in the file mentions an average is taken, unless the plain weights are asked for.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from models.families import prefixes
from models.files.safe_pickle import Inert, PickledTensor
from utils.errors import InputError

AVERAGED_WORDS = {"ema", "shadow", "averaged"}
PLAIN_WORDS = {"online", "raw"}  # inside an average's own record, the network that it averages

# other entries of such files that hold tensors, but no network, unless it is an average
OTHER_ENTRIES = re.compile(r"opt|sched|scaler|callback|loops|rng|random", re.IGNORECASE)
BUFFERS = re.compile(r"(^|\.)(sigmas|betas|alphas\w*|num_updates|decay)$")

MAX_DEPTH = 8


@dataclass(frozen=True)
class Copy:
    """A network's parameters in a file.

    Attributes:
        place: the keys and prefixes that lead to them, like `ema.shadow`; empty for a bare state dict.
        tensors: by name; some averages are kept without names, and these are numbered as text.
        known: whether the names are a family's.
        named: whether `tensors` has names.
        beside: the other tensors of the same record, by their names there: a schedule, an autoencoder.
    """

    place: str
    tensors: Mapping[str, Tensor]
    known: bool = True
    named: bool = True
    beside: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def averaged(self) -> bool:
        """Whether they are a running average: whether the innermost key that mentions one or the other says so."""
        for key in reversed(self.place.lower().split(".")):
            words = set(re.split(r"[_\d-]+", key))
            if words & (PLAIN_WORDS | AVERAGED_WORDS):
                return not words & PLAIN_WORDS
        return False


def find_copies(content: object, key: str = "model") -> list[Copy]:
    """Find the copies of a network, or of an autoencoder, in what a training script saved, in their order there.

    Returns:
        Those under a family's names and the averages without names; if there are none, the largest record of tensors,
        whose names then say what it is instead; none if there are no tensors.
    """
    copies = [copy for place, tensors in _records(content, (), set()) for copy in _copies_in(place, tensors, key)]
    networks = [copy for copy in copies if copy.known]
    return networks or sorted(copies, key=lambda copy: -len(copy.tensors))[:1]


def choose_copy(copies: Collection[Copy], raw_weights: bool, source: str) -> tuple[Copy, str]:
    """Choose the copy to sample with: an average, or, if wanted, the last weights of training.

    Returns:
        The copy, and a note where there was a choice, else "".

    Raises:
        InputError: no such copy, or several and no way to know which is meant.
    """
    averaged = [copy for copy in copies if copy.averaged]
    plain = [copy for copy in copies if not copy.averaged]
    # an average's own record may repeat the network that it averages
    plain = [copy for copy in plain if not AVERAGED_WORDS & {*re.split(r"[._\d-]+", copy.place.lower())}] or plain
    if raw_weights and averaged and not plain:
        raise InputError(f"weights {source}: hold averaged weights only ({_places(averaged)}), no raw ones")
    left = plain if raw_weights or not averaged else averaged
    left = [copy for copy in left if copy.named] or left
    if len(left) > 1:
        raise InputError(f"weights {source}: hold several networks ({_places(left)}): save the one you mean alone")
    chosen = left[0] if left[0].named else _give_names(left[0], plain, source)
    if not (averaged and plain):
        return chosen, ""
    kinds = ("raw", "averaged", averaged) if raw_weights else ("averaged", "raw", plain)
    return chosen, f"Using the {kinds[0]} weights ({chosen.place}); {_places(kinds[2])} holds the {kinds[1]} ones."


def is_optimizer(content: object) -> bool:
    """Return whether this is what `torch.optim.Optimizer.state_dict` returns."""
    return isinstance(content, Mapping) and "param_groups" in content and "state" in content


def _records(content: object, keys: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor] | list]]:
    """Yield all records that hold tensors, and their places; each once, since a file may contain itself."""
    if len(keys) > MAX_DEPTH or is_optimizer(content) or id(content) in seen:
        return
    seen.add(id(content))
    entries = _entries(content)
    tensors = {key: value for key, value in entries if isinstance(value, Tensor)}
    place = ".".join(keys)
    if isinstance(content, (list, tuple)) and tensors:
        if len(tensors) == len(entries):
            yield place, list(tensors.values())
        return
    if tensors:
        yield place, tensors
    for key, value in entries:
        if key not in tensors:
            for inner, record in _records(value, (*keys, key), seen):
                if not OTHER_ENTRIES.match(key) or Copy(inner[len(place) :], {}).averaged:
                    yield inner, record


def _entries(content: object) -> list[tuple[str, object]]:
    """Return what a record holds, by name."""
    if isinstance(content, Inert):
        content = dict(content.parameters()) or content.state or dict(content)
    if isinstance(content, Mapping):
        items = [(str(key), value) for key, value in content.items() if not str(key).endswith("_extra_state")]
        if {"averaging_state", "current_model_state"} <= content.keys():
            # Lightning's WeightAveraging puts aside what is trained
            names = {"state_dict": "state_dict_averaged", "current_model_state": "current_model_state_raw"}
            items = [(names.get(key, key), value) for key, value in items]
        return [(key, value.take() if isinstance(value, PickledTensor) else value) for key, value in items]
    if not isinstance(content, (list, tuple)):
        return []
    networks = [i for i, value in enumerate(content) if isinstance(value, Mapping) and not is_optimizer(value)]
    ema = networks[-1] if len({len(content[i]) for i in networks}) == 1 < len(networks) else None
    return [(f"{i}_ema" if i == ema else str(i), value) for i, value in enumerate(content)]  # ermongroup/ddim's order


def _copies_in(place: str, record: dict[str, Tensor] | list[Tensor], key: str) -> Iterator[Copy]:
    """Yield the copies in one record, what stands before the family's names left out."""
    if isinstance(record, list):
        copy = Copy(place, {str(i): tensor for i, tensor in enumerate(record)}, named=False)
        if copy.averaged:
            yield copy
        return
    found = sorted(prefixes(record, key))
    if not found:
        yield Copy(place, record, known=False)
    for prefix in found:
        inner = tuple(other for other in found if len(other) > len(prefix) and other.startswith(prefix))
        own = {name: name[len(prefix) :] for name in record if name.startswith(prefix) and not name.startswith(inner)}
        beside: dict[str, Tensor] = {}
        for dots in range(prefix.count(".")):  # by their names in the innermost record that holds both
            parent = "".join(part + "." for part in prefix.split(".")[:dots])
            beside |= {n[len(parent) :]: record[n] for n in record if n.startswith(parent) and n not in own}
        inside = f"{place}.{prefix}".strip(".")
        yield Copy(inside, {short: record[name] for name, short in own.items()}, beside=beside)
        # latent-diffusion's average of all that is in `model.`, the dots left out of its names
        averages = {short: "model_ema." + name.removeprefix("model.").replace(".", "") for name, short in own.items()}
        if average := {short: record[name] for short, name in averages.items() if name in record}:
            yield Copy(f"{place}.model_ema".strip("."), average, beside=beside)


def _give_names(copy: Copy, plain: Collection[Copy], source: str) -> Copy:
    """Name the tensors of an average that is a list: the plain weights beside it have the names, in the same order."""
    if len(plain) != 1:
        missing = "the weights that would name its tensors are not beside it"
        raise InputError(f"weights {source}: {copy.place} is a list without names, and {missing}")
    (model,) = plain
    values = list(copy.tensors.values())
    names = [name for name in model.tensors if len(model.tensors) == len(values) or not BUFFERS.search(name)]
    if [model.tensors[name].shape for name in names] != [value.shape for value in values]:
        raise InputError(f"weights {source}: the list {copy.place} does not fit the names in {model.place or 'it'}")
    return Copy(copy.place, dict(zip(names, values, strict=True)), beside=model.beside)


def _places(copies: Collection[Copy]) -> str:
    return ", ".join(copy.place or "the file itself" for copy in copies)

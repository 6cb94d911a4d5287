"""A config for weights that come without one.

A network's family follows from its parameters' names, and most of its arguments from their shapes. What does not follow
is what is given by hand, or what the file's own tensors say, or what the known checkpoints of the same names and shapes
agree on. Nothing else is guessed: what is still open is asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePath
from typing import Any

from torch import Tensor

from models.config import CONTINUOUS_KEYS, PROCESS_KEYS, SAMPLING_KEYS, Config, parse_config
from models.containers import Checkpoint
from models.families import FAMILIES
from models.families.family import Family, Shapes
from models.first_stage import holds_autoencoder
from models.misfits import check_known, same_value
from utils.errors import InputError

# what has to be known of every model, and what is usual
SIZES = "32, 64, 128 or 256"
OPEN_DIFFUSION = {
    "total_steps": "1000, or 4000 in improved-diffusion",
    "beta_schedule": "linear or cosine",
    "objective": "pred_eps, pred_v or pred_x0",
}


def describe(checkpoint: Checkpoint, given: Mapping[str, Any], known: Iterable[Config], source: str) -> Config:
    """The config of a checkpoint.

    Args:
        checkpoint: what the file holds.
        given: values by hand: `image_size`, arguments of the family's network, keys of `diffusion`.
        known: the checkpoints to compare with.
        source: where the checkpoint is from, for messages.

    Raises:
        InputError: parameters of no family, or values that remain open; each is named, with what is usual.
    """
    check_known({name: tensor.shape for name, tensor in checkpoint.tensors.items()}, source)
    name = next(name for name, family in FAMILIES.items() if family.bears(checkpoint.tensors))
    subject = _Subject(name, FAMILIES[name], checkpoint.tensors, source)
    own = subject.family.read_diffusion({**checkpoint.beside, **checkpoint.tensors})
    is_latent = holds_autoencoder(checkpoint.beside)
    latent_too = [config for config in known if (config.autoencoder is not None) == is_latent]
    values = _Values(given, own, subject.alike(latent_too, "preconditioning" in own))
    size = values.take("", ["image_size"], [{"image_size": config.image_size} for config in values.alike])
    autoencoder = values.take("", ["autoencoder"], [_autoencoder(config) for config in values.alike])
    if is_latent and not autoencoder:
        raise InputError(f"weights {source}: hold an autoencoder, but do not say how it is built: give a config")
    params = _params(subject, values, size.get("image_size"))
    channels = params.get("in_channels", params.get("channels", 3))
    diffusion = _diffusion(values, 2 * channels in (params.get(key) for key in ("out_channels", "out_ch", "out_dim")))
    hidden = chain.from_iterable(key.split("|") for key in subject.family.hidden_params)
    values.check_all_taken(["image_size", *hidden, *_diffusion_keys(diffusion)], source)
    if missing := _missing(subject.family, size, params, diffusion):
        wanted = "; ".join(f"{key.replace('|', ' or ')} ({usual})" for key, usual in missing.items())
        example = " ".join(f"{key.partition('|')[0]}=…" for key in missing)
        raise InputError(
            f"weights {source}: are of the family {name}, but do not say {wanted}: set {example}, or give a config"
        )
    image_channels = values.alike[0].image_channels if is_latent else channels
    content = {**size, **autoencoder, "image_channels": image_channels, "weights": source, "diffusion": diffusion}
    config = parse_config({**content, "model": {"dialect": name, "params": params}}, f"weights {source}")
    return replace(config, sources=values.sources, note=values.note())


def _autoencoder(config: Config) -> dict[str, Any]:
    return {"autoencoder": config.autoencoder.words()} if config.autoencoder else {}


def _params(subject: "_Subject", values: "_Values", image_size: object) -> dict[str, Any]:
    """The arguments of the family's network; of several that say the same, one."""
    params = subject.derive(image_size)
    for key in subject.family.hidden_params:
        options = key.split("|")
        said = [subject.said(config) if len(options) == 1 else config.params for config in values.alike]
        params |= values.take("model.params.", [key for key in options if key in values.given] or options, said)
    return params


def _diffusion(values: "_Values", learned_variance: bool) -> dict[str, Any]:
    """What can be found of the diffusion."""
    known = [config.diffusion for config in values.alike]
    diffusion = values.take("diffusion.", ["preconditioning"], known)
    diffusion |= values.take("diffusion.", _diffusion_keys(diffusion), known)
    if "var_type" not in diffusion:
        diffusion["var_type"] = "learned_range" if learned_variance else "fixed_small"
        values.sources["diffusion.var_type"] = "follows from the output's channels"
    return diffusion


def _diffusion_keys(diffusion: Mapping[str, Any]) -> list[str]:
    return [*(CONTINUOUS_KEYS if "preconditioning" in diffusion else PROCESS_KEYS), *SAMPLING_KEYS]


def _missing(
    family: Family, size: Mapping[str, Any], params: Mapping[str, Any], diffusion: Mapping[str, Any]
) -> dict[str, str]:
    """The values that are still open, and what is usual."""
    missing = {} if size else {"image_size": SIZES}
    missing |= {key: usual for key, usual in family.hidden_params.items() if not params.keys() & {*key.split("|")}}
    if "preconditioning" in diffusion:  # which says it all
        return missing
    missing |= {key: usual for key, usual in OPEN_DIFFUSION.items() if key not in diffusion}
    if diffusion.get("total_steps", 1000) != 1000 and "rescale_timesteps" not in diffusion:
        missing["rescale_timesteps"] = "true in improved-diffusion"
    return missing


class _Subject:
    """The network that is to be described."""

    def __init__(self, name: str, family: Family, tensors: Mapping[str, Tensor], source: str) -> None:
        self.name = name
        self.family = family
        self.shapes: Shapes = {family.newer(key): tuple(value.shape) for key, value in tensors.items()}
        self.source = source

    def derive(self, image_size: object) -> dict[str, Any]:
        """What names and shapes tell.

        Raises:
            InputError: names that are the family's in part only.
        """
        try:
            return self.family.derive(self.shapes, image_size if isinstance(image_size, int) else None)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"weights {self.source}: lack parameters of the family {self.name}: {error}") from None

    def alike(self, known: Iterable[Config], preconditioned: bool) -> list[Config]:
        """The known checkpoints of the same names and shapes; if one is of the same file name, that one.

        Args:
            known: all there are.
            preconditioned: as the tensors of such a network say; another of the same sizes must not be taken for it.
        """
        found = [config for config in known if self._is_like(config)]
        name = PurePath(self.source).name
        found = [config for config in found if PurePath(config.weights or "").name == name] or found
        return [config for config in found if ("preconditioning" in config.diffusion) == preconditioned]

    def _is_like(self, config: Config) -> bool:
        if config.family != self.name:
            return False
        said, derived = self.said(config), self.derive(config.image_size)
        return all(same_value(value, said[key]) for key, value in derived.items() if key in said)

    def said(self, config: Config) -> dict[str, Any]:
        """A known checkpoint's parameters, those of the constructor's defaults too."""
        return self.family.defaults() | dict(config.params)


@dataclass
class _Values:
    """The places that a value can be from, and where each was from."""

    given: Mapping[str, Any]
    own: Mapping[str, Any]
    alike: Sequence[Config]
    sources: dict[str, str] = field(default_factory=dict)

    def take(self, prefix: str, keys: Sequence[str], known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The values that there are for some keys: given, else the file's own, else what all known ones say."""
        taken = {}
        for key in keys:
            if key in self.given:
                taken[key], source = self.given[key], "given"
            elif key in self.own:
                taken[key], source = self.own[key], "from the file's own tensors"
            elif known and all(key in each and each[key] == known[0][key] for each in known):
                taken[key], source = known[0][key], f"as in {PurePath(self.alike[0].source).name}"
            else:
                continue
            self.sources[prefix + key] = source
        return taken

    def check_all_taken(self, keys: Sequence[str], source: str) -> None:
        """See that all that was given has a place.

        Raises:
            InputError: the first that has none.
        """
        if unknown := sorted(self.given.keys() - set(keys)):
            raise InputError(f"weights {source}: have no setting {unknown[0]}; open are {', '.join(keys)}")

    def note(self) -> str:
        """Which known checkpoint it looks like, if anything is from there."""
        taken = [key.rpartition(".")[2] for key, source in self.sources.items() if source.startswith("as in ")]
        if not taken:
            return ""
        names = [PurePath(config.source).stem for config in self.alike]
        others = f" (or {', '.join(names[1:3])}{', …' * (len(names) > 3)})" if len(names) > 1 else ""
        return f"These weights look like those of {names[0]}{others}, so these are as there: {', '.join(taken)}."

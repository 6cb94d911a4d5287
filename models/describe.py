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
    is_latent = holds_autoencoder(checkpoint.beside)
    alike = [config for config in known if subject.is_like(config) and (config.autoencoder is not None) == is_latent]
    alike = [config for config in alike if PurePath(config.weights or "").name == PurePath(source).name] or alike
    own = subject.family.read_diffusion({**checkpoint.beside, **checkpoint.tensors})
    # of a preconditioned network its tensors say so; another of the same sizes must not be taken for it
    alike = [config for config in alike if ("preconditioning" in config.diffusion) == ("preconditioning" in own)]
    values = _Values(given, own, alike)

    size = values.take("", ["image_size"], [{"image_size": config.image_size} for config in alike])
    autoencoder = values.take("", ["autoencoder"], [_autoencoder(config) for config in alike])
    if is_latent and not autoencoder:
        raise InputError(f"weights {source}: hold an autoencoder, but do not say how it is built: give a config")
    hidden = [key.split("|") for key in subject.family.hidden_params]
    params = subject.derive(size.get("image_size"))
    for options in hidden:  # one of them says it all
        said = [subject.said(config) if len(options) == 1 else config.params for config in alike]
        params |= values.take("model.params.", [key for key in options if key in given] or options, said)
    diffusions = [config.diffusion for config in alike]
    diffusion = values.take("diffusion.", ["preconditioning"], diffusions)
    diffusion_keys = [*(CONTINUOUS_KEYS if diffusion else PROCESS_KEYS), *SAMPLING_KEYS]
    diffusion |= values.take("diffusion.", diffusion_keys, diffusions)
    channels = params.get("in_channels", params.get("channels", 3))
    if "var_type" not in diffusion:
        learned = 2 * channels in (params.get("out_channels"), params.get("out_ch"), params.get("out_dim"))
        diffusion["var_type"] = "learned_range" if learned else "fixed_small"
        values.sources["diffusion.var_type"] = "follows from the output's channels"
    values.check_all_taken(["image_size", *chain.from_iterable(hidden), *diffusion_keys], source)
    if missing := _missing(subject.family, size, params, diffusion):
        wanted = "; ".join(f"{key.replace('|', ' or ')} ({usual})" for key, usual in missing.items())
        example = " ".join(f"{key.partition('|')[0]}=…" for key in missing)
        raise InputError(
            f"weights {source}: are of the family {name}, but do not say {wanted}: set {example}, or give a config"
        )
    image_channels = alike[0].image_channels if is_latent else channels
    content = {**size, **autoencoder, "image_channels": image_channels, "weights": source, "diffusion": diffusion}
    config = parse_config({**content, "model": {"dialect": name, "params": params}}, f"weights {source}")
    return replace(config, sources=values.sources, note=values.note())


def _autoencoder(config: Config) -> dict[str, Any]:
    return {"autoencoder": config.autoencoder.words()} if config.autoencoder else {}


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

    def is_like(self, config: Config) -> bool:
        """Whether a known checkpoint's network has the same names and shapes."""
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

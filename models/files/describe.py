"""A config for weights that come without one.

A network's family follows from its parameters' names, and most of its arguments from their shapes. What does not follow
is given by hand, or stated by the file's own tensors, or agreed on by the known checkpoints of the same names and
shapes. Nothing else is guessed: what is still open is asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from models.families import FAMILIES
from models.families.family import Family, Shapes
from models.files.config import CONTINUOUS_KEYS, PROCESS_KEYS, SAMPLING_KEYS, Config, parse_config, read_config
from models.mismatches import check_known, same_value
from utils.errors import InputError
from utils.files import PROJECT, read_json

if TYPE_CHECKING:
    from models.files.checkpoint import Checkpoint

# the files of configs/ by family and number of parameters, so that not all of them have to be read
INDEX = PROJECT / "configs" / "index.json"

# what has to be known of every model, and the usual values
SIZES = "32, 64, 128 or 256"
OPEN_DIFFUSION = {
    "total_steps": "1000, or 4000 in improved-diffusion",
    "beta_schedule": "linear or cosine",
    "objective": "pred_eps, pred_v or pred_x0",
}


def describe(checkpoint: Checkpoint, given: Mapping[str, Any], known: Iterable[Config] | None = None) -> Config:
    """Find the config of a checkpoint.

    Args:
        checkpoint: what the file holds.
        given: values by hand: `image_size`, arguments of the family's network, keys of `diffusion`.
        known: the configs to compare with; by default those of configs/.

    Raises:
        InputError: parameters of no family, or values that remain open; each is named, with the usual ones.
    """
    source = str(checkpoint.path)
    check_known({name: tensor.shape for name, tensor in checkpoint.tensors.items()}, source)
    name = next(name for name, family in FAMILIES.items() if family.matches(checkpoint.tensors))
    family = FAMILIES[name]
    shapes = {family.newer(key): tuple(value.shape) for key, value in checkpoint.tensors.items()}
    own = family.read_diffusion({**checkpoint.beside, **checkpoint.tensors})
    if known is None:
        count = sum(math.prod(shape) for key, shape in shapes.items() if not re.search(family.unused, key))
        stems = read_json(INDEX).get(f"{name} {count}", ())
        known = (read_config(INDEX.with_name(f"{stem}.yaml")) for stem in stems)
    alike = []
    for config in known:
        same_kind = (config.autoencoder is not None) == bool(checkpoint.autoencoder)
        # another network of the same sizes must not be taken for a preconditioned one
        if same_kind and ("preconditioning" in config.diffusion) == ("preconditioning" in own):
            derived = _derive(family, shapes, config.image_size, source) if config.family == name else {}
            said = family.defaults() | dict(config.params)
            if derived and all(same_value(value, said[key]) for key, value in derived.items() if key in said):
                alike.append(config)
    same_file = [config for config in alike if PurePath(config.weights or "").name == PurePath(source).name]
    values = _Values(given, own, same_file or alike)
    return _put_together(checkpoint, name, shapes, values)


def _put_together(checkpoint: Checkpoint, name: str, shapes: Shapes, values: _Values) -> Config:
    """Return the config of all values that can be found; raise InputError if some remain open, or have no place."""
    source, family = str(checkpoint.path), FAMILIES[name]
    size = values.take("", ["image_size"], [{"image_size": config.image_size} for config in values.alike])
    autoencoder = values.take("", ["autoencoder"], [config.content() for config in values.alike])
    if checkpoint.autoencoder and not autoencoder:
        raise InputError(f"weights {source}: hold an autoencoder, but do not say how it is built: give a config")
    params = _derive(family, shapes, size.get("image_size"), source)
    for key in family.hidden_params:
        options = key.split("|")  # of several that say the same, one
        defaults = family.defaults() if len(options) == 1 else {}
        said = [{**defaults, **config.params} for config in values.alike]
        params |= values.take("model.params.", [key for key in options if key in values.given] or options, said)
    channels = next((params[key] for key in ("in_channels", "channels", "num_channels") if key in params), 3)
    learned_variance = 2 * channels in (params.get(key) for key in ("out_channels", "out_ch", "out_dim"))
    diffusion = _diffusion(values, family, learned_variance)
    hidden = chain.from_iterable(key.split("|") for key in family.hidden_params)
    dropped = values.take("", ["p_uncond"] if family.null_class else [], [])
    settings = ["image_size", *hidden, *(["p_uncond"] if family.null_class else []), *_diffusion_keys(diffusion)]
    if unknown := sorted(values.given.keys() - set(settings)):
        raise InputError(f"weights {source}: have no setting {unknown[0]}; settings are {', '.join(settings)}")
    if missing := _missing(family, size, params, diffusion):
        wanted = "; ".join(f"{key.replace('|', ' or ')} ({usual})" for key, usual in missing.items())
        example = " ".join(f"{key.partition('|')[0]}=…" for key in missing)
        raise InputError(
            f"weights {source}: are of the family {name}, but do not say {wanted}: set {example}, or give a config"
        )
    image_channels = values.alike[0].image_channels if checkpoint.autoencoder else channels
    content = {
        **size,
        **autoencoder,
        **dropped,
        "image_channels": image_channels,
        "weights": source,
        "diffusion": diffusion,
    }
    config = parse_config({**content, "model": {"dialect": name, "params": params}}, f"weights {source}")
    return replace(config, sources=values.sources, note=values.note())


def _derive(family: Family, shapes: Shapes, image_size: object, source: str) -> dict[str, Any]:
    """Return the network's arguments that follow from names and shapes; raise InputError if some names are missing."""
    try:
        return family.derive(shapes, image_size if isinstance(image_size, int) else None)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        name = next(name for name, each in FAMILIES.items() if each is family)
        raise InputError(f"weights {source}: lack parameters of the family {name}: {error}") from None


def _diffusion(values: _Values, family: Family, learned_variance: bool) -> dict[str, Any]:
    """Return what can be found of the diffusion."""
    known = [config.diffusion for config in values.alike]
    diffusion = values.take("diffusion.", ["preconditioning"], known)
    diffusion |= values.take("diffusion.", _diffusion_keys(diffusion), known)
    for key in family.diffusion.keys() - diffusion.keys():
        diffusion[key], values.sources[f"diffusion.{key}"] = family.diffusion[key], "as its code trains"
    if "var_type" not in diffusion:
        diffusion["var_type"] = "learned_range" if learned_variance else "fixed_small"
        values.sources["diffusion.var_type"] = "follows from the output's channels"
    return diffusion


def _diffusion_keys(diffusion: Mapping[str, Any]) -> list[str]:
    return [*(CONTINUOUS_KEYS if "preconditioning" in diffusion else PROCESS_KEYS), *SAMPLING_KEYS]


def _missing(
    family: Family, size: Mapping[str, Any], params: Mapping[str, Any], diffusion: Mapping[str, Any]
) -> dict[str, str]:
    """Return the values that are still open, and the usual ones."""
    missing = {} if size else {"image_size": SIZES}
    missing |= {key: usual for key, usual in family.hidden_params.items() if not params.keys() & {*key.split("|")}}
    if "preconditioning" in diffusion:  # which says it all
        return missing
    missing |= {key: usual for key, usual in OPEN_DIFFUSION.items() if key not in diffusion}
    if diffusion.get("total_steps", 1000) != 1000 and "rescale_timesteps" not in diffusion:
        missing["rescale_timesteps"] = "true in improved-diffusion"
    return missing


@dataclass
class _Values:
    """Where a value can be from, and where each was from."""

    given: Mapping[str, Any]
    own: Mapping[str, Any]
    alike: Sequence[Config]
    sources: dict[str, str] = field(default_factory=dict)

    def take(self, prefix: str, keys: Sequence[str], known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the values for some keys: given, else the file's own, else what all known configs say."""
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

    def note(self) -> str:
        """Return which known checkpoint it looks like, if any value is from there."""
        taken = [key.rpartition(".")[2] for key, source in self.sources.items() if source.startswith("as in ")]
        if not taken:
            return ""
        names = [PurePath(config.source).stem for config in self.alike]
        others = f" (or {', '.join(names[1:3])}{', …' * (len(names) > 3)})" if len(names) > 1 else ""
        same = ", ".join(taken)
        return f"These weights look like those of {names[0]}{others}, so these are as there: {same}."

"""The families of published checkpoints, one module each: how it names the parts of a network, and its arguments."""

import re
from collections.abc import Collection

from models.families import (
    adm,
    compvis,
    diffusers,
    diffusers_autoencoder,
    edm,
    lucidrains,
    monai,
    pesser,
    pytorch_ddpm,
    score_sde,
    xyf,
)
from models.families.family import Family

FAMILIES: dict[str, Family] = {
    "pesser": pesser.FAMILY,
    "adm": adm.FAMILY,
    "diffusers": diffusers.FAMILY,
    "xyf": xyf.FAMILY,
    "xyf_adagn": xyf.ADAGN,
    "pytorch_ddpm": pytorch_ddpm.FAMILY,
    "score_sde_ncsnpp": score_sde.NCSNPP,  # before the other, whose names match too
    "score_sde_ddpm": score_sde.DDPM,
    "edm": edm.FAMILY,
    "lucidrains": lucidrains.FAMILY,
    "monai": monai.FAMILY,
}

AUTOENCODERS: dict[str, Family] = {
    "compvis": compvis.FAMILY,
    "diffusers": diffusers_autoencoder.FAMILY,
}

TABLES = {"model": FAMILIES, "autoencoder": AUTOENCODERS}  # by the key under which a config names a family

_MARKS = {
    key: re.compile("|".join(rf"(?:^|(?<=\.))(?:{family.mark})" for family in table.values()))
    for key, table in TABLES.items()
}


def prefixes(names: Collection[str], key: str = "model") -> list[str]:
    """Return what stands before the names of a family's parameters: wrappers (DataParallel, Lightning, …) add it.

    Args:
        names: of a file's tensors.
        key: of `TABLES`: a network's families, or an autoencoder's.

    Returns:
        One prefix for each copy of a network, in the names' order, "" where nothing stands before the names; none if
        no family matches.
    """
    found = (_MARKS[key].search(str(name)) for name in names)
    return list(dict.fromkeys(match.string[: match.start()] for match in found if match))

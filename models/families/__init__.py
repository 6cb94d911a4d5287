"""The families of published checkpoints, one module each: how it names the parts of a network, and its arguments."""

from collections.abc import Collection

from models.families import (
    adm,
    compvis,
    diffusers,
    diffusers_autoencoder,
    edm,
    lucidrains,
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
    "score_sde_ncsnpp": score_sde.NCSNPP,  # before the other, whose names it bears too
    "score_sde_ddpm": score_sde.DDPM,
    "edm": edm.FAMILY,
    "lucidrains": lucidrains.FAMILY,
}

AUTOENCODERS: dict[str, Family] = {
    "compvis": compvis.FAMILY,
    "diffusers": diffusers_autoencoder.FAMILY,
}

TABLES = {"model": FAMILIES, "autoencoder": AUTOENCODERS}  # by the key under which a config names a family


def is_network(names: Collection[str]) -> bool:
    """Whether the parameters of a family's network bear these names."""
    return any(family.bears(names) for family in FAMILIES.values())


def is_autoencoder(names: Collection[str]) -> bool:
    """Whether the parameters of a family's autoencoder bear these names."""
    return any(family.bears(names) for family in AUTOENCODERS.values())

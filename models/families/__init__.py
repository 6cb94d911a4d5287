"""The families of published checkpoints, one module each: how it names the parts of a network, and its arguments."""

from models.families import adm, compvis, diffusers, diffusers_autoencoder, pesser
from models.families.family import Family

FAMILIES: dict[str, Family] = {
    "pesser": pesser.FAMILY,
    "adm": adm.FAMILY,
    "diffusers": diffusers.FAMILY,
}

AUTOENCODERS: dict[str, Family] = {
    "compvis": compvis.FAMILY,
    "diffusers": diffusers_autoencoder.FAMILY,
}

TABLES = {"model": FAMILIES, "autoencoder": AUTOENCODERS}  # by the key under which a config names a family

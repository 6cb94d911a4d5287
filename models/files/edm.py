"""What an EDM pickle says about itself: its network, and the diffusion it was trained on, as a config."""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from utils.errors import InputError

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # EDM samples between these, within the range that a network was trained on
RESPACE_STEPS = 50  # a default, as continuous noise levels have no T; EDM draws faces with 40 to 80 network calls


@dataclass(frozen=True)
class Wrapper:
    """A class of EDM's that makes a denoiser from a network.

    Attributes:
        model_type: the default class of the network.
        diffusion: makes the config's diffusion from `options`, its own arguments that matter, with their defaults.
        fixed: those of which only the default is supported.
        predictions: how many channels the network returns per channel of the image.
    """

    model_type: str
    diffusion: Callable[..., dict[str, Any]]
    options: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    predictions: int = 1


def _continuous(
    preconditioning: str, sigma_min: float = 0.0, sigma_max: float = math.inf, **more: float
) -> dict[str, Any]:
    sigmas = {"sigma_min": max(SIGMA_MIN, sigma_min), "sigma_max": min(SIGMA_MAX, sigma_max)}
    steps = {"total_steps": 1000, "var_type": "fixed_small", "respace_steps": RESPACE_STEPS}
    return {"preconditioning": preconditioning, **sigmas, **more, **steps}


# of Nichol & Dhariwal's cosine schedule
IMPROVED_DDPM = {"total_steps": 1000, "beta_schedule": "cosine", "objective": "pred_eps", "var_type": "learned_range"}

WRAPPERS = {
    "EDMPrecond": Wrapper(
        "DhariwalUNet",
        lambda **options: _continuous("edm", **options),
        {"sigma_min": 0.0, "sigma_max": math.inf, "sigma_data": 0.5},
    ),
    "VPPrecond": Wrapper("SongUNet", lambda: _continuous("vp"), fixed={"beta_d": 19.9, "beta_min": 0.1, "M": 1000}),
    "VEPrecond": Wrapper(
        "SongUNet", lambda **options: _continuous("ve", **options), {"sigma_min": 0.02, "sigma_max": 100.0}
    ),
    "iDDPMPrecond": Wrapper(
        "DhariwalUNet", lambda: IMPROVED_DDPM, fixed={"C_1": 0.001, "C_2": 0.008, "M": 1000}, predictions=2
    ),
}


def read_edm_config(class_name: object, arguments: object, path: str) -> dict[str, Any]:
    """Convert a wrapper's class and the arguments it was constructed with, by name, to the content of a config.

    Raises:
        InputError: a class or an option of it that is not supported.
    """
    if not isinstance(class_name, str) or class_name not in WRAPPERS:
        known = ", ".join(WRAPPERS)
        raise InputError(f"weights {path}: are of class {reprlib.repr(class_name)}; only {known} are supported")
    if not isinstance(arguments, Mapping):
        raise InputError(f"weights {path}: are of class {class_name!r}, constructed with arguments without names")
    wrapper = WRAPPERS[class_name]
    given = {"model_type": wrapper.model_type, **wrapper.options, **arguments}
    for name, value in wrapper.fixed.items():
        if given.pop(name, value) != value:
            said = reprlib.repr(arguments[name])
            raise InputError(f"weights {path}: {name} {said} of {class_name} is not supported (only {value})")
    numbers = {name: given.get(name) for name in ("img_resolution", "img_channels", *wrapper.options)}
    for name, number in numbers.items():
        if not isinstance(number, (int, float)):
            raise InputError(f"weights {path}: {name} of {class_name} must be a number, not {reprlib.repr(number)}")
    channels = given["img_channels"]
    params = {name: value for name, value in given.items() if name not in ("img_channels", *wrapper.options)}
    params |= {"in_channels": channels, "out_channels": channels * wrapper.predictions}
    return {
        "image_size": given["img_resolution"],
        "image_channels": channels,
        "model": {"dialect": "edm", "params": params},
        "diffusion": wrapper.diffusion(**{name: given[name] for name in wrapper.options}),
        "p_uncond": given.get("label_dropout", 0),
    }

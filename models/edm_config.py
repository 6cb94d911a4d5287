"""What an EDM pickle says of itself: its network, and what that was trained on, as a config."""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.module_pickle import read_arguments
from utils.errors import InputError

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # between these EDM samples, as far as a network was trained there
RESPACE_STEPS = 50  # continuous noise levels have no number of their own; with 40 to 80 network calls EDM draws faces


@dataclass(frozen=True)
class Wrapper:
    """A class of EDM's that makes a denoiser of a network.

    Attributes:
        model_type: the class of the network, if it is not said.
        diffusion: what it was trained on, from `options`.
        options: its own arguments that matter, and their defaults.
        fixed: those of which only the default is known here.
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


def _improved_ddpm() -> dict[str, Any]:
    """Its noise levels are the discrete ones of Nichol & Dhariwal's cosine, and its network predicts the noise."""
    return {"total_steps": 1000, "beta_schedule": "cosine", "objective": "pred_eps", "var_type": "learned_range"}


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
        "DhariwalUNet", _improved_ddpm, fixed={"C_1": 0.001, "C_2": 0.008, "M": 1000}, predictions=2
    ),
}


def read_edm_config(path: Path) -> dict[str, Any]:
    """The config of a pickle, from the arguments that its network was constructed with.

    Raises:
        InputError: no such pickle, or a class or an option of it that is not known.
    """
    class_name, arguments = read_arguments(path)
    if class_name not in WRAPPERS:
        raise InputError(
            f"weights {path}: are of class {reprlib.repr(class_name)}; only {', '.join(WRAPPERS)} are known"
        )
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
    }

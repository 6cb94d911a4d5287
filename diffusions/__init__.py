"""Diffusion processes, their samplers, and the guides that steer them; ILVR is one."""

import inspect
from typing import Any

from diffusions.continuous import ContinuousProcess
from diffusions.ddim import DDIM
from diffusions.ddpm import DDPM
from diffusions.dpm_solver import SDEDPMSolver
from diffusions.ilvr import ILVR
from diffusions.noise import SampleNoise
from diffusions.overview import Overview
from diffusions.process import Process
from diffusions.regions import Regions
from diffusions.sampler import Guide, Sampler, Step, noised_start

SAMPLERS: dict[str, type[Sampler]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "dpmpp_2m_sde": SDEDPMSolver,
}

GUIDES: dict[str, type[Guide]] = {
    "sample": ILVR,
    "regions": Regions,
}


def make_sampler(name: str, process: Process, **options: Any) -> Sampler:
    """Make a sampler by its name in `SAMPLERS`.

    Args:
        name: of the sampler.
        process: what the network was trained on.
        options: respace_steps, respace_type, var_type, eta, …; those that this sampler does not take are ignored.

    Raises:
        ValueError: an unknown name, or an impossible option.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {name!r}")
    known = inspect.signature(SAMPLERS[name]).parameters
    return SAMPLERS[name](process, **{key: value for key, value in options.items() if key in known})

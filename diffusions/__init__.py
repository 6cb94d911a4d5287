"""Diffusion samplers (DDPM, DDIM) and the ILVR refinement that steers them."""

from diffusions.ddim import DDIM
from diffusions.ddpm import DDPM, Step
from diffusions.ilvr import ILVR
from diffusions.strength import start

__all__ = ["DDIM", "DDPM", "ILVR", "Step", "start"]

"""The UNet, and the checkpoints of every family that runs in it."""

from models.checkpoints import load_model
from models.class_conditional import ClassConditional, choose_class
from models.export import new_unet, save_diffusers
from models.ready import Compiled, advise, make_ready
from models.unet import UNet

__all__ = [
    "ClassConditional",
    "Compiled",
    "UNet",
    "advise",
    "choose_class",
    "load_model",
    "make_ready",
    "new_unet",
    "save_diffusers",
]

"""The UNet, and the checkpoints of every family that runs in it."""

from models.checkpoints import load_model
from models.class_conditional import ClassConditional, choose_class
from models.export import new_unet, save_diffusers
from models.ready import Compiled, advise, has_fast_bf16, make_ready
from models.unet import UNet

__all__ = [
    "ClassConditional",
    "Compiled",
    "UNet",
    "advise",
    "choose_class",
    "has_fast_bf16",
    "load_model",
    "make_ready",
    "new_unet",
    "save_diffusers",
]

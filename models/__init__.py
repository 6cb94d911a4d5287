"""The UNet, and the checkpoints of every family that runs in it."""

from models.checkpoints import load_model
from models.class_conditional import ClassConditional, choose_class
from models.unet import UNet

__all__ = ["ClassConditional", "UNet", "choose_class", "load_model"]

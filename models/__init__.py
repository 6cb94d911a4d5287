"""The UNet, and the checkpoints of every family that runs in it."""

from models.checkpoints import load_model, new_unet, save_diffusers
from models.unet import UNet

__all__ = ["UNet", "load_model", "new_unet", "save_diffusers"]

"""The UNet, and the checkpoints of every family that runs in it."""

from models.checkpoints import load_model
from models.unet import UNet

__all__ = ["UNet", "load_model"]

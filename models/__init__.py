"""Networks, and the checkpoints of every family that run in them."""

from models.checkpoints import build_network, load_model, load_network
from models.class_conditional import choose_class
from models.export import new_network, save_diffusers
from models.model import Model
from models.network import Network
from models.ready import DTYPES, Compiled, advise, make_ready
from models.tiles import Tiles
from models.unet import UNet

__all__ = [
    "DTYPES",
    "Compiled",
    "Model",
    "Network",
    "Tiles",
    "UNet",
    "advise",
    "build_network",
    "choose_class",
    "load_model",
    "load_network",
    "make_ready",
    "new_network",
    "save_diffusers",
]

"""Networks, and the checkpoints of every family that run in them."""

from models.conversion import build_network
from models.files.checkpoint import Checkpoint, config_for, find_weights, open_checkpoint
from models.files.config import Config, check_value_range
from models.files.diffusers_folder import save_diffusers
from models.model import Model, load_model, load_network, new_network
from models.networks.network import Network
from models.networks.ready import DTYPES, ClassConditional, Compiled, advise, check_class, choose_class, make_ready
from models.networks.tiles import Tiles
from models.networks.unet import UNet

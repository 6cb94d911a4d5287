"""The networks that most benchmarks measure: the embedded model, and a published architecture of random weights."""

from pathlib import Path

import torch

from models import Model, Network, load_model, make_ready, new_network
from models.files.config import read_config
from utils.files import PROJECT

WEIGHTS = PROJECT / "weights" / "openpeeps64"
LARGE = PROJECT / "configs" / "google_ddpm_celebahq_256.yaml"


def load_embedded(precision: str = "no", weights: Path = WEIGHTS) -> Model:
    """Load the embedded portraits' model or another, 64×64, ready on the CPU."""
    model = load_model(weights)
    make_ready(model.network, "cpu", precision)
    return model


def load_large(precision: str = "no") -> Network:
    """Make a network of CelebA-HQ's architecture, 256×256, ready on the CPU."""
    torch.manual_seed(0)
    return make_ready(new_network(read_config(LARGE)).eval(), "cpu", precision)

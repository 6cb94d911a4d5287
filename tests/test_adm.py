"""The golden networks: what guided-diffusion and pytorch_diffusion compute with the same weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from models import load_network
from models.conversion import build_network
from models.files.config import Architecture
from utils.errors import InputError

DATA = Path(__file__).parent / "data"
DIFFUSION = {"total_steps": 1000, "beta_schedule": "linear", "objective": "pred_eps", "var_type": "fixed_small"}


def golden_config(name: str, dialect: str) -> dict:
    with safe_open(DATA / f"{name}.weights.safetensors", "pt") as file:
        params = json.loads(file.metadata()["config"])
    model = {"dialect": dialect, "params": params}
    return {"image_size": 32, "image_channels": 3, "model": model, "diffusion": DIFFUSION}


@pytest.mark.parametrize(
    ("name", "dialect"),
    [("ddpm_tiny", "pesser"), ("adm_p2_tiny", "adm"), ("adm_plain_tiny", "adm"), ("adm_class_tiny", "adm")],
)
def test_golden(name, dialect):
    model = load_network(DATA / f"{name}.weights.safetensors", golden_config(name, dialect))
    io = load_file(DATA / f"{name}.io.safetensors")
    with torch.no_grad():
        out = model(io["x"], io["t"], io.get("y"))
    assert (out - io["out"]).abs().max() / io["out"].abs().max() < 1e-5
    assert (out - io["out"]).norm() / io["out"].norm() < 1e-5


def params(**changes) -> dict:
    plain = {
        "in_channels": 3,
        "model_channels": 32,
        "out_channels": 3,
        "num_res_blocks": 1,
        "attention_resolutions": [2],
        "channel_mult": [1, 2],
    }
    return plain | changes


def build(**changes):
    return build_network(Architecture(family="adm", params=params(**changes)))


def test_heads_on_the_way_up():
    unet = build(num_heads=4, num_heads_upsample=2)
    assert unet.down[1].blocks[0].attn.num_heads == unet.mid[0].attn.num_heads == 4
    assert unet.up[0].blocks[0].attn.num_heads == 2
    assert build(num_heads=4).up[0].blocks[0].attn.num_heads == 4
    assert build(num_heads=4, num_head_channels=8).up[0].blocks[0].attn.num_heads == 8


def test_changing_resolution_without_parameters():
    unet = build(conv_resample=False)
    assert not [name for name in unet.state_dict() if ".resample" in name]
    unet = unet.to_empty(device="cpu").eval()
    assert unet(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": 1}, "dims 1 of a UNetModel is not supported"),
        ({"num_head_channels": 48}, "64 channels cannot be divided among attention heads"),
        ({"num_heads": 3}, "64 channels cannot be divided among attention heads"),
        ({"num_res_blocks": 0}, "a level without blocks"),
        ({"model_channels": 24}, r"num_channels \(24\) must be divisible by num_groups"),
        ({"attention_resolutions": "2"}, "attention_resolutions must be a list of whole numbers, not '2'"),
        ({"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_impossible_networks(changes, message):
    with pytest.raises(InputError, match=message):
        build(**changes)


def test_classes_are_not_drawn_at_random(monkeypatch):
    """On the meta device that would import torch's compiler: four seconds before the first image."""
    monkeypatch.setattr(torch.nn.Embedding, "reset_parameters", lambda self: pytest.fail("drawn at random"))
    assert build(num_classes=5).num_classes == 5


def test_a_network_states_its_facts():
    unet = build(in_channels=1, out_channels=2, channel_mult=[1, 2, 2], num_classes=5)
    assert (unet.in_channels, unet.out_channels, unet.size_multiple, unet.num_classes) == (1, 2, 4, 5)
    assert build().num_classes == 0

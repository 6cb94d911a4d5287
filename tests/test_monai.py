"""MONAI's networks and MONAI Generative's return what their own code does; what is not supported is refused by name."""

import json

import pytest
import torch

from diffusions.process import OBJECTIVES
from models import config_for, load_model, open_checkpoint
from tests import families
from utils.errors import InputError

DIFFUSION = {"total_steps": 1000, "beta_schedule": "linear_beta", "objective": "epsilon", "var_type": "fixed_small"}
NAMES = ["monai_2d", "monai_generative_2d"]
HIDDEN = ("num_head_channels", "norm_num_groups")
# ᾱ at 0, 1, 250, 500, 750 and 998 of `Scheduler(1000, name)` of MONAI 1.6.1
SCHEDULES = {
    "linear_beta": (0.9999, 0.9997801, 0.521423, 0.0777967, 0.0033002, 4.12e-05),
    "scaled_linear_beta": (0.9999, 0.9997973, 0.8200101, 0.3312746, 0.0381497, 0.0007484),
    "sigmoid_beta": (0.9998508, 0.999701, 0.902799, 0.2988876, 0.0056229, 4.05e-05),
    "cosine": (0.9999588, 0.9999126, 0.8458884, 0.4922853, 0.1431786, 2.4e-06),
}


def arguments(name):
    return json.loads((families.FOLDER / f"{name}.json").read_text())


def config(params, **diffusion):
    model = {"dialect": "monai", "params": params}
    return {"image_size": 32, "image_channels": 1, "model": model, "diffusion": DIFFUSION | diffusion}


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_network_returns_what_its_own_code_does(tmp_path, name, with_config):
    path, params, io = families.unpacked(f"{name}.pt", tmp_path), arguments(name), families.io(name)
    checkpoint = open_checkpoint(path)
    given = {"image_size": 32, **{key: params[key] for key in HIDDEN}, **DIFFUSION}
    given.pop("var_type")
    model = load_model(checkpoint, config(params) if with_config else config_for(checkpoint, None, given))
    assert model.channels == 1
    with torch.no_grad():
        assert (model(io["x"], io["t"]) - io["out"]).abs().max() < 1e-5


def test_a_level_may_have_heads_of_its_own_width(tmp_path):
    path, params, io = families.unpacked("monai_2d.pt", tmp_path), arguments("monai_2d"), families.io("monai_2d")
    with torch.no_grad():
        same = load_model(path, config(params | {"num_head_channels": [0, 0, 8]}))
        assert (same(io["x"], io["t"]) - io["out"]).abs().max() < 1e-5
        other = load_model(path, config(params | {"num_head_channels": [8, 8, 16]}))
        assert (other(io["x"], io["t"]) - io["out"]).abs().max() > 1e-4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_words_of_its_schedulers(tmp_path, schedule):
    path = families.unpacked("monai_2d.pt", tmp_path)
    words = {"epsilon": "pred_eps", "sample": "pred_x0", "v_prediction": "pred_v"}
    for theirs, ours in words.items():
        settings = config(arguments("monai_2d"), beta_schedule=schedule, objective=theirs)
        process = config_for(open_checkpoint(path), settings).make_process()
        assert process.objective is OBJECTIVES[ours]
        found = process.alphas_cumprod[[0, 1, 250, 500, 750, 998]]
        assert torch.allclose(found, torch.tensor(SCHEDULES[schedule], dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spatial_dims": 3}, "spatial_dims 3 of DiffusionModelUNet is not supported (only 2)"),
        ({"with_conditioning": True}, "with_conditioning True of DiffusionModelUNet is not supported (only False)"),
        ({"num_channels": [16, 32, 32]}, "needs channels, or num_channels, as they were called before"),
        ({"num_res_blocks": [1, 1]}, "must have an entry for each level"),
        ({"num_head_channels": 7}, "32 channels cannot be divided among heads of 7"),
        ({"include_fc": False}, "include_fc: the file has True, the config says False"),
        ({"channels": [16, 32, 64]}, "channels: the file has [16, 32, 32], the config says [16, 32, 64]"),
        ({"num_heads": 2}, "num_heads is not a known parameter of DiffusionModelUNet"),
    ],
)
def test_arguments_that_are_not_supported(tmp_path, change, message):
    path = families.unpacked("monai_2d.pt", tmp_path)
    with pytest.raises(InputError) as caught:
        load_model(path, config(arguments("monai_2d") | change))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("with_config", [True, False])
def test_networks_of_volumes_and_of_contexts_are_refused(tmp_path, with_config):
    settings = config(arguments("monai_2d")) if with_config else None
    with pytest.raises(InputError, match=r"a network of MONAI's in 3 dimensions; only 2 are supported$"):
        load_model(families.unpacked("monai_3d.pt", tmp_path), settings)
    tensors = torch.load(families.unpacked("monai_2d.pt", tmp_path))
    context = "down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    torch.save(tensors | {context: torch.zeros(32, 32)}, tmp_path / "context.pt")
    with pytest.raises(InputError, match=r"draws from a context \(with_conditioning\); only unconditional ones load$"):
        load_model(tmp_path / "context.pt", settings)

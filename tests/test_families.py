"""Every family's networks against what their own repositories compute, and what their files say of themselves."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusions import DDIM, DDPM, Process
from models import Compiled, choose_class, load_model, load_network
from models.conversion import build_network
from models.families import FAMILIES
from models.files.config import Architecture, read_config
from models.mismatches import same_value
from tests import families
from tests.commands import run_here
from tests.families import apart
from utils.errors import InputError
from utils.files import PROJECT

CONFIGS = sorted((PROJECT / "configs").glob("*.yaml"))
# what neither names nor shapes tell; of pesser's resolutions, the levels are known, and with the images' size all
HIDDEN = {
    "adm": {"num_heads", "num_head_channels", "num_heads_upsample", "use_new_attention_order", "image_size"},
    "diffusers": {"attention_head_dim", "norm_num_groups", "norm_eps", "freq_shift", "flip_sin_to_cos"}
    | {"downsample_padding"},
    "pesser": set(),
    "pytorch_ddpm": {"T"},
    "score_sde_ddpm": set(),
    "score_sde_ncsnpp": set(),
    "xyf": {"n_heads"},
    "xyf_adagn": {"attn_head_dims"},
}


def shapes_of(family, network):
    """The parameters of a network by the family's own names: several of theirs are of equal size."""
    shapes = {}
    names = family.names(network)
    for name, tensor in network.state_dict().items():
        for theirs in names[name]:
            shapes[theirs] = (tensor.shape[0] // len(names[name]), *tensor.shape[1:])
    return shapes


@pytest.mark.parametrize("name", families.CONFIGS)
def test_the_network_returns_what_its_own_code_does(tmp_path, name):
    io = families.io(name)
    save_file(families.weights(name), tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors", families.config(name))
    told = torch.tensor([model.process.model_t(t) for t in io["t"].tolist()])
    with torch.no_grad():
        out = model(io["x"], told)
    assert apart(out, io.get("out", io.get("out_ema"))) < 1e-5


@pytest.mark.parametrize("name", [name for name in families.CONFIGS if name.startswith("improved")])
def test_the_chain_is_that_of_its_own_code(tmp_path, name):
    """Ten ancestral steps with learned variance, every draw replayed."""
    io = families.io(name)
    save_file(families.weights(name), tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors", families.config(name))
    sampler = DDPM(model.process, 10, "uniform", var_type="learned_range")
    assert [step.t for step in sampler.transitions] == io["timesteps"].flip(0).tolist()
    draws = iter(io["noise"])
    sample = sampler.sample(model, io["x_T"], randn_like=lambda x: next(draws))
    assert apart(sample, io["sample"]) < 1e-5


def test_trained_weights_with_four_times_the_steps_draw_the_same():
    """T = 4000 with a quarter of the betas is the same diffusion, if the network is told t as it was trained on it."""
    model = load_model(PROJECT / "weights" / "openpeeps64")
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    fine = {"total_steps": 4000, "beta_start": 2.5e-5, "beta_end": 0.005, "objective": "pred_v"}

    def draw(process):
        return DDIM(process, 4).sample(model, x)

    wanted = draw(model.process)
    assert apart(draw(Process(**fine, rescale_timesteps=True)), wanted) < 0.02
    assert apart(draw(Process(**fine)), wanted) > 0.2


def test_the_chosen_class_is_none_the_worse_for_float_timesteps():
    data = Path(__file__).parent / "data"
    params = json.loads(safe_metadata(data / "adm_class_tiny.weights.safetensors"))
    config = families.config("improved_lsun_like") | {"model": {"dialect": "adm", "params": params}}
    network = load_network(data / "adm_class_tiny.weights.safetensors", config)
    io = load_file(data / "adm_class_tiny.io.safetensors")
    one = choose_class(network, int(io["y"][0]))
    x, t = io["x"][:1], io["t"][:1]
    with torch.no_grad():
        assert apart(one(x, t.float()), io["out"][:1]) < 1e-5
        assert apart(one(x, t + 0.25), io["out"][:1]) > 1e-4


def test_compiling_is_for_the_timesteps_that_the_network_will_be_told(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: lambda x, t: calls.append(t) or x)
    process = Process(total_steps=4000, rescale_timesteps=True)
    told = process.transitions("uniform", 3)[0].model_t
    Compiled(torch.nn.Identity(), (2, 3, 8, 8), torch.device("cpu"), told)
    assert calls[0].dtype == torch.float32
    Compiled(torch.nn.Identity(), (2, 3, 8, 8), torch.device("cpu"), Process().transitions("uniform", 3)[0].model_t)
    assert calls[1].dtype == torch.int64


def safe_metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()["config"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_names_and_shapes_tell_the_published_parameters(path):
    config = read_config(path)
    family = FAMILIES[config.family]
    derived = family.derive(shapes_of(family, build_network(config)), config.image_size)
    said = family.defaults() | dict(config.params)
    wrong = {name: value for name, value in derived.items() if name in said and not same_value(value, said[name])}
    assert not wrong
    assert set(config.params) - set(derived) <= HIDDEN[config.family] | set(family.ignored_params)


@pytest.mark.parametrize("name", families.CONFIGS)
def test_names_and_shapes_tell_the_recorded_parameters(name):
    family, params, _ = families.CONFIGS[name]
    shapes = {FAMILIES[family].newer(key): tuple(value.shape) for key, value in families.weights(name).items()}
    derived = FAMILIES[family].derive(shapes, 16)
    assert all(same_value(value, params[key]) for key, value in derived.items() if key in params)
    assert set(params) - set(derived) <= HIDDEN[family] | set(FAMILIES[family].ignored_params)


ADM = {"in_channels": 3, "model_channels": 64, "out_channels": 3, "channel_mult": (1, 0.5), "num_heads": 2}
XYF = {"in_channels": 1, "out_channels": 1, "dim": 32, "dim_mults": [1, 2, 2], "use_attn": [False, True, False]}
SDE = {"image_size": 16, "nf": 32, "ch_mult": [1, 2, 2], "attn_resolutions": [8], "num_channels": 1}
SMALL = [  # networks of other kinds than any published one
    ("adm", ADM | {"num_res_blocks": 2, "attention_resolutions": [1], "conv_resample": False, "num_classes": 7}),
    ("adm", ADM | {"num_res_blocks": 1, "attention_resolutions": [], "channel_mult": (1, 2, 2)}),
    ("adm", ADM | {"num_res_blocks": 3, "attention_resolutions": [], "channel_mult": (1,)}),
    ("pesser", {"resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32, "num_res_blocks": 1}
     | {"attn_resolutions": [8, 4], "ch_mult": [1, 1, 2], "resamp_with_conv": False}),
    ("diffusers", {"block_out_channels": [32, 64], "down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}
     | {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"], "downsample_type": "resnet", "upsample_type": "resnet"}
     | {"resnet_time_scale_shift": "scale_shift", "layers_per_block": 1, "num_class_embeds": 3}),
    ("xyf", XYF | {"num_res_blocks": 2, "n_heads": 2}),
    ("xyf_adagn", XYF | {"num_res_blocks": 1, "attn_head_dims": 32}),
    ("xyf_adagn", XYF | {"num_res_blocks": 2, "attn_head_dims": 32, "resblock_updown": False}),
    ("score_sde_ddpm", SDE | {"num_res_blocks": 2, "resamp_with_conv": False}),
    ("score_sde_ddpm", SDE | {"num_res_blocks": 2, "ch_mult": [1], "attn_resolutions": [16]}),
    ("score_sde_ncsnpp", SDE | {"num_res_blocks": 2}),
    ("pytorch_ddpm", {"ch": 32, "ch_mult": [1, 2, 2], "attn": [0, 2], "num_res_blocks": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "params"), SMALL)
def test_names_and_shapes_tell_what_the_network_was_built_from(family, params):
    network = build_network(Architecture(family=family, params=params))
    derived = FAMILIES[family].derive(shapes_of(FAMILIES[family], network), 16)
    said = FAMILIES[family].defaults() | params
    assert {name: value for name, value in derived.items() if not same_value(value, said.get(name, value))} == {}
    assert set(params) - set(derived) <= HIDDEN[family]


def test_the_bottom_of_xyfs_networks_has_one_head_whatever_the_others_have():
    for family, params in SMALL:
        if family.startswith("xyf"):
            network = build_network(Architecture(family=family, params=params))
            assert network.mid[0].attn.num_heads == 1
            assert network.down[1].blocks[0].attn.num_heads == 2


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("xyf_unet", {"num_res_blocks": 3}, "num_res_blocks: the file has 1, the config says 3"),
        ("xyf_unet", {"use_attn": [True, True]}, r"use_attn: the file has \[False, True\], the config says \[True, Tr"),
        ("pytorch_ddpm", {"attn": [0]}, r"attn: the file has \[1\], the config says \[0\]"),
        ("improved_lsun_like", {"use_scale_shift_norm": True}, "use_scale_shift_norm: the file has False, the config"),
        (
            "improved_lsun_like",
            {"channel_mult": [1, 2, 2]},
            r"channel_mult: the file has \[1, 2\], the config says \[1",
        ),
    ],
)
def test_a_misfit_is_told_by_the_parameter_to_change(tmp_path, name, changes, message):
    save_file(families.weights(name), tmp_path / "model.safetensors")
    config = families.config(name)
    config["model"]["params"] = config["model"]["params"] | changes
    with pytest.raises(InputError, match=f"do not fit the config: .*{message}"):
        load_network(tmp_path / "model.safetensors", config)


def broken(name, kind):
    """A recorded network's parameters with something wrong, and what is said of it."""
    state = families.weights(name)
    first, *_, last = state
    if kind == "missing":
        return {key: value for key, value in state.items() if key != last}, f"they lack {FAMILY[name].newer(last)}"
    if kind == "extra":
        return state | {"extra.weight": torch.zeros(1)}, r"the config's model has no place for extra\.weight"
    if kind == "another size":
        return state | {
            first: torch.zeros(7, 7)
        }, r"is \[7, 7\] and the config's model|do not fit the config: .*the file"
    return {f"model.diffusion_{i}": torch.zeros(1) for i in range(3)}, r"are not names of any known family"


FAMILY = {name: FAMILIES[family] for name, (family, _, _) in families.CONFIGS.items()}


@pytest.mark.parametrize("kind", ["missing", "extra", "another size", "unknown names"])
@pytest.mark.parametrize("name", families.CONFIGS)
def test_files_that_do_not_fit_are_told_in_one_line(tmp_path, name, kind):
    state, message = broken(name, kind)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(InputError, match=f"^weights {tmp_path}/model.pt.*({message})") as error:
        load_network(tmp_path / "model.pt", families.config(name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", families.CONFIGS)
def test_a_file_of_another_family_is_told(tmp_path, name):
    family, other = families.CONFIGS[name][0], "xyf_unet" if name != "xyf_unet" else "score_sde_ddpm"
    torch.save(families.weights(other), tmp_path / "m.pt")
    with pytest.raises(InputError, match=f"are of family .*, but config says model.dialect: {family}"):
        load_network(tmp_path / "m.pt", families.config(name))


@pytest.mark.parametrize("name", families.CONFIGS)
def test_a_whole_run(tmp_path, input_dir, name):
    """With its config beside the weights and of their name, which need no mention then."""
    torch.save({"ema": families.weights(name)}, tmp_path / "model.pt")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(families.config(name)))
    args = ("--weights", tmp_path / "model.pt", "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    assert run_here(*args, "--respace_steps", 2, "--n_samples", 1) == (0, "")
    assert (tmp_path / "out" / "a_0.png").exists()

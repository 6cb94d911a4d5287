"""lucidrains' network against what its own package computes, and what its files say of themselves."""

import io as streams
import math

import pytest
import torch

from diffusions import Process
from models import load_model
from models.conversion import build_network
from models.families import FAMILIES, lucidrains
from models.files.checkpoint import config_for, open_checkpoint
from models.files.config import Architecture
from models.mismatches import same_value
from tests import families
from tests.commands import read_images, run_here
from tests.families import apart
from utils.errors import InputError

FILE = "lucidrains_model-1.pt"
FAMILY = FAMILIES["lucidrains"]


@pytest.fixture
def path(tmp_path):
    return families.unpacked(FILE, tmp_path)


def config(path):
    """All that the file says, and the image size, which it does not."""
    return config_for(open_checkpoint(path), given={"image_size": 16})


@pytest.mark.parametrize(("raw_weights", "out"), [(False, "out_ema"), (True, "out_model")])
def test_the_network_returns_what_its_own_package_does(path, raw_weights, out):
    io = families.io("lucidrains_model-1")
    model = load_model(path, config(path), raw_weights)
    with torch.no_grad():
        assert apart(model(io["x"], io["t"]), io[out]) < 1e-5


def test_a_file_says_its_network_schedule_and_objective(path):
    said = config(path)
    assert said.params == {
        "dim": 16,
        "init_dim": 16,
        "out_dim": 3,
        "dim_mults": [1, 2],
        "channels": 3,
        "attn_dim_head": [32, 32],
        "attn_heads": [4, 4],
        "full_attn": [False, True],
    }
    assert (said.diffusion["beta_schedule"], said.diffusion["objective"]) == ("sigmoid_alphas", "pred_v")
    recorded = open_checkpoint(path).beside["alphas_cumprod"]
    assert torch.allclose(load_model(path, said).process.alphas_cumprod, recorded.double(), rtol=1e-4)


@pytest.mark.parametrize(
    "params",
    [
        {"dim": 8},
        {"dim": 8, "dim_mults": [1, 2, 4], "init_dim": 12, "channels": 1, "attn_heads": 2, "attn_dim_head": 8},
        {"dim": 8, "dim_mults": [1, 2], "full_attn": [True, False], "attn_dim_head": [4, 8], "attn_heads": [2, 4]},
        {"dim": 8, "dim_mults": [2], "learned_variance": True, "full_attn": True},
    ],
)
def test_names_and_shapes_tell_what_the_network_was_built_from(params):
    network = build_network(Architecture(family="lucidrains", params=params))
    names = FAMILY.names(network)
    derived = FAMILY.derive({names[name][0]: tuple(each.shape) for name, each in network.state_dict().items()}, None)
    again = build_network(Architecture(family="lucidrains", params=derived))
    assert [(name, each.shape) for name, each in network.state_dict().items()] == [
        (name, each.shape) for name, each in again.state_dict().items()
    ]
    assert all(same_value(params[key], value) for key, value in derived.items() if isinstance(params.get(key), list))
    channels = params.get("channels", 3)
    assert (network.in_channels, network.out_channels) == (channels, channels * (1 + ("learned_variance" in params)))
    assert network.size_multiple == 2 ** (len(derived["dim_mults"]) - 1)


def test_the_readmes_network_has_its_number_of_parameters():
    network = build_network(Architecture(family="lucidrains", params={"dim": 64, "dim_mults": [1, 2, 4, 8]}))
    assert sum(parameter.numel() for parameter in network.parameters()) == 35_711_491


def jabri(t: float) -> float:
    """ᾱ at a time in 0 … 1, as Jabri et al. 2022 have it, with start -3, end 3 and τ 1."""
    low, high = 1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))
    return (high - 1 / (1 + math.exp(-(6 * t - 3)))) / (high - low)


def buffers(process: Process, objective: str, min_snr: float = math.inf) -> dict[str, torch.Tensor]:
    """What GaussianDiffusion keeps of a schedule and an objective."""
    alphas_cumprod = process.alphas_cumprod
    betas = 1 - alphas_cumprod / torch.cat([torch.ones(1), alphas_cumprod[:-1]])
    snr = alphas_cumprod / (1 - alphas_cumprod)
    weight = snr.clamp(max=min_snr) / {"pred_eps": snr, "pred_x0": 1, "pred_v": snr + 1}[objective]
    return {"betas": betas.float(), "loss_weight": weight.float()}


@pytest.mark.parametrize("min_snr", [math.inf, 5])
@pytest.mark.parametrize("objective", ["pred_eps", "pred_x0", "pred_v"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"total_steps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        {"total_steps": 200, "beta_schedule": "linear", "beta_start": 5e-4, "beta_end": 0.1},
        {"total_steps": 1000, "beta_schedule": "cosine"},
        {"total_steps": 500, "beta_schedule": "sigmoid_alphas"},
    ],
)
def test_schedule_and_objective_are_told_from_the_buffers(schedule, objective, min_snr):
    said = lucidrains.read_diffusion(buffers(Process(**schedule), objective, min_snr))
    assert said["objective"] == objective
    assert {key: said[key] for key in schedule} == {
        key: pytest.approx(value, rel=1e-3) if isinstance(value, float) else value for key, value in schedule.items()
    }


def test_a_schedule_without_a_name_is_taken_as_it_is():
    process = Process(500, "quad", 1e-4, 0.02)
    said = lucidrains.read_diffusion(buffers(process, "pred_eps"))
    assert said["beta_schedule"] == "given"
    taken = Process(said["total_steps"], "given", betas=said["betas"]).alphas_cumprod
    assert torch.allclose(taken, process.alphas_cumprod, rtol=1e-4)


def test_weights_of_the_loss_that_tell_no_objective_leave_it_open():
    said = lucidrains.read_diffusion(buffers(Process(), "pred_eps") | {"loss_weight": torch.full([1000], 2.0)})
    assert "objective" not in said
    assert lucidrains.read_diffusion({}) == {}


def test_the_sigmoid_schedule_is_that_of_its_paper():
    alphas_cumprod = Process(400, "sigmoid_alphas").alphas_cumprod
    wanted = [jabri((i + 1) / 400) / jabri(0) for i in range(399)]
    assert alphas_cumprod[:-1].tolist() == pytest.approx(wanted, rel=1e-9)
    assert alphas_cumprod[-1].item() == pytest.approx(alphas_cumprod[-2].item() * 0.001)


def altered(path, change):
    """The recorded file with its names or tensors changed."""
    content = torch.load(path, weights_only=True)
    content["ema"] = {
        key: value for name, tensor in content["ema"].items() for key, value in change(name, tensor).items()
    }
    stream = streams.BytesIO()
    torch.save({"ema": content["ema"]}, stream)
    path.write_bytes(stream.getvalue())
    return path


# another project's copy of the network has no version of it
LIKE_AN_OLDER_ONE = (
    "this is a network like denoising-diffusion-pytorch's before version 2.0 of May 2024; only later ones"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, tensor: {name.replace(".2.to_qkv", ".2.fn.to_qkv"): tensor}, LIKE_AN_OLDER_ONE),
        (lambda name, tensor: {} if "mem_kv" in name else {name: tensor}, LIKE_AN_OLDER_ONE),
        (lambda name, tensor: {name.replace(".norm.g", ".norm.weight"): tensor}, LIKE_AN_OLDER_ONE),
        (
            lambda name, tensor: {name: tensor.repeat(1, 2, 1, 1) if "init_conv.weight" in name else tensor},
            "channels: the file has 6, the config says 3",
        ),
        (
            lambda name, tensor: {name: tensor, name.replace("mlp.1.weight", "mlp.0.weights"): tensor},
            r"has no place for downs\.0\.0\.mlp\.0\.weights",
        ),
        (lambda name, tensor: {} if "init_conv.bias" in name else {name: tensor}, r"they lack init_conv\.bias$"),
        (lambda name, tensor: {name: tensor, name + "s": tensor}, r"has no place for downs\.0\.0\.block1\.norm\.gs"),
        (
            lambda name, tensor: {name: tensor[:, :, :3, :3] if "init_conv.weight" in name else tensor},
            r"init_conv\.weight is \[16, 3, 3, 3\] and the config's model has \[16, 3, 7, 7\]",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(path, change, message):
    said = config(path)
    with pytest.raises(InputError, match=rf"{FILE}.*{message}"):
        load_model(altered(path, change), said)


def test_a_whole_run_asks_for_the_image_size_alone(tmp_path, path, input_dir):
    common = ("--weights", path, "--input_dir", input_dir, "--save_dir", tmp_path / "out", "--n_samples", 2)
    code, error = run_here(*common)
    assert code == 2
    assert "are of the family lucidrains, but do not say image_size (32, 64, 128 or 256): set image_size=…" in error
    common += ("--respace_steps", 3, "--downsample_factor", 4)
    assert run_here(*common, "--set", "image_size=16") == (0, "")
    assert {image.shape for image in read_images(tmp_path / "out").values()} == {(16, 16, 3)}

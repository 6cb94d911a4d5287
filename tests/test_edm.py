"""EDM's pickles: networks and preconditionings against NVlabs' own code, and what a file says of itself."""

import inspect
import json
import math

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks.module_pickles import saved_network, write_pickle
from diffusions import ContinuousProcess, Process
from diffusions.schedule import Transition
from models import load_model
from models.conversion import build_network
from models.files.checkpoint import config_for, open_checkpoint
from models.files.config import CONTINUOUS_KEYS, Architecture, parse_config
from models.files.edm import read_edm_config
from models.networks.network import NO_CLASS
from tests import families
from tests.commands import read_images, run_here
from tests.families import FOLDER, apart
from utils.errors import InputError


@pytest.fixture
def recorded(tmp_path):
    """The recorded pickles, by name."""

    def path(name):
        if name == "edm_ve_ncsnpp":
            file = FOLDER / f"{name}.weights.safetensors"
            with safe_open(file, "pt") as opened:
                arguments = json.loads(opened.metadata()["arguments"])
            state = {key: tensor.float() for key, tensor in load_file(file).items()}
            state["model.map_augment.weight"] = torch.ones(16, 9)  # of no use without augmentation
            return write_pickle(tmp_path / f"{name}.pkl", {"ema": saved_network("VEPrecond", arguments, state)})
        return families.unpacked(f"{name}.pkl", tmp_path)

    return path


@pytest.mark.parametrize("name", ["edm_vp_ddpmpp", "edm_imagenet_like_adm", "edm_ve_ncsnpp"])
def test_the_denoised_image_is_that_of_edms_own_code(recorded, name):
    io = families.io(name)
    model = load_model(recorded(name))
    for i, sigma in enumerate(io["sigma"].tolist()):
        x, class_id = io["x"][i : i + 1], io["y"][i : i + 1] if "y" in io else None
        denoised = model.process.predict(lambda x, t, c=class_id: model.network(x, t, c), *at(model.process, x, sigma))
        assert apart(denoised.pred_x0.detach(), io["denoised"][i : i + 1]) < 1e-5


def at(process, x, sigma):
    """A sample of EDM's as one of ours, and a step at its noise level."""
    level = 1 / (1 + sigma**2)
    return math.sqrt(level) * x, Transition(0, 0, level, 1.0, math.nan)


def test_ncsnpp_itself_returns_what_its_own_code_does(recorded):
    io = families.io("edm_ve_ncsnpp")
    network = load_model(recorded("edm_ve_ncsnpp")).network
    told = (io["sigma"] / 2).log()
    with torch.no_grad():
        out = network(io["x_network"], told, io["y"])
        other = network(io["x_network"], told, (io["y"] + 1) % 5)
    assert apart(out, io["out"]) < 1e-5
    assert apart(other, io["out"]) > 1e-2


@pytest.mark.parametrize("name", ["edm_imagenet_like_adm", "edm_ve_ncsnpp"])
def test_the_null_class_is_a_label_of_zeros(recorded, name):
    """Which leaves of a linear layer its bias, as if it had no weights."""
    network, io = load_model(recorded(name)).network, families.io(name)
    assert not network.null_class  # EDM's published networks dropped no labels
    given = io.get("x_network", io["x"]), io["sigma"]
    with torch.no_grad():
        none, one = (network(*given, torch.full([len(io["sigma"])], class_id)) for class_id in (NO_CLASS, 1))
        network.class_embed.weight.zero_()
        assert network(*given, torch.ones(len(io["sigma"]), dtype=torch.int64)).equal(none)
    assert apart(one, none) > 1e-3


def test_dropped_labels_make_a_null_class():
    arguments = {"img_resolution": 16, "img_channels": 3, "label_dim": 5, "label_dropout": 0.1, "model_channels": 32}
    for said, null_class in ((arguments, True), (arguments | {"label_dropout": 0}, False)):
        config = parse_config(read_edm_config("VPPrecond", said, "here"), "here")
        assert build_network(config).null_class is null_class
        assert parse_config(yaml.safe_load(config.as_yaml()), "copy").p_uncond == said["label_dropout"]


def test_the_config_that_a_pickle_says_is_one_for_other_files_too(tmp_path, recorded):
    config = tmp_path / "found.yaml"
    config.write_text(config_for(open_checkpoint(recorded("edm_ve_ncsnpp"))).as_yaml())
    model = load_model(FOLDER / "edm_ve_ncsnpp.weights.safetensors", config)
    io = families.io("edm_ve_ncsnpp")
    with torch.no_grad():
        assert apart(model.network(io["x_network"], (io["sigma"] / 2).log(), io["y"]), io["out"]) < 1e-5
    assert model.process.sigmas(2).tolist() == pytest.approx([0.02, 80])


def test_a_file_says_it_all(recorded):
    config = config_for(open_checkpoint(recorded("edm_vp_ddpmpp")))
    assert (config.image_size, config.image_channels) == (16, 3)
    assert isinstance(config.make_process(), ContinuousProcess)
    model = load_model(recorded("edm_imagenet_like_adm"))
    assert (model.network.num_classes, model.network.in_channels, model.network.size_multiple) == (10, 3, 2)


def test_a_config_has_a_key_for_each_argument_of_a_continuous_process():
    assert CONTINUOUS_KEYS.keys() == inspect.signature(ContinuousProcess).parameters.keys()


PLAIN = {"img_resolution": 8, "img_channels": 3, "model_channels": 8, "channel_mult": [1], "num_blocks": 1}
PLAIN |= {"attn_resolutions": []}


def pickled(folder, class_name="EDMPrecond", **changes):
    arguments = PLAIN | {"model_type": "SongUNet"} | changes
    state = {"model.map_layer0.weight": torch.zeros(32, 8), "model.x": torch.zeros(1)}
    return write_pickle(folder / "net.pkl", {"ema": saved_network(class_name, arguments, state)})


def test_sampling_stays_within_the_noise_levels_of_training(tmp_path):
    for class_name, low, high in (("EDMPrecond", 0.002, 80), ("VPPrecond", 0.002, 80), ("VEPrecond", 0.02, 80)):
        process = config_for(open_checkpoint(pickled(tmp_path, class_name))).make_process()
        assert process.sigmas(2).tolist() == pytest.approx([low, high])
    narrow = pickled(tmp_path, "VEPrecond", sigma_min=0.1, sigma_max=50.0)
    assert config_for(open_checkpoint(narrow)).make_process().sigmas(2).tolist() == pytest.approx([0.1, 50])
    given = config_for(open_checkpoint(narrow), given={"sigma_max": 20, "respace_steps": 30})
    assert given.make_process().sigmas(2).tolist() == pytest.approx([0.1, 20])
    assert given.diffusion["respace_steps"] == 30


def test_improved_ddpm_is_a_process_of_discrete_steps(tmp_path):
    """EDM's iDDPMPrecond in the paper's words: noise levels u_j, c_skip 1, c_out -σ, c_in 1/√(σ²+1), c_noise M-1-j."""
    config = config_for(open_checkpoint(pickled(tmp_path, "iDDPMPrecond")))
    process = config.make_process()
    assert type(process) is Process
    assert build_network(config).out_channels == 6
    u, levels = 0.0, []
    for j in range(1000, 0, -1):
        ratio = math.sin(math.pi / 2 * (j - 1) / 1000 / 1.008) ** 2 / math.sin(math.pi / 2 * j / 1000 / 1.008) ** 2
        u = math.sqrt((u**2 + 1) / max(ratio, 0.001) - 1)
        levels.append(u)
    sigmas = (1 / process.alphas_cumprod - 1).sqrt()
    assert sigmas.tolist() == pytest.approx(levels, rel=1e-6)

    x, t = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 300
    transition = next(each for each in process.transitions() if each.t == t)
    process.clip_denoised = False
    output = torch.cat([x.sin(), x], dim=1)
    seen = []
    prediction = process.predict(lambda x, told: seen.append((x, told)) or output, x, transition)
    sigma = levels[t]
    assert (prediction.pred_x0 - (math.sqrt(1 + sigma**2) * x - sigma * x.sin())).abs().max() < 1e-4
    assert torch.equal(seen[0][0], x)  # c_in·x_σ is x
    assert seen[0][1].item() == t  # M-1-j


@pytest.mark.parametrize(
    ("class_name", "changes", "message"),
    [
        (
            "EDM2Precond",
            {},
            "are of class 'EDM2Precond'; only EDMPrecond, VPPrecond, VEPrecond, iDDPMPrecond are supported",
        ),
        ("VPPrecond", {"beta_d": 10.0}, r"beta_d 10\.0 of VPPrecond is not supported \(only 19\.9\)"),
        ("iDDPMPrecond", {"M": 4000}, r"M 4000 of iDDPMPrecond is not supported \(only 1000\)"),
        ("EDMPrecond", {"sigma_data": "half"}, "sigma_data of EDMPrecond must be a number, not 'half'"),
        ("EDMPrecond", {"img_resolution": None}, "img_resolution of EDMPrecond must be a number, not None"),
        ("EDMPrecond", {"img_channels": "3"}, "img_channels of EDMPrecond must be a number, not '3'"),
        ("EDMPrecond", {"img_channels": 0}, "image_channels must be at least 1, not 0"),
        ("EDMPrecond", {"img_resolution": 8.5}, "image_size must be of type int, not 8.5"),
        (
            "EDMPrecond",
            {"model_type": "DiT"},
            "model_type of an EDM network must be one of SongUNet, DhariwalUNet, not 'DiT'",
        ),
        ("EDMPrecond", {"encoder_type": "skip"}, r"encoder_type 'skip' of a SongUNet is not supported \(only standard"),
        ("EDMPrecond", {"decoder_type": "skip"}, r"decoder_type 'skip' of a SongUNet is not supported \(only standard"),
        ("EDMPrecond", {"embedding_type": "zero"}, "embedding_type 'zero' of a SongUNet is not supported"),
        ("EDMPrecond", {"resample_filter": [1, 2, 1]}, r"resample_filter \[1, 2, 1\] of a SongUNet is not supported"),
        ("EDMPrecond", {"colour": 1}, "unexpected keyword argument 'colour'"),
        ("EDMPrecond", {}, r"they lack dec\.8x8_aux_conv\.bias, .* and the config's model has no place for x"),
    ],
)
def test_a_network_that_is_not_known_is_refused_by_name(tmp_path, class_name, changes, message):
    with pytest.raises(InputError, match=message):
        load_model(pickled(tmp_path, class_name, **changes))


DDPMPP = {
    "embedding_type": "positional",
    "encoder_type": "standard",
    "channel_mult_noise": 1,
    "resample_filter": [1, 1],
}
NCSNPP = {"embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2}
NCSNPP |= {"resample_filter": [1, 3, 3, 1]}


@pytest.mark.parametrize(
    ("params", "count"),  # what NVlabs' classes have on the arguments of its train.py, without the augmentation's layer
    [
        ({"model_type": "SongUNet", "img_resolution": 32, "channel_mult": [2, 2, 2]} | DDPMPP, 55_732_739),
        ({"model_type": "SongUNet", "img_resolution": 32, "channel_mult": [2, 2, 2]} | NCSNPP, 56_395_523),
        ({"model_type": "SongUNet", "img_resolution": 64, "channel_mult": [1, 2, 2, 2]} | DDPMPP, 61_804_419),
        ({"model_type": "SongUNet", "img_resolution": 64, "channel_mult": [1, 2, 2, 2]} | NCSNPP, 62_758_787),
        ({"model_type": "DhariwalUNet", "img_resolution": 64, "label_dim": 1000}, 295_899_267),
    ],
)
def test_full_size_networks_have_the_published_number_of_parameters(params, count):
    network = build_network(Architecture(family="edm", params=params | {"in_channels": 3, "out_channels": 3}))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_a_whole_run_needs_the_file_alone(tmp_path, recorded, input_dir):
    common = ("--input_dir", input_dir, "--n_samples", 2, "--respace_steps", 3, "--downsample_factor", 4)
    path = recorded("edm_vp_ddpmpp")
    for sampler in ("ddpm", "ddim"):
        code, error = run_here("--weights", path, *common, "--save_dir", tmp_path / sampler, "--sampler", sampler)
        assert (code, error) == (0, "")
        images = read_images(tmp_path / sampler)
        assert {image.shape for image in images.values()} == {(16, 16, 3)}
        assert len(images) == 2

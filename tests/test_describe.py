"""Weights without a config: what is found out, what is taken from known checkpoints, what is asked for."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from models import load_model
from models.conversion import build_network
from models.families import FAMILIES
from models.files.checkpoint import Checkpoint, config_for, open_checkpoint
from models.files.config import parse_config, read_config
from models.files.describe import INDEX, describe
from tests import families
from tests.commands import read_images, run_here
from tests.families import apart
from tests.test_checkpoints import run_main
from utils.errors import InputError
from utils.files import PROJECT

CONFIGS = {path.stem: read_config(path) for path in sorted((PROJECT / "configs").glob("*.yaml"))}
IMPROVED = {"image_size": 16, "num_heads": 4, "use_new_attention_order": False, "total_steps": 4000}
IMPROVED |= {"beta_schedule": "cosine", "objective": "pred_eps", "rescale_timesteps": True}
PLAIN = {"image_size": 16, "total_steps": 1000, "beta_schedule": "linear", "objective": "pred_eps"}


def checkpoint_of(config, path: Path = Path("here")) -> Checkpoint:
    """A file of a config's network: names and shapes alone."""
    family, network = FAMILIES[config.family], build_network(config)
    names = family.names(network)
    shapes = {}
    for name, own in network.state_dict().items():
        for theirs in names[name]:
            shapes[theirs] = (own.shape[0] // len(names[name]), *own.shape[1:])
    return Checkpoint(path, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})


@pytest.mark.parametrize(
    "name", ["p2_ffhq_256", "adm_imagenet_64_class", "pesser_cifar10_32", "google_ddpm_cifar10_32"]
)
def test_a_known_checkpoint_is_recognised(name):
    config = CONFIGS[name]
    found = describe(checkpoint_of(config, Path("somewhere") / Path(config.weights).name), {})
    said = FAMILIES[config.family].defaults()
    ignored = FAMILIES[config.family].ignored_params
    wanted = {key: value for key, value in config.params.items() if key not in ignored or key in found.params}
    assert (said | wanted).items() <= (said | dict(found.params)).items()
    assert (found.image_size, found.diffusion) == (config.image_size, config.diffusion)
    assert f"look like those of {name}" in found.note
    assert found.sources["image_size"] == f"as in {name}.yaml"


def test_the_index_of_configs_has_each_by_its_family_and_number_of_parameters():
    index: dict[str, list[str]] = {}
    for name, config in CONFIGS.items():
        count = sum(tensor.numel() for tensor in build_network(config).state_dict().values())
        index.setdefault(f"{config.family} {count}", []).append(name)
    assert json.loads(INDEX.read_text()) == index, f"{INDEX} should hold {json.dumps(index, indent=2)}"
    assert max(map(len, index.values())) <= 10  # these are read for weights that look like them


@pytest.mark.parametrize("name", ["edm_imagenet_64_class", "edm_lsun_bedroom_256"])
def test_the_attention_of_openais_edm_networks_tells_them_from_others_of_their_size(name):
    config, plain = CONFIGS[name], checkpoint_of(CONFIGS[name])
    edm = {key: value[:, :, None, None] if ".qkv.weight" in key else value for key, value in plain.tensors.items()}
    found = describe(Checkpoint(Path("edm.pt"), edm), {})
    assert (found.image_size, found.params["use_new_attention_order"]) == (config.image_size, True)
    assert found.diffusion == config.diffusion
    with pytest.raises(InputError, match=r"do not say .*beta_schedule .*objective"):
        describe(plain, {})


def test_what_known_checkpoints_disagree_on_is_asked_for():
    one = CONFIGS["pesser_cifar10_32"]
    other = parse_config(one.content() | {"diffusion": one.diffusion | {"objective": "pred_v"}}, "config other.yaml")
    with pytest.raises(
        InputError, match=r"family pesser, but do not say objective \(pred_eps, pred_v or pred_x0\): set"
    ):
        describe(checkpoint_of(one), {}, [one, other])
    assert describe(checkpoint_of(one), {"objective": "pred_v"}, [one, other]).diffusion["objective"] == "pred_v"


def save(folder, name) -> Path:
    path = folder / "model.safetensors"
    weights = families.weights(name)
    if name == "pytorch_ddpm":
        weights["time_embedding.timembedding.0.weight"] = torch.zeros(1000, 32)
    save_file(weights, path)
    return path


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("improved_cosine4000_rescaled", IMPROVED),
        ("pytorch_ddpm", {"image_size": PLAIN["image_size"]}),
        ("score_sde_ddpm", {"image_size": PLAIN["image_size"]}),
        ("xyf_unet", PLAIN | {"n_heads": 1}),
    ],
)
def test_what_the_file_does_not_say_is_enough(tmp_path, name, given):
    """With the values given that are asked for, the network is the one that its own code made; without any, all are."""
    path = save(tmp_path, name)
    config = config_for(open_checkpoint(path), given=given)
    io = families.io(name)
    model = load_model(path, config)
    with torch.no_grad():
        out = model(io["x"], torch.tensor([model.process.model_t(t) for t in io["t"].tolist()]))
    assert apart(out, io.get("out", io.get("out_ema"))) < 1e-5
    for key in given:
        left = {other: value for other, value in given.items() if other != key}
        with pytest.raises(InputError, match=rf"do not say .*{key}.*set .*=…, or give a config"):
            config_for(open_checkpoint(path), given=left)
    with pytest.raises(InputError, match="have no setting colour; settings are image_size, "):
        config_for(open_checkpoint(path), given=given | {"colour": 3})


def test_the_written_config_makes_the_same_model(tmp_path):
    path = save(tmp_path, "improved_cosine4000_rescaled")
    config = config_for(open_checkpoint(path), given=IMPROVED)
    text = config.as_yaml()
    assert parse_config(yaml.safe_load(text), "here") == config
    assert "  total_steps: 4000  # given\n" in text
    assert "    num_res_blocks: 1\n" in text


def test_a_yaml_of_the_same_name_comes_first(tmp_path):
    path = save(tmp_path, "xyf_unet")
    path.with_suffix(".yaml").write_text(yaml.safe_dump(families.config("xyf_unet")))
    assert config_for(open_checkpoint(path)) == parse_config(families.config("xyf_unet"), "here")
    assert (
        config_for(open_checkpoint(path)).note == f"Using the config beside the weights, {path.with_suffix('.yaml')}."
    )
    assert "    n_heads: 2  # given\n" in config_for(open_checkpoint(path), given={"n_heads": 2}).as_yaml()
    assert config_for(open_checkpoint(path), given={"objective": "pred_v"}).diffusion["objective"] == "pred_v"


RESEARCH = {
    "seed": 2022,
    "data": {"target": "datasets.cifar10.CIFAR10", "params": {"root": "~/data", "img_size": 16}, "img_channels": 3},
    "dataloader": {"num_workers": 4},
    "model": {"target": "models.unet.UNet", "params": families.CONFIGS["xyf_unet"][1]},
    "diffusion": {"target": "diffusions.ddpm.DDPM", "params": {"total_steps": 1000, "beta_schedule": "linear"}},
    "train": {"n_steps": 800000},
}


def test_the_research_repositorys_own_yaml_is_read_as_it_is(tmp_path):
    folder = tmp_path / "run" / "ckpt" / "step000010"
    folder.mkdir(parents=True)
    torch.save({"model": families.weights("xyf_unet")}, folder / "ema_model.pt")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(RESEARCH))
    config = config_for(open_checkpoint(folder))
    assert config.params == families.CONFIGS["xyf_unet"][1]
    assert (config.family, config.image_size, config.diffusion) == ("xyf", 16, families.DIFFUSION)
    io = families.io("xyf_unet")
    with torch.no_grad():
        assert apart(load_model(folder)(io["x"], io["t"]), io["out_ema"]) < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"target": "os.system", "params": {}}},
            r"model.target 'os.system' is not supported \(only models.un",
        ),
        ({"diffusion": {"target": "diffusions.edm.EDM"}}, "diffusion.target 'diffusions.edm.EDM' is not supported"),
        ({"data": {"params": {}}}, r"data\.params\.img_size is missing"),
        ({"data": 3}, "data must be a mapping"),
        ({"model": {"target": ["models.unet.UNet"]}}, r"model.target .* is not supported"),
    ],
)
def test_other_targets_are_refused(changes, message):
    with pytest.raises(InputError, match=f"here: {message}"):
        parse_config(RESEARCH | changes, "here")


def test_the_command_without_a_config(tmp_path, input_dir, capsys):
    """What is open is asked for in one line; set, it samples, and writes the config that it found."""
    path = save(tmp_path, "improved_lsun_like")
    args = ("--weights", path, "--input_dir", input_dir, "--save_dir", tmp_path / "out", "--respace_steps", 2)
    line = run_main(capsys, *args)
    assert "do not say image_size (32, 64, 128 or 256); num_head_channels or num_heads (" in line
    assert line.endswith("beta_schedule=… objective=…, or give a config")
    values = ["image_size=16", "num_heads=1", "use_new_attention_order=false", "total_steps=1000"]
    values += ["beta_schedule=linear", "objective=pred_eps"]
    assert run_here(*args, "--set", *values) == (0, "")
    images = read_images(tmp_path / "out")
    assert len(images) == 3

    assert run_here(*args, "--set", *values, "--write_config", tmp_path / "found.yaml") == (0, "")
    assert run_here("-c", tmp_path / "found.yaml", *args[2:], "--overwrite") == (0, "")
    assert all((read_images(tmp_path / "out")[name] == image).all() for name, image in images.items())


def test_of_two_known_checkpoints_alike_the_files_own_name_decides():
    one = CONFIGS["pesser_cifar10_32"]
    other = one.content() | {"diffusion": one.diffusion | {"objective": "pred_v"}, "weights": "weights/other/own.pt"}
    known = [one, parse_config(other, "config other.yaml")]
    assert describe(checkpoint_of(one, Path("somewhere/own.pt")), {}, known).diffusion["objective"] == "pred_v"
    assert describe(checkpoint_of(one, Path(one.weights)), {}, known).diffusion["objective"] == "pred_eps"

"""--class_id: which class a class-conditional model draws."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from models import choose_class, load_network
from tests.commands import read_images, sample_ilvr
from tests.test_adm import golden_config
from tests.test_checkpoints import run_main
from utils.errors import InputError

DATA = Path(__file__).parent / "data"
WEIGHTS = DATA / "adm_class_tiny.weights.safetensors"


@pytest.fixture(scope="module")
def unet():
    return load_network(WEIGHTS, golden_config("adm_class_tiny", "adm"))


def test_the_chosen_class_is_drawn(unet):
    io = load_file(DATA / "adm_class_tiny.io.safetensors")
    for label, x, t, out in zip(io["y"].tolist(), io["x"], io["t"], io["out"], strict=True):
        with torch.no_grad():
            ours = choose_class(unet, label)(x[None], t[None])
        assert (ours[0] - out).abs().max() / out.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("class_id", "message"),
    [
        (None, r"the model is class-conditional: choose class_id 0 … 9"),
        (10, r"class_id must be 0 … 9, not 10"),
        (-1, r"class_id must be 0 … 9, not -1"),
    ],
)
def test_classes_there_are_none_of(unet, class_id, message):
    with pytest.raises(InputError, match=message):
        choose_class(unet, class_id)


def test_unconditional_models_have_no_class():
    unet = load_network(DATA / "adm_p2_tiny.weights.safetensors", golden_config("adm_p2_tiny", "adm"))
    assert choose_class(unet, None) is unet
    with pytest.raises(InputError, match="class_id 0: the model is unconditional, it has no classes"):
        choose_class(unet, 0)


@pytest.mark.slow
def test_the_command(tmp_path, input_dir, capsys):
    config = golden_config("adm_class_tiny", "adm") | {"weights": str(WEIGHTS)}
    config["diffusion"] = config["diffusion"] | {"var_type": "learned_range"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    args = ("-c", tmp_path / "config.yaml", "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    done = sample_ilvr(*args, "--respace_steps", 2, "--class_id", 3)
    assert done.returncode == 0, done.stderr
    assert len(read_images(tmp_path / "out")) == 3
    assert "class_id: 3\n" in (tmp_path / "out" / "run.yaml").read_text()

    line = run_main(capsys, *args, "--save_dir", tmp_path / "other")
    assert line == "sample_ilvr: error: the model is class-conditional: choose class_id 0 … 9"

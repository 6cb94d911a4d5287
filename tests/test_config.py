"""Configs: what they may say, and how a mistake in one is told."""

import copy
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from diffusions import Process
from models.files.checkpoint import config_for, find_weights, open_checkpoint
from models.files.config import PROCESS_KEYS, parse_config, read_config
from utils.errors import InputError
from utils.files import PROJECT

GOOD: dict[str, Any] = {
    "image_size": 32,
    "image_channels": 3,
    "weights": "weights/openpeeps64",
    "model": {"dialect": "pesser", "params": {"ch": 32}},
    "diffusion": {"total_steps": 1000, "beta_schedule": "linear", "objective": "pred_eps", "var_type": "fixed_small"},
}
SCHEDULER = {"num_train_timesteps": 500, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def changed(path: str, *value: Any) -> dict[str, Any]:
    """GOOD with the value at a dotted path set, or without a value taken out."""
    config = copy.deepcopy(GOOD)
    *parents, key = path.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place.pop(key, None)
    place |= {key: value[0]} if value else {}
    return config


def test_a_good_config_is_read(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    config = read_config(path)
    assert (config.image_size, config.image_channels, config.weights) == (32, 3, "weights/openpeeps64")
    assert (config.family, config.params, config.diffusion) == ("pesser", {"ch": 32}, GOOD["diffusion"])
    assert config.total_steps == 1000
    assert config == config_for(None, path) == config_for(None, GOOD) == config_for(None, config)


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_of_the_project_is_read_and_makes_a_process(path):
    assert read_config(path).make_process().transitions()


def test_process_keys_are_its_arguments_in_their_order():
    assert list(PROCESS_KEYS) == list(inspect.signature(Process).parameters)


@pytest.mark.parametrize("path", ["image_sise", "model.class", "diffusion.steps"])
def test_an_unknown_key_is_named_with_the_known_ones(path):
    with pytest.raises(InputError, match=rf"^here: unknown key {path}; known are \w+, "):
        parse_config(changed(path, 1), "here")


@pytest.mark.parametrize(
    "path",
    [
        "image_size",
        "image_channels",
        "model",
        "diffusion",
        "model.dialect",
        "model.params",
        "diffusion.total_steps",
        "diffusion.beta_schedule",
        "diffusion.objective",
        "diffusion.var_type",
    ],
)
def test_a_missing_key_is_named(path):
    with pytest.raises(InputError, match=f"^here: key {path} is missing$"):
        parse_config(changed(path), "here")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("image_size", "32", "image_size must be of type int, not '32'"),
        ("image_size", True, "image_size must be of type int, not True"),
        ("image_size", None, "image_size must be of type int, not None"),
        ("image_size", 0, "image_size must be at least 1, not 0"),
        ("image_channels", 0, "image_channels must be at least 1, not 0"),
        ("weights", 7, "weights must be of type str, not 7"),
        ("model", [], "model must be of type dict"),
        ("model.params", "ch: 32", "model.params must be of type dict"),
        ("model.params", {1: 2}, "the keys of model.params must be names"),
        ("diffusion.total_steps", 1e3, "diffusion.total_steps must be of type int, not 1000.0"),
        ("diffusion.total_steps", -1, "diffusion.total_steps must be at least 1, not -1"),
        ("diffusion.beta_start", "1e-4", "diffusion.beta_start must be of type int or float, not '1e-4'"),
        ("diffusion.clip_denoised", 1, "diffusion.clip_denoised must be of type bool, not 1"),
    ],
)
def test_a_value_of_another_type_or_size_is_told(path, value, message):
    with pytest.raises(InputError, match=f"^here: {message}"):
        parse_config(changed(path, value), "here")


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_a_config_that_is_no_mapping_is_refused(content):
    with pytest.raises(InputError, match=r"^here: the file must be a mapping"):
        parse_config(content, "here")


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir", "!!python/object:os.system", "!!python/name:os.system", "!target"]
)
def test_a_config_cannot_name_code(tag, tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"image_size: {tag} ['{tmp_path / 'made'}']\n")
    with pytest.raises(InputError, match=r"evil\.yaml: is not valid YAML: could not determine a constructor"):
        read_config(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not a text file"),
        (b"", "the file must be a mapping"),
        (b"a: 2020-13-45", "is not valid YAML"),
        (b"[" * 5000, "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_yaml_is_one_clear_line(content, message, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"broken\.yaml: {message}") as error:
        read_config(path)
    assert "\n" not in str(error.value)


def test_an_absent_config_is_an_input_error(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(InputError, match=f"config {path}: cannot be read: "):
            read_config(path)


def test_weights_that_do_not_say_their_config_need_one(tmp_path):
    with pytest.raises(InputError, match="neither weights nor a config are given"):
        config_for(None)


def test_weights_are_found_from_the_working_folder_then_from_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_weights("weights/openpeeps64") == PROJECT / "weights/openpeeps64"
    (tmp_path / "weights" / "openpeeps64").mkdir(parents=True)
    assert find_weights("weights/openpeeps64").resolve() == tmp_path / "weights/openpeeps64"
    with pytest.raises(InputError, match="weights nowhere: no such file"):
        find_weights("nowhere")


def save_folder(folder, model: Any = None, scheduler: Any = SCHEDULER) -> None:
    (folder / "config.json").write_text(json.dumps(model or {"_class_name": "UNet2DModel", "sample_size": 64}))
    (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    save_file({"conv_norm_out.weight": torch.ones(1)}, folder / "diffusion_pytorch_model.safetensors")


def test_a_diffusers_folder_is_its_own_config(tmp_path):
    save_folder(tmp_path)
    config = config_for(open_checkpoint(tmp_path))
    assert (config.image_size, config.image_channels, config.weights) == (64, 3, str(tmp_path))
    assert (config.family, config.params) == ("diffusers", {"sample_size": 64})
    assert config.diffusion == {
        "total_steps": 500,
        "beta_schedule": "cosine",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "objective": "pred_v",
        "var_type": "fixed_small",
        "clip_denoised": True,
        "respace_type": "diffusers-leading",
    }


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"beta_schedule": "exp"}, "beta_schedule 'exp' is not supported"),
        ({"prediction_type": "flow"}, "prediction_type 'flow' is not supported"),
        ({"variance_type": "learned"}, "variance_type 'learned' is not supported"),
        ({"prediction_type": ["epsilon"]}, r"prediction_type \['epsilon'\] is not supported"),
        ({"trained_betas": ["many"]}, "trained_betas must be a list of numbers, not"),
        ({"trained_betas": [0.1] * 2000, "beta_schedule": "exp"}, "beta_schedule 'exp' is not supported"),
        ({"clip_sample_range": "wide"}, "clip_range must be of type int or float, not 'wide'"),
        ({"timestep_spacing": "leading", "steps_offset": 2}, "timestep_spacing 'leading' with steps_offset 2 is not"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas is not supported: such networks learn flow matching"),
        ({"num_train_timesteps": "many"}, "total_steps must be of type int"),
        ([], "must hold a JSON object"),
    ],
)
def test_a_scheduler_that_has_no_counterpart_is_refused(scheduler, message, tmp_path):
    save_folder(tmp_path, scheduler=scheduler)
    with pytest.raises(InputError, match=message):
        config_for(open_checkpoint(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json"])
def test_a_folder_with_a_missing_or_broken_file_names_it(name, tmp_path):
    save_folder(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(InputError, match=f"{name}: is not valid JSON"):
        config_for(open_checkpoint(tmp_path))
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: cannot be read|hold no {name}, which says what diffusion"):
        config_for(open_checkpoint(tmp_path))


def test_the_command_reads_its_arguments_before_torch_is_imported():
    code = "import sys, sample_ilvr; sample_ilvr.parse_args([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0

"""Defaults of a run: the config's own, the command line's in their place, the paper's where neither speaks."""

import shutil
from pathlib import Path

import pytest
import yaml

from models.files.config import parse_config, read_config
from tests.commands import run_here
from tests.test_config import GOOD
from utils.errors import InputError
from utils.files import PROJECT
from utils.run.arguments import ARGUMENTS, parse_args
from utils.run.resolve import resolve
from utils.run.settings import Settings

ATLAS, OPENPEEPS = (PROJECT / "configs" / f"{name}64.yaml" for name in ("atlas", "openpeeps"))


def settings(*args: object) -> Settings:
    return resolve(parse_args([str(arg) for arg in args]))[0]


def with_sampling(folder: Path, **sampling: object) -> Path:
    """The embedded model's config with other defaults."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(OPENPEEPS.read_text()) | {"sampling": sampling}))
    return path


def test_each_embedded_model_has_its_own_references_and_defaults():
    maps, portraits = settings(), settings("-c", OPENPEEPS)
    assert [found.input_dir.name for found in (maps, portraits)] == ["maps", "references"]
    assert (maps.refine, maps.walk_steps, maps.range_t, maps.downsample_factor) == ("sample", 20, (2,), (4.0,))
    assert (portraits.refine, portraits.walk_steps, portraits.range_t) == ("regions", 10, (2,))
    assert portraits.identity["refine"] == "regions"


def test_references_that_are_given_replace_the_configs_own(tmp_path):
    shutil.copy(PROJECT / "assets" / "word.png", tmp_path)
    assert settings("--input_dir", tmp_path).input_dir == tmp_path
    assert settings("--set", "clip_denoised=true").input_dir == PROJECT / "assets" / "maps"


def test_the_command_line_has_the_last_word():
    found = settings("--refine", "sample", "--range_t", 0, "--respace_steps", 50, "--downsample_factor", 4, 8)
    assert (found.refine, found.walk_steps, found.range_t, found.downsample_factor) == ("sample", 50, (0,), (4, 8))
    assert "refine" not in found.identity  # as in the records of images made before there was a choice


def test_where_a_config_says_nothing_the_papers_defaults_hold():
    for path in sorted((PROJECT / "configs").glob("*.yaml")):
        if path not in (ATLAS, OPENPEEPS):
            assert not read_config(path).sampling, path
    found = settings("--weights", PROJECT / "weights" / "openpeeps64")
    assert (found.refine, found.walk_steps, found.range_t, found.strength) == ("sample", 1000, (0,), 1)
    assert (found.downsample_factor, found.interp_method, found.low_pass) == ((8.0,), "cubic", "resize")


def test_a_config_may_have_sweeps_and_each_argument_of_its_keys(tmp_path):
    values = {
        "respace_type": "quad",
        "interp_method": "box",
        "low_pass": "projection",
        "strength": 0.5,
        "refine_weight": 0.7,
        "detail": 0.5,
    }
    path = with_sampling(
        tmp_path, downsample_factor=[4, 16], range_t=[0, "50%"], respace_steps=8, refine="sample", **values
    )
    found = settings("-c", path)
    assert {name for name, its in ARGUMENTS.items() if its.in_config} == read_config(path).sampling.keys()
    assert (found.downsample_factor, found.range_t, found.walk_steps) == ((4, 16), (0, 2), 4)
    assert (found.diffusion["respace_type"], found.interp_method, found.low_pass) == ("quad", "box", "projection")


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"guide": "regions"}, "unknown key sampling.guide; it must be one of "),
        ({"refine": 3}, "sampling.refine must be of type str, not 3"),
        ({"refine": "region"}, "sampling.refine must be one of sample, regions, not 'region'"),
        ({"range_t": 0.2}, "sampling.range_t must be of type str, not 0.2"),
        ({"downsample_factor": [8, []]}, "sampling.downsample_factor must be of type str, not []"),
        ({"strength": 2}, "sampling.strength must be 0.001 … 1, not 2"),
        ({"seed": 3}, "unknown key sampling.seed"),
    ],
)
def test_what_sampling_cannot_be(tmp_path, sampling, message):
    with pytest.raises(InputError) as raised:
        settings("-c", with_sampling(tmp_path, **sampling))
    assert str(raised.value).startswith(f"config {tmp_path}/config.yaml: {message}")


def test_sampling_must_be_a_mapping():
    with pytest.raises(InputError, match="here: sampling must be of type dict, not 'regions'"):
        parse_config(GOOD | {"sampling": "regions"}, "here")


@pytest.mark.parametrize(
    ("strength", "steps"), [(1, 50), (0.999, 50), (0.5, 25), (0.28, 14), (0.2, 10), (0.03, 2), (0.02, 1), (0.001, 1)]
)
def test_a_strength_walks_its_share_of_the_steps(strength, steps):
    assert settings("--respace_steps", 50, "--strength", strength).walk_steps == steps


@pytest.mark.parametrize(
    ("given", "strength", "steps"),
    [("20%", 1, 10), ("20%", 0.5, 5), ("19.9%", 1, 9), ("14%", 1, 7), ("0%", 1, 0), ("100%", 1, 50), ("7", 1, 7)],
)
def test_a_range_may_be_a_share_of_the_steps_walked(given, strength, steps):
    assert settings("--respace_steps", 50, "--strength", strength, "--range_t", given).range_t == (steps,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("20x%", "--range_t must be a number of steps or a share like 20%, not '20x%'"),
        ("2%0", "--range_t must be a number of steps or a share like 20%, not '2%0'"),
        ("0.2", "--range_t must be a number of steps or a share like 20%, not '0.2'"),
        ("1e99999999%", "--range_t must be a number of steps or a share like 20%, not '1e99999999%'"),
        ("1/0%", "--range_t must be a number of steps or a share like 20%, not '1/0%'"),
        ("120%", "--range_t must be 0 … 20, not 24"),
        ("-1%", "--range_t must be 0 … 20, not -1"),
    ],
)
def test_what_a_range_cannot_be(given, message):
    with pytest.raises(InputError, match="^" + message.replace("…", ".")):
        settings(f"--range_t={given}")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--range_t", 0, 3, 4), ["--range_t 4 leaves every step unrefined: its images follow no reference"]),
        (("--range_t", "100%"), ["--range_t 4 leaves every step unrefined: its images follow no reference"]),
        (("--range_t", 3), []),
        (("--range_t", 4, "--strength", 0.5), []),
    ],
)
def test_a_range_that_leaves_nothing_of_the_references_is_said(tmp_path, tiny_model, input_dir, capsys, args, said):
    command = ("--weights", tiny_model, "--input_dir", input_dir, "--save_dir", tmp_path / "out", "--respace_steps", 4)
    assert run_here(*command, *args, "--downsample_factor", 4, "--dry_run") == (0, "")
    assert [line for line in capsys.readouterr().out.splitlines() if "follow no reference" in line] == said

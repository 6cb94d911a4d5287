"""--check_model, with a few wrong settings; python -m benchmarks.check_model has them all."""

import pytest

from benchmarks.check_model import WEIGHTS, WRONG, wrong_config
from benchmarks.held_out import load_held_out
from models import open_checkpoint
from models.files.config import parse_config
from tests import families
from tests.commands import sample_ilvr
from utils.run import check
from utils.run.check import neighbours


@pytest.mark.slow
@pytest.mark.parametrize("name", ["head width 64", "objective"])
def test_the_right_setting_is_named(monkeypatch, name):
    """Among a few of its neighbours, with pictures of the model's domain."""
    config, right = wrong_config(name), WRONG[name][2]
    few = [
        each
        for each in neighbours(config)
        if check.Comparison(each[0], 0, 0, 0).name in (right, "attention_head_dim 8")
    ]
    monkeypatch.setattr(check, "neighbours", lambda config: few)
    monkeypatch.setattr(check, "SAMPLE_STEPS", 1)
    loss, (best, *_) = check.compare(open_checkpoint(WEIGHTS), config, None, load_held_out()[:2])
    assert 0 < loss < 10
    assert best.is_clearly_better
    assert best.name == right


def test_neighbours_differ_in_one_thing_that_shapes_do_not_tell():
    config = parse_config(families.config("improved_cosine4000_rescaled"), "here")
    changes = [change for change, _ in neighbours(config)]
    assert {"rescale_timesteps": False} in changes
    assert {"use_new_attention_order": True} in changes
    assert {"num_head_channels": -1, "num_heads": 1} in changes
    assert {"objective": "pred_v"} in changes
    assert {"beta_schedule": "linear"} in changes
    for change, other in neighbours(config):
        assert other.params == {**config.params, **{k: v for k, v in change.items() if k not in other.diffusion}}
        assert sum(other.diffusion.get(key) != value for key, value in config.diffusion.items()) <= 1


@pytest.mark.slow
def test_the_command(tmp_path, tiny_model, input_dir):
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    done = sample_ilvr(*args, "--check_model")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("as it is")
    assert any(line.startswith("objective pred_v") for line in lines)
    assert "learly better" in lines[-2]
    assert lines[-1].startswith("Trust this only if the references are of the kind that the model was trained on")
    assert not (tmp_path / "out").exists()

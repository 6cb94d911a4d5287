"""Which model and images a benchmark measures, and which of its settings."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.domain import read_domain
from benchmarks.quality import all_settings
from benchmarks.table import chosen


def test_another_models_images_are_read_as_they_are(tmp_path):
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    crops[:2].tofile(tmp_path / "val.bin")
    (tmp_path / "maps").mkdir()
    Image.fromarray(crops[2]).save(tmp_path / "maps" / "scribble.png")
    weights, held_out, foreign = read_domain([tmp_path, tmp_path / "val.bin", tmp_path / "maps"])
    assert weights == tmp_path
    expected = torch.from_numpy(crops).movedim(-1, 1) / 127.5 - 1
    torch.testing.assert_close(held_out, expected[:2])
    torch.testing.assert_close(foreign, expected[2:])


def test_settings_are_chosen_by_their_columns():
    settings = all_settings()
    assert chosen(settings, None) == settings
    found = chosen(settings, ["sampler=DDPM", "steps=10,25", "low_pass=resize", "strength=1.0"])
    assert [setting.steps for setting in found] == [10, 25]
    with pytest.raises(SystemExit, match="no setting with step=10"):
        chosen(settings, ["step=10"])

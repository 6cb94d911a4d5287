"""The README's own code does what it says."""

import numpy as np
import pytest
import resize_right
import torch

from diffusions.process import OBJECTIVES
from models import load_model
from tests.commands import PROJECT
from tests.test_arrays import waves, write_model


@pytest.mark.slow
def test_the_library_example_samples_the_embedded_model_as_its_folder_says(monkeypatch):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(PROJECT)
    torch.manual_seed(0)
    names: dict = {}
    exec(example, names)
    used, right = names["sampler"].process, load_model("weights/openpeeps64").process
    assert used.alphas_cumprod.equal(right.alphas_cumprod) and used.objective == right.objective == OBJECTIVES["pred_v"]
    images, reference = names["images"], names["reference"]
    assert images.shape == reference.shape and images.abs().max() < 1.5
    assert names["guide"].low_pass(images - reference).abs().mean() < 0.02


def test_the_loop_over_arrays_runs_as_it_stands(tmp_path, monkeypatch):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (example,) = (code for part in readme.split("```python\n") if "np.load" in (code := part.partition("```")[0]))
    assert len(example.strip().splitlines()) <= 12
    _, config, _, weights = write_model(tmp_path, "diffusers", 2)
    config.rename(tmp_path / "ct.yaml")
    weights.rename(tmp_path / "ct.pt")
    scans = np.stack([waves(2, low=-1024, high=3071).transpose(2, 0, 1)] * 3)
    np.save(tmp_path / "scans.npy", scans)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(example, {})
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == scans.shape
    down = [resize_right.resize(each.transpose(2, 3, 0, 1), 1 / 8, pad_mode="symmetric") for each in (samples, scans)]
    assert abs(down[0] - down[1]).max() < 1e-4 * 4095

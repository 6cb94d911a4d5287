"""The README's own code does what it says."""

import pytest
import torch

from diffusions.process import OBJECTIVES
from models import load_model
from tests.commands import PROJECT


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

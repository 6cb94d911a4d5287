"""The README's own code does what it says."""

import torch

from diffusions import DDPM
from tests.commands import PROJECT
from utils.config import config_for


def test_the_library_example_samples_the_embedded_model_as_its_folder_says(monkeypatch):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(PROJECT)
    torch.manual_seed(0)
    names: dict = {}
    exec(example, names)
    used, right = names["diffuser"], DDPM(**config_for("weights/openpeeps64").diffusion, respace_steps=50)
    assert vars(used).pop("alphas_cumprod").equal(vars(right).pop("alphas_cumprod"))
    assert vars(used) == vars(right)
    images, reference = names["images"], names["reference"]
    assert images.shape == reference.shape and images.abs().max() < 1.5
    assert names["refine"].low_pass(images - reference).abs().mean() < 0.02

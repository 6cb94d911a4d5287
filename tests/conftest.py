"""What the tests share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# On networks this small a second thread costs more than it gains, most of all on a busy machine.
torch.set_num_threads(1)


@pytest.fixture
def input_dir(tmp_path: Path) -> Path:
    """Three small references of different shapes and kinds."""
    folder = tmp_path / "references"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (40, 60)), ("b.jpg", (64, 64)), ("c.bmp", (90, 70))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of an untrained 16×16 model, whose every call takes a few milliseconds."""
    import torch
    from diffusers import UNet2DModel

    folder = tmp_path_factory.mktemp("tiny_model")
    torch.manual_seed(0)
    UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=None,
    ).save_pretrained(folder)
    (folder / "scheduler_config.json").write_text(json.dumps({"num_train_timesteps": 1000}))
    return folder

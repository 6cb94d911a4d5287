"""What the tests share."""

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

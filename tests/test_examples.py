"""The examples run as their docstrings say, and draw what they say.

That of a pipeline is in `test_pipelines`, the sketch pad in `test_draw`.
"""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.commands import PROJECT, run_command

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (PROJECT / "examples").glob("*.py") if path.stem not in ("draw", "pipeline"))
)
def test_it_draws_a_picture(tmp_path, name):
    done = run_command(sys.executable, "-m", f"examples.{name}", tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    pixels = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(float)
    if name == "sample":  # rows: unconditional, the reference, guided
        free, reference, guided = np.split(pixels, 3)
        assert abs(guided - reference).mean() < abs(free - reference).mean() / 2
    if name == "own_guide":  # the reference, then four samples
        reference, *samples = np.split(pixels, 5, axis=1)
        difference = np.mean([abs(sample - reference) for sample in samples], axis=0)
        assert difference[:, :32].mean() < difference[:, 32:].mean() / 2

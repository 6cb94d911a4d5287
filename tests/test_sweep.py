"""Sweeps, strength, the exact filter and the progress strip, through the command."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.commands import contains, launch, read_images, run_here
from utils.images import GRID_GAP, TILE
from utils.run.figures import spread

FAST = ("--respace_steps", 3)


def run(save_dir: Path, input_dir: Path, *args: object) -> dict[str, np.ndarray]:
    assert run_here("--input_dir", input_dir, "--save_dir", save_dir, *FAST, *args) == (0, "")
    return read_images(save_dir)


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*_*.png")}


@pytest.mark.slow
def test_a_sweep_makes_the_files_of_single_launches(tmp_path, input_dir):
    """And so their noise is the same too: a launch's noise knows nothing of its factor."""
    common = ("--n_samples", 4, "--micro_batch", 3)
    sweep = run(tmp_path / "sweep", input_dir, "--downsample_factor", 2.5, 8, *common)
    assert len(sweep) == 8
    for factor in ("2.5", "8"):
        run(tmp_path / factor, input_dir, "--downsample_factor", factor, *common)
        assert file_bytes(tmp_path / "sweep" / f"N{factor}") == file_bytes(tmp_path / factor), factor
        assert not (tmp_path / "sweep" / f"N{factor}" / "grid.png").exists()

    grid = np.asarray(Image.open(tmp_path / "sweep" / "index_files" / "grid.png"))
    for name in ("N2.5/a_0.png", "N8/c_0.png"):
        assert contains(grid, sweep[name].repeat(TILE // 64, 0).repeat(TILE // 64, 1))
    record = yaml.safe_load((tmp_path / "sweep" / "run.yaml").read_text())
    assert record["downsample_factor"] == [2.5, 8]
    assert record["range_t"] == 0


@pytest.mark.slow
def test_a_sweep_of_ranges_on_two_processes(tmp_path, input_dir):
    args = ("--input_dir", input_dir, "--save_dir", tmp_path / "two", *FAST)
    done = launch(2, *args, "--downsample_factor", 4, 8, "--range_t", 0, 3, "--micro_batch", 2)
    assert done.returncode == 0, done.stderr
    images = read_images(tmp_path / "two")
    folders = {str(Path(name).parent) for name in images}
    assert folders == {f"N{n}/range{b}" for n in (4, 8) for b in (0, 3)}
    assert len(images) == 12
    free = [images[f"N{n}/range3/a_0.png"] for n in (4, 8)]
    assert np.array_equal(*free)  # nothing is refined, so the factor has no part in it: only noise, and that is shared
    assert not np.array_equal(images["N4/range0/a_0.png"], free[0])


def test_progress_of_a_sample_that_starts_from_the_reference(tmp_path, input_dir):
    chosen = ("--progress_grid", 1, "--n_samples", 2, "--strength", 0.7, "--low_pass", "projection")
    images = run(tmp_path, input_dir, *chosen)
    text = Image.open(tmp_path / "b_0.png").text
    assert (text["strength"], text["low_pass"]) == ("0.7", "projection")

    strip = np.asarray(Image.open(tmp_path / "progress_grid.png")).astype(int)
    assert strip.shape == (2 * 64 + GRID_GAP, 2 * 64 + GRID_GAP, 3)  # two of three steps
    assert abs(strip[:64, -64:] - images["b_0.png"]).max() <= 1  # the last sample is the image
    animation = Image.open(tmp_path / "progress_grid.webp")
    assert (animation.n_frames, animation.size) == (2, (2 * 64 + GRID_GAP, 64))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--downsample_factor", "4", "65"], "--downsample_factor must be 1 … 64, not 65.0"),
        (["--range_t", "0", "-1"], "--range_t must be 0 … 20, not -1"),
        (["--strength", "0"], "--strength must be 0.001 … 1, not 0.0"),
        (["--strength", "nan"], "--strength must be 0.001 … 1, not nan"),
        (["--progress_grid", "3"], "--progress_grid must be 0 … 2, not 3"),
    ],
)
def test_bad_arguments(tmp_path, input_dir, args, message):
    code, error = run_here("--save_dir", tmp_path / "out", "--input_dir", input_dir, *args)
    assert code == 2
    assert message in error and "\n" not in error


def test_frames_are_spread_from_first_to_last():
    assert spread(3, 10) == [0, 1, 2]
    assert spread(1, 10) == [0]
    assert spread(100, 4) == [0, 33, 66, 99]

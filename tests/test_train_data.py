"""What training reads: a folder of pictures of any kind, whole or in crops, or raw bytes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands import PROJECT, run_command, sample_ilvr
from tests.commands import read_images as samples_of
from utils.errors import InputError
from weights.data import read_images
from weights.train import main

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(16, 16, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def test_pictures_are_read_as_references_are(folder: Path) -> None:
    Image.fromarray(PIXELS).save(folder / "a.png")
    exif = Image.Exif()
    exif[274] = 6  # to be seen, it is turned clockwise
    Image.fromarray(np.rot90(PIXELS)).save(folder / "b.png", exif=exif)
    clear = np.concatenate([PIXELS, np.full((16, 16, 1), 0, np.uint8)], 2)
    Image.fromarray(clear).save(folder / "c.png")
    (folder / "notes.txt").write_text("no picture")
    images = read_images(folder, 16, 3).numpy()
    assert np.array_equal(images, [PIXELS, PIXELS, np.full_like(PIXELS, 255)])


def test_raw_bytes_are_images_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(PIXELS.tobytes() * 2)
    assert np.array_equal(read_images(tmp_path / "train.bin", 16, 3), [PIXELS, PIXELS])
    with pytest.raises(InputError, match=r"--data .*train\.bin: is neither a picture nor raw images of 24×24×3 bytes"):
        read_images(tmp_path / "train.bin", 24, 3)


@pytest.mark.parametrize("shape", [(256, 256), (256, 400), (300, 256)])
def test_crops_are_squares_of_a_quarter_of_the_picture_or_more(folder: Path, shape: tuple[int, int]) -> None:
    down, right = (np.arange(side) * (255 / (side - 1)) for side in shape)
    ramps = np.stack(np.broadcast_arrays(down[:, None], right[None], 0), -1).round().astype(np.uint8)
    Image.fromarray(ramps).save(folder / "a.png")
    crops = read_images(folder, 16, 3, crops=40, seed=1)
    assert crops.shape == (40, 16, 16, 3)
    # how steep a ramp is says how much of the picture's side the crop has; ends are cut off, where cubics mirror
    middle = crops[:, 3:13, 3:13].double()
    tall, wide = (middle.diff(dim=axis)[..., channel].mean((1, 2)) * 16 / 255 for channel, axis in ((0, 1), (1, 2)))
    tall, wide = (share * side / min(shape) for share, side in zip((tall, wide), shape, strict=True))
    torch.testing.assert_close(tall, wide, rtol=0, atol=0.06)
    assert tall.min() > 0.22 and tall.max() < 1.03 and tall.max() - tall.min() > 0.5
    assert middle[..., 1].mean((1, 2)).std() > 10  # they are not all in one place
    assert torch.equal(crops, read_images(folder, 16, 3, crops=40, seed=1))
    assert not torch.equal(crops, read_images(folder, 16, 3, crops=40, seed=2))


def test_a_small_picture_is_enlarged_and_not_cut(folder: Path) -> None:
    Image.fromarray(np.full((7, 9, 3), 90, np.uint8)).save(folder / "a.png")
    assert torch.equal(read_images(folder, 16, 3, crops=2), torch.full((2, 16, 16, 3), 90, dtype=torch.uint8))


@pytest.mark.slow
def test_broken_pictures_are_named_before_training_starts(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(folder / "good.png")
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:200])
    done = train("--data", folder, "--out", tmp_path / "run")
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr
    assert errors[0].startswith(f"train: error: {folder}/broken.png: cannot be read as an image")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (["--data", "no/such/folder"], "--data no/such/folder: no such folder or file"),
        (["--data", "assets/references", "--config", "configs/p2_ffhq_256.yaml"], "only a UNet of diffusers"),
        (
            ["--data", "assets/references", "--batch", "4000"],
            "--data assets/references: 16 images are fewer than a --batch of 4000",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(args: list[str], fault: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert main([*args, "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("train: error: ") and fault in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_model_of_ones_own_pictures_samples(folder: Path, input_dir: Path, tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(RNG.integers(256, size=(80, 72, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    done = train("--data", folder, "--out", tmp_path / "run", "--steps", 10, "--batch", 4)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split(",")[2]) for line in (tmp_path / "run/log.csv").read_text().splitlines()]
    assert len(losses) == 10 and losses[-1] < losses[0]  # pure noise is unlike any portrait, and soon learned
    args = ("--weights", tmp_path / "run/model", "--input_dir", input_dir, "--respace_steps", 2)
    sampled = sample_ilvr(*args, "--save_dir", tmp_path / "out")
    assert sampled.returncode == 0, sampled.stderr
    assert [image.shape for image in samples_of(tmp_path / "out").values()] == [(64, 64, 3)] * 3


def train(*args: object):
    """`python -m weights.train ARGS…`"""
    return run_command(sys.executable, "-m", "weights.train", *args)

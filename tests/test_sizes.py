"""Images of any size and shape, from the command to the files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from models import load_model
from tests.commands import PROJECT, launch, read_images, run_here
from utils.errors import InputError
from utils.images import crop, read_reference
from utils.run import figures
from utils.run.plan import canvas_of

STEPS = ("--respace_steps", 4, "--downsample_factor", 4)
LARGER = ("--detail", 0.5, "--tile_overlap", 0.5)  # so that half of the steps are drawn in windows


@pytest.fixture
def tiny(input_dir, tiny_model) -> tuple:
    """The arguments of a run of an untrained 16×16 model."""
    return ("--weights", tiny_model, "--input_dir", input_dir, *STEPS)


def run(*args: object) -> dict[str, np.ndarray]:
    """The images of a run in this process."""
    assert run_here(*args) == (0, "")
    return read_images(Path(args[args.index("--save_dir") + 1]))


def shapes(images: dict[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    return {name.partition("_")[0]: image.shape[:2] for name, image in images.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "made", "recorded"),
    [
        (("--image_size", 24, 48), dict.fromkeys("abc", (24, 48)), ("image_size", "[24, 48]")),
        (("--keep_aspect", "--upscale", 2), {"a": (32, 48), "b": (32, 32), "c": (42, 32)}, ("shape", "[32, 48]")),
    ],
    ids=["rectangle", "aspect"],
)
def test_images_do_not_depend_on_processes_or_micro_batch(tmp_path, tiny, size, made, recorded):
    tiny = (*tiny, "--n_samples", 8, *LARGER, *size)
    runs = [run(*tiny, "--save_dir", tmp_path / f"m{batch}", "--micro_batch", batch) for batch in (1, 3, 8)]
    done = launch(3, *tiny, "--save_dir", tmp_path / "three", "--micro_batch", 3)
    assert done.returncode == 0, done.stderr
    runs.append(read_images(tmp_path / "three"))
    for images in runs:
        assert images.keys() == runs[0].keys()
        assert max(abs(image - runs[0][name]).max() for name, image in images.items()) <= 1
    assert shapes(runs[0]) == made
    key, value = recorded
    assert Image.open(tmp_path / "three" / "a_0.png").text[key] == value


def test_what_is_lost_of_a_run_is_made_again(tmp_path, tiny):
    command = (*tiny, "--keep_aspect", "--upscale", 2, "--n_samples", 7, *LARGER, "--save_dir", tmp_path / "out")
    run(*command)
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    for name in ("a_0.png", "c_1.png", "index_files/grid.png", "index_files/a.png", "index_files/N8/c.png"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / "b_0.png").write_bytes(files[tmp_path / "out" / "b_0.png"][:-100])
    kept = (tmp_path / "out" / "a_1.png").stat().st_mtime_ns
    run(*command)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")} == files
    assert (tmp_path / "out" / "a_1.png").stat().st_mtime_ns == kept


def test_what_shows_the_images_has_their_shapes(tmp_path, tiny, monkeypatch):
    drawn, make_grid = [], figures.make_labelled_grid
    monkeypatch.setattr(figures, "make_labelled_grid", lambda *args: drawn.append(args) or make_grid(*args))
    images = run(*tiny, "--keep_aspect", "--upscale", 2, "--save_dir", tmp_path / "out", "--progress_grid", 2)
    for name, (height, width) in shapes(images).items():
        for folder in ("index_files", "index_files/N8"):
            assert Image.open(tmp_path / "out" / folder / f"{name}.png").size == (width, height)
    height, width = shapes(images)["c"]
    assert Image.open(tmp_path / "out" / "progress_grid.png").size == (4 * (width + 2) - 2, 2 * (height + 2) - 2)
    ((rows, _, _),) = drawn
    for (_, _, picture), (name, image) in zip(rows, sorted(images.items()), strict=True):
        assert np.array_equal(picture, image), name
    assert '"size":[42,48]' in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_a_picture_turned_by_its_camera_keeps_the_shape_that_people_see(tmp_path, tiny, input_dir):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    Image.new("RGB", (90, 60)).save(input_dir / "b.jpg", exif=exif)
    assert shapes(run(*tiny, "--keep_aspect", "--save_dir", tmp_path / "out"))["b"] == (24, 16)


def test_a_reference_of_another_shape_has_its_images_made_again(tmp_path, tiny, input_dir):
    command = (*tiny, "--keep_aspect", "--save_dir", tmp_path / "out")
    assert shapes(run(*command))["b"] == (16, 16)
    Image.new("RGB", (90, 60)).save(input_dir / "b.jpg")
    assert shapes(run(*command))["b"] == (16, 24)


def test_a_checkpoint_may_say_height_and_width(tmp_path, tiny_model):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    params = json.loads((folder / "config.json").read_text())
    for size in ([16, 16], [16, 24]):
        (folder / "config.json").write_text(json.dumps(params | {"sample_size": size}))
        if size == [16, 16]:
            assert load_model(folder).image_size == 16
        else:
            with pytest.raises(InputError, match=r"sample_size .* squares, not \[16, 24\]"):
                load_model(folder)


def test_other_sizes_are_other_settings(tmp_path, tiny):
    assert run_here(*tiny, "--save_dir", tmp_path / "out", "--image_size", 24) == (0, "")
    for other in (("--image_size", 24, 48), ("--image_size", 24, "--keep_aspect"), ("--image_size", 24, "--detail", 1)):
        code, error = run_here(*tiny, "--save_dir", tmp_path / "out", *other)
        assert code == 2 and "contains images of other settings" in error


def test_a_run_of_the_models_own_size_is_recorded_as_ever(tmp_path, tiny):
    assert run_here(*tiny, "--save_dir", tmp_path / "out", "--detail", 0.3) == (0, "")
    record = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert record["image_size"] == 16
    assert not {"keep_aspect", "tile_overlap", "detail", "upscale"} & record.keys()
    text = Image.open(tmp_path / "out" / "a_0.png").text
    assert not {"shape", "keep_aspect", "tile_overlap", "detail"} & text.keys()
    # the model's own size, said aloud, is no other
    assert run_here(*tiny, "--save_dir", tmp_path / "out", "--image_size", 16, 16) == (0, "")


def test_upscaling_binds_as_before(tmp_path, tiny):
    run(*tiny, "--save_dir", tmp_path / "out", "--upscale", 3, "--progress_grid")
    record = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert (record["image_size"], record["downsample_factor"]) == (48, 12)
    for name in ("a_0.png", "index_files/a.png", "index_files/N12/a.png"):
        assert Image.open(tmp_path / "out" / name).size == (48, 48)
    assert Image.open(tmp_path / "out" / "progress_grid.png").size == (4 * 50 - 2, 2 * 50 - 2)


def test_all_else_works_with_it(tmp_path, tiny):
    for name, more in (
        ("ddim", ("--sampler", "ddim", "--strength", 0.5)),
        ("half", ("--mixed_precision", "bf16")),
        ("sweep", ("--range_t", 0, 2, "--low_pass", "projection")),
    ):
        images = run(*tiny, *LARGER, "--image_size", 16, 64, *more, "--save_dir", tmp_path / name)
        assert {image.shape for image in images.values()} == {(16, 64, 3)}
        assert len(images) == 6 if name == "sweep" else 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--image_size", 0), "image_size 0: must be a multiple of 2 for this model, such as 2"),
        (("--image_size", -16, 16), "image_size -16: must be a multiple of 2 for this model, such as 2"),
        (("--image_size", 32, 21), "--image_size 21: must be a multiple of 2 for this model, such as 20 and 22"),
        (("--image_size", 1), "--image_size 1: must be a multiple of 2 for this model, such as 2"),
        (("--image_size", 16, 16, 3), "takes a height and a width"),
        (("--image_size", 16, 16, "--keep_aspect"), "takes one number as --image_size, the short side"),
        (("--image_size", 2_000_000), "are free: give a smaller --image_size"),
        (("--upscale", 0), "--upscale must be at least 1, not 0"),
        (
            ("--upscale", 2, "--tile_overlap", 1),
            "--tile_overlap must be 0 … 0.9, not 1.0",
        ),
        (("--tile_overlap", "nan"), "--tile_overlap must be 0 … 0.9"),
        (("--detail", 1.5), "--detail must be 0 … 1, not 1.5"),
        (("--image_size", 32, 8, "--downsample_factor", 9), "--downsample_factor must be 1 … 8, not 9"),
    ],
)
def test_impossible_sizes_are_refused_in_a_line(tmp_path, tiny, args, words):
    code, error = run_here(*tiny, "--save_dir", tmp_path / "out", *args)
    assert code == 2
    assert words in error and "\n" not in error
    assert not list((tmp_path / "out").glob("*.png"))


def test_the_estimate_of_memory_is_said_before_the_first_step(tmp_path, tiny, capsys):
    assert run_here(*tiny, "--save_dir", tmp_path / "out", "--image_size", 64, 32, "--dry_run") == (0, "")
    said = capsys.readouterr().out
    assert "3 images of 64×64 take about" in said
    assert "sizes        64×32" in said


@pytest.mark.parametrize("shape", [(64, 64), (128, 192), (192, 128), (32, 96)])
def test_a_canvas_has_its_image_in_the_middle(shape):
    path = PROJECT / "assets" / "references" / "photo-astronaut.jpg"
    image, canvas = read_reference(path, shape), canvas_of(shape)
    around = read_reference(path, shape, canvas=canvas)
    assert (image.shape[1:], around.shape[1:]) == (shape, canvas)
    assert torch.allclose(crop(around, shape), image, atol=1e-5)
    assert canvas == ((max(shape),) * 2 if shape != (32, 96) else shape)

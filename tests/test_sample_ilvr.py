"""The command, started as users start it: what it writes, and that an image depends on nothing else."""

import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from diffusions import GUIDES, SAMPLERS
from diffusions.ddpm import VAR_TYPES
from diffusions.low_pass import LOW_PASSES
from diffusions.schedule import RESPACINGS
from models import DTYPES
from tests.commands import PROJECT, contains, launch, read_images, run_here, sample_ilvr
from utils.resize_right import KERNELS
from utils.run.arguments import ARGUMENTS, parse_args

FAST = ("--respace_steps", 3)


def test_writes_images_grid_and_record(tmp_path, input_dir):
    done = sample_ilvr("--input_dir", input_dir, "--save_dir", tmp_path / "out", "--n_samples", 4, *FAST)
    assert done.returncode == 0, done.stderr
    images = read_images(tmp_path / "out")
    assert sorted(images) == ["a_0.png", "a_1.png", "b_0.png", "c_0.png"]
    assert {image.shape for image in images.values()} == {(64, 64, 3)}
    assert not np.array_equal(images["a_0.png"], images["a_1.png"])

    grid = np.asarray(Image.open(tmp_path / "out" / "index_files" / "grid.png"))
    assert contains(grid, images["a_0.png"].repeat(2, 0).repeat(2, 1))
    assert grid.shape[0] <= 1000 and grid.shape[1] <= 1900

    record = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert record["seed"] == 2022
    assert record["diffusion"]["respace_steps"] == 3
    assert len(record["weights_sha256"]) == 64
    text = Image.open(tmp_path / "out" / "a_1.png").text
    assert (text["sample"], text["variation"], text["reference"]) == ("3", "1", "a.png")
    assert text["weights_sha256"] == record["weights_sha256"]


@pytest.mark.slow
def test_images_do_not_depend_on_processes_or_micro_batch(tmp_path, input_dir):
    common = ("--input_dir", input_dir, "--n_samples", 7, *FAST)
    runs = {}
    for micro_batch in (1, 3, 8):
        done = sample_ilvr(*common, "--save_dir", tmp_path / f"m{micro_batch}", "--micro_batch", micro_batch)
        assert done.returncode == 0, done.stderr
        runs[micro_batch] = read_images(tmp_path / f"m{micro_batch}")
    done = launch(2, *common, "--save_dir", tmp_path / "two", "--micro_batch", 3)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "two" / "run.yaml").read_text())["num_processes"] == 2
    runs["two processes"] = read_images(tmp_path / "two")
    assert len(runs[1]) == 7
    for name, images in runs.items():
        assert images.keys() == runs[1].keys()
        for file, image in images.items():
            assert abs(image - runs[1][file]).max() <= 1, (name, file)


def test_samples_follow_their_reference(tmp_path, input_dir):
    args = ("--refine", "sample", "--downsample_factor", 1, *FAST)
    assert run_here("--input_dir", input_dir, "--save_dir", tmp_path, *args) == (0, "")
    images = read_images(tmp_path)
    for name in ("a", "b", "c"):
        pictures = (tmp_path / "index_files" / f"{name}.png", tmp_path / "index_files" / "N1" / f"{name}.png")
        reference, low_passed = (np.asarray(Image.open(path)).astype(int) for path in pictures)
        assert np.array_equal(reference, low_passed)  # N = 1 copies
        assert abs(reference - images[f"{name}_0.png"]).max() <= 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--downsample_factor", "0.5"], "--downsample_factor must be 1 … 64, not 0.5"),
        (["--downsample_factor", "65"], "--downsample_factor must be 1 … 64, not 65.0"),
        (["--downsample_factor", "nan"], "--downsample_factor must be 1 … 64, not nan"),
        (["--respace_steps", "0"], "--respace_steps must be at least 1, not 0"),
        (["--respace_steps", "1001"], "--respace_steps must be 1 … 1000, not 1001"),
        (["--n_samples", "0"], "--n_samples must be 1 … 10000000, not 0"),
        (["--micro_batch", "0"], "--micro_batch must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--ddim", "--ddim_eta", "2"], "--ddim_eta must be 0 … 1, not 2.0"),
        (["--ddim_eta", "0.5"], "--ddim_eta needs --ddim"),
        (["--input_dir", "no/such/folder"], "--input_dir no/such/folder: no such folder"),
        (["--weights", "no/such/file.pt", "-c", "configs/openpeeps64.yaml"], "no/such/file.pt"),
        (["-c", "no.yaml"], "config no.yaml: cannot be read: No such file or directory"),
        (["--save_dir", "/proc/results"], "save_dir /proc/results: cannot be written to"),
        (["--var_type", "learned_range"], "learned_range needs a model that learned its variance"),
    ],
)
def test_bad_arguments_get_one_line(tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(PROJECT)
    code, error = run_here("--save_dir", tmp_path, *args)
    assert code == 2
    assert message in error and "\n" not in error


def test_every_unreadable_image_is_named_before_sampling(tmp_path, input_dir):
    (input_dir / "broken.png").write_bytes(b"no image")
    (input_dir / "short.jpg").write_bytes((input_dir / "b.jpg").read_bytes()[:500])
    code, error = run_here("--input_dir", input_dir, "--save_dir", tmp_path / "out", *FAST)
    assert code == 2
    assert "broken.png" in error and "short.jpg" in error
    assert not read_images(tmp_path / "out")


def test_a_size_that_the_model_cannot_halve_is_told(tmp_path, input_dir):
    config = yaml.safe_load((PROJECT / "configs" / "openpeeps64.yaml").read_text()) | {"image_size": 60}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    done = sample_ilvr("-c", tmp_path / "config.yaml", "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    assert done.returncode == 2
    assert "image_size is 60, but the model only takes multiples of 8" in done.stderr


def test_an_empty_input_folder_is_named(tmp_path):
    code, error = run_here("--input_dir", tmp_path, "--save_dir", tmp_path / "out")
    assert code == 2
    assert "contains no picture" in error


@pytest.mark.parametrize("args", [["-h"], ["--unknown"], ["--refine", "eight"], ["--sampler", "dpm"], ["--seed", "-1"]])
def test_mistakes_are_told_before_torch_is_imported(args):
    code = "import sys; sys.modules['torch'] = None; import sample_ilvr; sys.exit(sample_ilvr.main())"
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == (0 if args == ["-h"] else 2)
    assert "Traceback" not in done.stderr


def test_the_help_fits_two_screens(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse_args(["-h"])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 100  # two screens
    assert re.findall(r"^[a-z ]+:$", shown, re.M) == [
        f"{group}:" for group in ("model", "references", "what binds", "images", "sampling", "running")
    ]


@pytest.mark.parametrize(
    ("argument", "table"),
    [
        ("var_type", VAR_TYPES), ("respace_type", RESPACINGS), ("interp_method", KERNELS), ("low_pass", LOW_PASSES),
        ("sampler", SAMPLERS), ("refine", GUIDES), ("mixed_precision", DTYPES),
    ],
)  # fmt: skip
def test_an_argument_has_the_choices_that_the_library_has(argument, table):
    assert set(ARGUMENTS[argument].choices) == set(table)

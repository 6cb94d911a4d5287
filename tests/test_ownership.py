"""Only what is provably this program's own is ever replaced or removed, and images say truly what they follow."""

import errno
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.commands import run_here
from utils.files import open_regular
from utils.images import read_png_text, save_png
from utils.run import engine, sampling
from utils.run.outputs import is_ours, signed

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.fixture
def job(tmp_path, input_dir, tiny_model) -> tuple:
    """The arguments of a job of three images, whose results lie in out/."""
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    return (*args, "--respace_steps", 2, "--downsample_factor", 4)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def image_file(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def texts(**values: str) -> PngInfo:
    info = PngInfo()
    for name, value in values.items():
        info.add_itxt(name, value)
    return info


FOREIGN = {
    "a PNG": image_file("PNG"),
    "half a PNG": image_file("PNG")[:300],
    "a JPEG": image_file("JPEG"),
    "a WebP": image_file("WEBP"),
    "text": b"my notes",
    "a PNG of another program": image_file("PNG", pnginfo=texts(Software="GIMP", fingerprint="0" * 64)),
    "a PNG that says it is ours": image_file("PNG", pnginfo=texts(Software="ILVR sampler", fingerprint="0" * 64)),
    "zeros": bytes(500),
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize(
    "name", ["a_0.png", "index_files/grid.png", "progress_grid.png", "progress_grid.webp", "run.yaml"]
)
def test_files_of_others_that_are_named_like_ours(tmp_path, job, foreign, name):
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_bytes(FOREIGN[foreign])
    job = (*job, "--progress_grid")
    code, error = run_here(*job)
    assert code == 2, error
    assert name in error and "pass --overwrite" in error and "\n" not in error
    assert contents(tmp_path / "out") == {name: FOREIGN[foreign]}
    if foreign == "text":
        assert run_here(*job, "--overwrite") == (0, "")
        assert contents(tmp_path / "out")[name] != FOREIGN[foreign]
        assert run_here(*job) == (0, "")  # by now, all of them are ours


@pytest.mark.parametrize("record", ["a: 1", "- 1", "seed: 2022\nweights_sha256: x", "just words", ""])
def test_a_run_record_of_others(tmp_path, job, record):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.yaml").write_text(record)
    code, error = run_here(*job)
    assert code == 2 and "run.yaml" in error
    assert contents(tmp_path / "out") == {"run.yaml": record.encode()}


def test_a_run_record_of_ours_without_images_is_replaced(tmp_path, job):
    assert run_here(*job) == (0, "")
    for path in (tmp_path / "out").glob("*.png"):
        path.unlink()
    assert run_here(*job, "--seed", 3) == (0, "")


@pytest.mark.parametrize(
    "name", [".notes.2024.tmp", ".a_0.png.tmp", ".a_0.png.7.tmp", ".a_0.txt.0123456789abcdef.tmp", "a.7.tmp", ".7.tmp"]
)
def test_temporary_files_of_others_stay(tmp_path, job, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    (tmp_path / "out" / ".run.yaml.0123456789abcdef.tmp").write_bytes(b"left by a dead run")
    assert run_here(*job) == (0, "")
    assert (tmp_path / "out" / name).read_bytes() == b"mine"
    assert not (tmp_path / "out" / ".run.yaml.0123456789abcdef.tmp").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "link to a folder"])
@pytest.mark.parametrize("name", ["a_0.png", "index_files/grid.png"])
def test_what_is_no_file_is_in_the_way(tmp_path, job, kind, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path if kind == "link to a folder" else tmp_path / "nothing")
    for more in ((), ("--overwrite",)):
        code, error = run_here(*job, *more)
        assert code == 2 and f"{name}: is in the way" in error
        assert os.path.lexists(path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_passing_read_error_costs_no_finished_work(tmp_path, job, monkeypatch, number):
    assert run_here(*job) == (0, "")
    before = contents(tmp_path / "out")

    def open_(path, *args):
        if path.name == "a_0.png":
            raise OSError(number, os.strerror(number))
        return open_regular(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr("utils.images.open_regular", open_)
        for more in ((), ("--overwrite",)):
            code, error = run_here(*job, *more)
            assert code == 2 and "a_0.png: cannot be read" in error
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("cut", ["all", "pixels", "end", "last byte"])
def test_images_of_ours_that_were_cut_short_are_made_again(tmp_path, job, cut):
    assert run_here(*job) == (0, "")
    before = contents(tmp_path / "out")
    for name in ("a_0.png", "index_files/grid.png"):
        left = {"all": 0, "pixels": before[name].index(b"IDAT") + 10, "end": -20, "last byte": -1}[cut]
        (tmp_path / "out" / name).write_bytes(before[name][:left])
    assert run_here(*job) == (0, "")
    assert contents(tmp_path / "out") == before


def test_a_flipped_bit_in_an_image_is_seen(tmp_path, job):
    assert run_here(*job) == (0, "")
    before = contents(tmp_path / "out")
    damaged = bytearray(before["a_0.png"])
    damaged[-30] ^= 1
    (tmp_path / "out" / "a_0.png").write_bytes(damaged)
    assert run_here(*job) == (0, "")
    assert contents(tmp_path / "out") == before


def test_text_is_told_apart_from_nothing_and_from_something_else(tmp_path):
    save_png(PIXELS, tmp_path / "a.png", signed({"seed": "7", "reference": "ä.png"}))
    found = read_png_text(tmp_path / "a.png")
    assert found and found.is_whole and is_ours(found) and found.text["reference"] == "ä.png"
    save_png(PIXELS, tmp_path / "b.png", signed({"seed": "7"}) | {"seed": "8"})
    found = read_png_text(tmp_path / "b.png")
    assert found and found.is_whole and not is_ours(found)
    assert read_png_text(tmp_path / "none.png") is None
    found = read_png_text(Path(__file__))
    assert found and not found.is_whole and not found.text


def replace_at_step(monkeypatch, number: int, replace) -> None:
    """Have something happen to the input folder when so many batches are sampled."""
    sample, calls = sampling.sample, []

    def sample_and_replace(*args, **options):
        calls.append(1)
        if len(calls) == number:
            replace()
        return sample(*args, **options)

    monkeypatch.setattr(sampling, "sample", sample_and_replace)


@pytest.mark.parametrize("how", ["another put in its place", "written over", "removed", "a pipe"])
def test_a_reference_that_is_replaced_during_the_run(tmp_path, job, input_dir, monkeypatch, how):
    job = (*job, "--n_samples", 9, "--micro_batch", 1)
    path, first = input_dir / "a.png", hashlib.sha256((input_dir / "a.png").read_bytes()).hexdigest()

    def replace():
        if how == "another put in its place":
            Image.new("RGB", (20, 20), "red").save(input_dir / "new.png")
            (input_dir / "new.png").replace(path)
        elif how == "written over":
            Image.new("RGB", (20, 20), "red").save(path)
        else:
            path.unlink()
            if how == "a pipe":
                os.mkfifo(path)

    with monkeypatch.context() as patch:
        replace_at_step(patch, 2, replace)
        code, error = run_here(*job)
    assert code == 1, error
    assert "a.png" in error and "\n" not in error
    assert "during the run" in error or how in ("removed", "a pipe")
    made = sorted((tmp_path / "out").glob("*_*.png"))
    assert 1 <= len(made) < 9
    assert all(read_png_text(path).text["reference_sha256"] == first for path in made if path.name[0] == "a")
    if how in ("removed", "a pipe"):
        return
    second = hashlib.sha256(path.read_bytes()).hexdigest()
    assert run_here(*job) == (0, "")
    found = [read_png_text(path) for path in (tmp_path / "out").glob("a_*.png")]
    assert [its.text["reference_sha256"] for its in found] == [second] * 3


def test_a_reference_that_is_replaced_before_the_grid_is_drawn(tmp_path, job, input_dir, monkeypatch):
    finish = engine.finish

    def replace_and_finish(*args):
        Image.new("RGB", (20, 20), "red").save(input_dir / "a.png")
        (tmp_path / "out" / "index_files" / "a.png").unlink()  # so that the reference is read once more
        finish(*args)

    monkeypatch.setattr(engine, "finish", replace_and_finish)
    code, error = run_here(*job)
    assert code == 1 and "a.png: was replaced during the run" in error
    assert not (tmp_path / "out" / "index_files" / "grid.png").exists()
    assert len(list((tmp_path / "out").glob("*_0.png"))) == 3


def test_a_reference_called_grid_is_not_the_grid(tmp_path, job, input_dir):
    (input_dir / "a.png").rename(input_dir / "Grid.png")
    assert run_here(*job) == (0, "")
    (named,) = (tmp_path / "out").glob("Grid*_0.png")
    assert (tmp_path / "out" / "index_files" / named.name.replace("_0.png", ".png")).exists()
    assert len([*(tmp_path / "out" / "index_files").glob("*.png")]) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--refine", "regions"), "refine 'regions', now 'sample'"),
        (("--value_range", 0, 200), "value_range [0.0, 200.0], now None"),
    ],
)
def test_a_setting_back_at_its_default_is_another_setting(tmp_path, job, change, words):
    assert run_here(*job, *change) == (0, "")
    before = contents(tmp_path / "out")
    code, error = run_here(*job)
    assert code == 2 and words in error and "pass --overwrite" in error
    (tmp_path / "out" / "run.yaml").unlink()
    code, error = run_here(*job)
    assert code == 2 and "was made with other settings" in error
    assert contents(tmp_path / "out") == {name: before[name] for name in before if name != "run.yaml"}


def test_the_folder_holds_what_is_scored(tmp_path, job):
    """As pytorch-fid 0.3 and torch-fidelity 0.3 list it; clean-fid 0.1 looks into subfolders too, and takes lists."""
    assert run_here(*job, "--n_samples", 4) == (0, "")
    assert run_here(*job, "--downsample_factor", 4, 8, "--save_dir", tmp_path / "sweep") == (0, "")
    endings = ("bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp")
    wanted = {"out": ["a_0", "a_1", "b_0", "c_0"], "sweep": [], "sweep/N4": ["a_0", "b_0", "c_0"]}
    for folder, names in wanted.items():
        found = [path for ending in endings for path in (tmp_path / folder).glob(f"*.{ending}")]
        assert sorted(path.stem for path in found) == names
        with os.scandir(tmp_path / folder) as entries:
            assert sorted(e.name[:-4] for e in entries if e.name.lower().endswith((".png", ".jpg", ".jpeg"))) == names
    below = [path for ending in (*endings, "npy") for path in (tmp_path / "sweep" / "N8").glob(f"**/*.{ending}")]
    assert sorted(path.stem for path in below) == ["a_0", "b_0", "c_0"]

"""Files made to keep a run waiting, to fill its memory, or to lead it astray: one line each, and soon."""

import io
import os
import signal
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from models.files.checkpoint import find_weights
from tests.commands import read_images, run_here
from utils.errors import InputError
from utils.files import MAX_YAML_BYTES, open_regular, parse_yaml, read_yaml
from utils.run.references import find_references

SECONDS = 20


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"took more than {SECONDS} s"))
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def job(input_dir, tiny_model, tmp_path) -> tuple:
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--downsample_factor", 4, "--respace_steps", 1)
    return (*args, "--save_dir", tmp_path / "out")


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder of a user whom permissions bind, which root is not."""
    with tempfile.TemporaryDirectory() as name:
        was_root = os.geteuid() == 0
        if was_root:
            os.chown(name, 65534, -1)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if was_root:
                os.seteuid(0)
            for folder, _, _ in os.walk(name, topdown=True):
                os.chmod(folder, 0o700)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ENDLESS = pytest.mark.parametrize("make", [pipe, device])


@ENDLESS
def test_only_files_are_opened(tmp_path, make):
    make(tmp_path / "endless")
    with pytest.raises(OSError, match="is not a file"):
        open_regular(tmp_path / "endless")
    with pytest.raises(OSError, match="Is a directory"):
        open_regular(tmp_path)
    (tmp_path / "file").write_bytes(bytes(3000))
    assert open_regular(tmp_path / "file", 3000).read() == bytes(3000)
    with pytest.raises(OSError, match="is larger than 2 KB"):
        open_regular(tmp_path / "file", 2999)


@ENDLESS
@pytest.mark.parametrize(
    "name", ["weights.pt", "model/config.json", "model/scheduler_config.json", "model/diffusion_pytorch_model.bin"]
)
def test_weights_that_never_end(tmp_path, job, make, name, tiny_model):
    (tmp_path / "model").mkdir()
    for path in tiny_model.iterdir():
        if not name.endswith("bin") or path.suffix != ".safetensors":
            (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    config = ["-c", "configs/openpeeps64.yaml"] if name == "weights.pt" else []
    code, error = run_here(*job, "--weights", tmp_path / name.split("/")[0], *config)
    assert code == 2 and "\n" not in error
    assert "is not a file" in error or "hold no " in error or "no such file" in error


@ENDLESS
@pytest.mark.parametrize("name", ["a_0.png", "index_files/grid.png", "run.yaml"])
def test_outputs_that_never_end(tmp_path, job, make, name):
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / "other.png").write_bytes(b"")
    make(tmp_path / "out" / name)
    code, error = run_here(*job, "--n_samples", 1)
    assert code == 2 and "\n" not in error
    assert "is in the way" in error or "is not a file" in error or "is a link" in error


@pytest.mark.parametrize("name", ["run.yaml", "index_files/grid.png", "a_0.png", ".lock"])
def test_folders_in_the_way_are_found_before_anything_is_loaded(tmp_path, job, name, monkeypatch):
    monkeypatch.setattr("utils.run.job.load_model", None)
    (tmp_path / "out" / name).mkdir(parents=True)
    code, error = run_here(*job, "--n_samples", 1)
    assert code == 2 and "\n" not in error and f"out/{name}: " in error


def test_a_lock_that_is_a_link_makes_no_file(tmp_path, job):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "elsewhere")
    code, error = run_here(*job)
    assert code == 2 and ".lock: cannot be opened: is a link" in error
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("keys", [["model"], [f"part{i}" for i in range(30)]], ids=["wrapping", "parts"])
def test_a_checkpoint_that_holds_itself(tmp_path, job, keys):
    content: dict = {}
    for key in keys:
        content[key] = content
    torch.save(content, tmp_path / "circle.pt")
    code, error = run_here(*job, "--weights", tmp_path / "circle.pt", "-c", "configs/openpeeps64.yaml")
    assert code == 2 and "circle.pt" in error and "\n" not in error


def test_a_checkpoint_packed_to_burst(tmp_path, job):
    saved = io.BytesIO()
    torch.save({"conv_in.weight": torch.zeros(2**24)}, saved)
    with zipfile.ZipFile(saved) as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.namelist():
            packed.writestr(entry, plain.read(entry))
    code, error = run_here(*job, "--weights", tmp_path / "bomb.pt", "-c", "configs/openpeeps64.yaml")
    assert code == 2 and "bomb.pt: is not opened, because it would unpack to 0.1 GB" in error


def test_yaml_is_bounded(tmp_path):
    (tmp_path / "config.yaml").write_text("a: [" + "[]," * MAX_YAML_BYTES)
    with pytest.raises(InputError, match=f"is larger than {MAX_YAML_BYTES // 2**10} KB"):
        read_yaml(tmp_path / "config.yaml", "config")


@pytest.mark.parametrize("number", ["020", "0_20", "-017", "1:30", "1:30.5"])
def test_numbers_that_are_others_in_yaml_1_1_are_no_numbers(tmp_path, job, number):
    """And so refused where a number is expected."""
    assert parse_yaml(f"image_size: {number}".encode(), "config") == {"image_size": number}
    code, error = run_here(*job, "--set", f"image_size={number}")
    assert code == 2 and "image_size" in error and number in error


def test_other_numbers_are_read_as_ever():
    text = b"[0, -0, +20, 1_000, 0x20, 0b11, 1.50, .5, 0.5, 1., .inf, -.inf, yes, ~, 2024-01-01]"
    assert parse_yaml(text, "config") == yaml.safe_load(text)
    assert parse_yaml(b"[1e-6, 1E5, -2.5e+3, 1e3, -.5e-3]", "config") == [1e-6, 1e5, -2500.0, 1000.0, -0.0005]
    assert parse_yaml(b"[e5, -, ., +, _1, 1e, a1]", "config") == ["e5", "-", ".", "+", "_1", "1e", "a1"]


def test_merge_keys_are_no_keys():
    assert parse_yaml(b"a: &a {b: 1}\nc: {<<: *a}", "config") == {"a": {"b": 1}, "c": {"<<": {"b": 1}}}
    with pytest.raises(InputError, match="is not valid YAML"):
        parse_yaml(b"a: &a {b: 1}\nc: {!!merge x: *a}", "config")


def test_the_record_of_very_many_references_is_read(tmp_path, job):
    assert run_here(*job, "--n_samples", 1) == (0, "")
    record = tmp_path / "out" / "run.yaml"
    record.write_text(record.read_text() + "".join(f"  r{i}: in/r{i}.png\n" for i in range(500_000)))
    code, error = run_here(*job, "--n_samples", 1, "--seed", 3)
    assert code == 2 and "seed 2022, now 3" in error
    assert run_here(*job, "--n_samples", 1) == (0, "")


def test_threads_leave_the_warnings_alone(input_dir, job):
    for i in range(30):
        (input_dir / f"copy{i}.png").write_bytes((input_dir / "a.png").read_bytes())
    assert run_here(*job, "--dry_run") == (0, "")
    before = list(warnings.filters)
    for _ in range(3):
        assert run_here(*job, "--dry_run") == (0, "")
    assert warnings.filters == before


def test_an_unreadable_subfolder_is_skipped_where_bad_inputs_are(input_dir, job, tmp_path, monkeypatch):
    def walk(folder, onerror):
        yield from [(str(folder), ["closed"], sorted(os.listdir(folder)))]
        onerror(PermissionError(13, "Permission denied", f"{folder}/closed"))

    monkeypatch.setattr(os, "walk", walk)
    code, error = run_here(*job)
    assert code == 2 and "closed: cannot be read: Permission denied" in error
    assert run_here(*job, "--skip_bad_inputs") == (0, "")
    assert len(read_images(tmp_path / "out")) == 3
    skipped = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["skipped_inputs"]
    assert skipped == {f"{input_dir}/closed/": "cannot be read: Permission denied"}


def test_permissions():
    """What cannot be looked into is told in a line."""
    with unprivileged() as folder:
        (folder / "in" / "closed").mkdir(parents=True)
        (folder / "in" / "closed").chmod(0o600)
        (folder / "model" / "unet").mkdir(parents=True)
        (folder / "model" / "unet").chmod(0o600)
        found: list[OSError] = []
        (folder / "in" / "closed").chmod(0)
        with pytest.raises(InputError, match="contains no picture"):
            find_references(folder / "in", on_unreadable=found.append)
        assert [error.filename for error in found] == [str(folder / "in" / "closed")]
        for closed in (folder / "model" / "unet", folder / "model"):
            closed.chmod(0o600)
            with pytest.raises(InputError, match="cannot be read: Permission denied"):
                find_weights(folder / "model")


def test_the_progress_of_a_skipped_reference(input_dir, job):
    (input_dir / "b.jpg").write_bytes(b"no image")
    code, error = run_here(*job, "--skip_bad_inputs", "--progress_grid", 1)
    assert code == 2 and error == "--progress_grid 1: the reference of sample 1 is skipped; choose another sample"

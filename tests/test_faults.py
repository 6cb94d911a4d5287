"""What a machine does to a run, and what the run does then: one clear line, and nothing broken left behind."""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands import ENTRY, ENVIRONMENT, read_images, run_here, sample_ilvr, start
from utils.files import write_atomically
from utils.run import job as job_module

N = 45


@pytest.fixture
def job(input_dir, tiny_model) -> tuple:
    return ("--weights", tiny_model, "--input_dir", input_dir, "--downsample_factor", 4, "--respace_steps", 10)


@pytest.fixture
def mount(tmp_path):
    """Mounts a small tmpfs; skips the test where that is not allowed."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounted = []

    def do(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip("mounting is not allowed here")
        mounted.append(folder)
        return folder

    yield do
    for each in mounted:
        subprocess.run(["umount", "-l", each], check=True)


def assert_clean(folder: Path, count: range) -> None:
    """Whole images only, so many of them, and no temporary file."""
    assert len(read_images(folder)) in count
    assert not list(folder.glob(".*.tmp"))


def assert_one_line(errors: str, words: str) -> None:
    lines = [line for line in errors.splitlines() if "step/s" not in line and "images:" not in line and line]
    assert len(lines) == 1, errors
    assert words in lines[0]


@pytest.mark.slow
def test_a_full_disk(mount, job):
    folder = mount("size=64k")
    args = (*job, "--save_dir", folder, "--n_samples", N, "--micro_batch", 4)
    done = sample_ilvr(*args)
    assert done.returncode == 1
    assert_one_line(done.stderr, "cannot be written: No space left on device")
    assert_clean(folder, range(1, N))

    subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)
    done = sample_ilvr(*args)
    assert done.returncode == 0, done.stderr
    assert_clean(folder, range(N, N + 1))


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(tmp_path, job):
    """As on a full disk, also where nothing can be mounted: here the grid and the page are what does not fit."""
    args = (*job, "--save_dir", tmp_path / "out", "--n_samples", 12)
    code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, {resource.RLIM_INFINITY})); "
    code += f"runpy.run_path({str(ENTRY)!r}, run_name='__main__')"
    command = list(map(str, [sys.executable, "-c", code, *args]))
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ENTRY.parent, capture_output=True, text=True)
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("sample_ilvr: ")]
    assert len(lines) == 2 and "grid.png: cannot be written: File too large" in lines[0], done.stderr
    assert lines[1].startswith("sample_ilvr: index.html could not be drawn: ") and "12 images are in" in done.stdout
    assert_clean(tmp_path / "out", range(12, 13))
    assert not (tmp_path / "out" / "index_files" / "grid.png").exists()


def test_a_read_only_folder(mount, job):
    folder = mount("size=64k,ro")
    code, error = run_here(*job, "--save_dir", folder)
    assert code == 2
    assert "cannot be written to: " in error


@pytest.mark.slow
def test_a_folder_removed_half_way(tmp_path, job):
    folder = tmp_path / "out"
    process = start(1, *job, "--save_dir", folder, "--n_samples", N, "--micro_batch", 2)
    end = time.monotonic() + 60
    while len(list(folder.glob("*_*.png"))) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    folder.rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert_one_line(errors, "cannot be written: No such file or directory")
    assert not folder.exists()


def load_with(monkeypatch, *, before=None, after=None) -> None:
    """Have `load_model` return a network with these hooks."""
    load = job_module.load_model

    def load_hooked(*args, **options):
        model = load(*args, **options)
        if before:
            model.network.register_forward_pre_hook(before)
        if after:
            model.network.register_forward_hook(after)
        return model

    monkeypatch.setattr(job_module, "load_model", load_hooked)


def memory_for(samples: int):
    """A hook that raises torch's own error for a larger batch."""

    def check(module, args):
        if len(args[0]) > samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return check


def test_memory_exhaustion_halves_the_batch(tmp_path, job, monkeypatch, capsys):
    assert run_here(*job, "--save_dir", tmp_path / "whole", "--n_samples", 11) == (0, "")
    load_with(monkeypatch, before=memory_for(3))
    assert run_here(*job, "--save_dir", tmp_path / "halved", "--n_samples", 11) == (0, "")
    assert capsys.readouterr().err.count("out of memory; going on with 2 samples at a time") == 1
    whole, halved = read_images(tmp_path / "whole"), read_images(tmp_path / "halved")
    assert len(whole) == 11 and whole.keys() == halved.keys()
    assert all(abs(whole[name] - halved[name]).max() <= 1 for name in whole)


def test_memory_for_not_even_one(tmp_path, job, monkeypatch):
    load_with(monkeypatch, before=memory_for(0))
    code, error = run_here(*job, "--save_dir", tmp_path / "out")
    assert code == 1
    assert "out of memory with one sample at a time" in error
    assert_clean(tmp_path / "out", range(1))


def test_a_compiled_network_that_does_not_fit_says_so_before_the_first_step(job, tmp_path, monkeypatch):
    def compiled(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(job_module, "Compiled", compiled)
    code, error = run_here(*job, "--save_dir", tmp_path / "out", "--compile", "--micro_batch", 2)
    assert (code, error) == (1, "out of memory with 2 samples at a time; give a smaller --micro_batch")
    assert_clean(tmp_path / "out", range(1))


def test_other_errors_of_the_network_keep_their_traceback(tmp_path, job, monkeypatch):
    def fail(module, args):
        raise RuntimeError("a mistake of ours")

    load_with(monkeypatch, before=fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run_here(*job, "--save_dir", tmp_path / "out")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path, job, monkeypatch, value):
    def overflow(module, args, output):
        output[1, 0, 0, 0] = value  # clipping alone would make black or white of an infinity
        return output

    load_with(monkeypatch, after=overflow)
    code, error = run_here(*job, "--save_dir", tmp_path / "out")
    assert code == 2
    assert error.startswith("sample 1: the network returned values that are not finite, and no image was written")
    assert sorted(read_images(tmp_path / "out")) == ["a_0.png", "c_0.png"]


def test_all_faults_of_the_references_at_once(tmp_path, job, input_dir):
    for i in range(30):
        (input_dir / f"broken{i:02}.png").write_bytes(b"no image")
    code, error = run_here(*job, "--save_dir", tmp_path / "out")
    lines = error.splitlines()
    assert code == 2
    assert len(lines) == 20 and "broken00.png" in lines[0] and lines[-1] == "… and 11 more"
    assert not read_images(tmp_path / "out")


def test_files_are_whole_or_not_there(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"old")
    (tmp_path / "a.png").symlink_to(tmp_path / "elsewhere")
    write_atomically(tmp_path / "a.png", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"old"  # no link leads a file out of its folder
    assert (tmp_path / "a.png").read_bytes() == b"new" and not (tmp_path / "a.png").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", ["!!python/object/apply:os.system ['touch HACKED']", "a: !!python/name:os.system"])
def test_configs_and_run_records_cannot_run_code(tmp_path, job, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(content)
    code, error = run_here(*job, "-c", tmp_path / "config.yaml", "--save_dir", tmp_path / "a")
    assert code == 2 and "is not valid YAML" in error
    (tmp_path / "out").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "out" / "z.png")
    (tmp_path / "out" / "run.yaml").write_text(content)
    code, error = run_here(*job, "--save_dir", tmp_path / "out")
    assert code == 2 and "is not valid YAML" in error
    assert not (tmp_path / "HACKED").exists()


def test_a_run_record_leads_nowhere(tmp_path, job):
    """Whatever paths a record names, they are not even looked at."""
    args = (*job, "--save_dir", tmp_path / "out", "--n_samples", 1)
    assert run_here(*args) == (0, "")
    record = tmp_path / "out" / "run.yaml"
    record.write_text(record.read_text().replace(str(tmp_path / "out"), str(tmp_path / "elsewhere")))
    (tmp_path / "out" / "a_0.png").unlink()
    assert run_here(*args) == (0, "")
    assert not (tmp_path / "elsewhere").exists()
    assert_clean(tmp_path / "out", range(1, 2))

"""Where a run's words cannot be shown, or its folder has gone: images are what counts."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.commands import ENTRY, ENVIRONMENT, PROJECT, read_images, run_here
from utils.run import engine
from utils.run.sampling import sample_share

ASCII = {"PYTHONIOENCODING": "ascii", "TQDM_MININTERVAL": "0"}


@pytest.fixture
def job(input_dir, tiny_model, tmp_path) -> list[str]:
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--downsample_factor", 4, "--respace_steps", 2)
    return list(map(str, [sys.executable, ENTRY, *args, "--save_dir", tmp_path / "Größe"]))


def shell(redirection: str, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """The exit code of a command whose output a shell leads elsewhere, and what is left of it."""
    script = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", script, "bash", *command], cwd=PROJECT, env=ENVIRONMENT | environment,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("word", ["--local-rank=0", "--local_rank=1"])
def test_the_argument_of_torchs_old_launcher(word):
    code, error = run_here(word)
    assert code == 2 and error.startswith("--local-rank: start the processes with torchrun")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_in_another_encoding(encoding):
    done = shell("", sys.executable, str(ENTRY), "-h", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and done.stderr == ""
    assert "--downsample_factor" in done.stdout and "\\u2026" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["> /dev/full 2> /dev/full", ">&- 2>&-", "2>&- | head -1", "| true"])
def test_help_that_cannot_be_shown(redirection):
    done = shell(redirection, sys.executable, str(ENTRY), "-h")
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["", "> /dev/full 2>&-", "2>&1 | true"])
def test_a_run_that_cannot_be_shown(tmp_path, job, redirection):
    done = shell(redirection, *job, **ASCII)
    assert done.returncode == 0, done.stderr
    assert len(read_images(tmp_path / "Größe")) == 3 and (tmp_path / "Größe" / "index_files" / "grid.png").exists()
    assert "Traceback" not in done.stderr
    if not redirection:
        assert "Gr\\xf6\\xdfe" in done.stdout


@pytest.mark.slow
def test_a_plan_in_another_encoding(job):
    done = shell("", *job, "--dry_run", **ASCII)
    assert done.returncode == 0 and done.stderr == ""
    assert "samples      3, of which 0 are finished" in done.stdout and "Gr\\xf6\\xdfe" in done.stdout


def test_windows_is_told_in_a_line(tmp_path):
    code = "import runpy, sys; sys.platform = 'win32'; sys.modules['fcntl'] = None; "
    code += f"runpy.run_path({str(ENTRY)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(ENTRY).parent, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "sample_ilvr: error: this runs on Linux and macOS; on Windows, in its Linux (WSL)\n"


@pytest.mark.slow
@pytest.mark.parametrize("option", ["-P", "-I", "-u"])
def test_other_modules_of_our_names_are_not_imported(tmp_path, job, option):
    """Python leaves the script's folder out of its path under -P and -I."""
    for name in ("utils", "models", "diffusions"):
        (tmp_path / "others" / name).mkdir(parents=True)
        (tmp_path / "others" / name / "__init__.py").write_text("raise SystemExit('another one')")
    done = shell("", job[0], option, *job[1:], "--dry_run", PYTHONPATH=str(tmp_path / "others"))
    assert done.returncode == 0 and done.stderr == "", done.stderr


@pytest.mark.slow
def test_settings_of_tqdm_that_are_none(job):
    done = shell("", *job, TQDM_MININTERVAL="abc")
    assert done.returncode == 2
    words = "a variable TQDM_… in the environment cannot be used: could not convert string to float: 'abc'; unset it"
    assert done.stderr == f"sample_ilvr: error: {words}\n"


@pytest.fixture
def args(input_dir, tiny_model, tmp_path) -> tuple:
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--downsample_factor", 4, "--respace_steps", 2)
    return (*args, "--save_dir", tmp_path / "out")


@pytest.mark.parametrize("device", ["cuda:7", "abacus"])
def test_a_device_that_is_not_there(args, monkeypatch, device):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", device)
    code, error = run_here(*args)
    assert code == 1 and error.startswith("rank 0 cannot start: ") and "\n" not in error


@pytest.mark.parametrize("engine", ["DEEPSPEED", "MEGATRON_LM"])
def test_an_engine_of_accelerate_that_is_not_installed(args, monkeypatch, engine):
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    assert run_here(*args, "--dry_run") == (0, "")  # which a single process does not need


def test_a_cache_that_torch_compile_cannot_write(args, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/nowhere")
    code, error = run_here(*args, "--compile")
    assert code == 1 and error.startswith("--compile: torch cannot compile the network: ")
    assert error.endswith("; leave --compile out") and "/proc/nowhere" in error and "\n" not in error


@pytest.mark.slow
def test_a_machine_without_a_compiler(args, tmp_path):
    command = list(map(str, (sys.executable, ENTRY, *args, "--compile")))
    done = shell("", *command, CXX="/nonexistent", TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))  # an empty one
    assert done.returncode == 1
    assert re.fullmatch(
        r"sample_ilvr: error: --compile: torch cannot compile the network: .*No working C\+\+ compiler.*; "
        r"leave --compile out",
        done.stderr.splitlines()[-1],
    )


def test_a_port_that_is_none(args, monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "99999"}.items():
        monkeypatch.setenv(name, value)
    words = "MASTER_PORT is '99999' in the environment, and must be a whole number below 65536"
    assert run_here(*args, "--dry_run") == (2, words)


def test_an_image_that_is_removed_while_a_lone_process_samples(args, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "sample_share", lambda *job: (sample_share(*job), (tmp_path / "out/a_0.png").unlink()))
    words = "images were removed during the run: 2 of 3 images are done; run the same command again to finish"
    assert run_here(*args) == (1, words)


def test_too_few_threads(args, monkeypatch):
    """As Python says it where RLIMIT_NPROC is reached; root has no such limit."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert run_here(*args) == (1, "the system allows no more threads (ulimit -u)")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * 300 + ".yaml", "cannot be written: File name too long"),
        ("nowhere/x.yaml", "cannot be written: No such file or directory"),
        ("file/x.yaml", "cannot be written: Not a directory"),
        (".", "is in the way: a folder where a file is to be written"),
    ],
)
def test_a_config_that_cannot_be_written(args, tmp_path, name, words):
    (tmp_path / "file").touch()
    code, error = run_here(*args, "--overwrite", "--write_config", tmp_path / name)
    assert code == 2 and error.endswith(words) and "\n" not in error


def test_a_range_that_is_enormous(args):
    begun = time.monotonic()
    code, error = run_here(*args, "--range_t", "1e99999999%")
    assert code == 2 and "--range_t must be a number of steps or a share" in error
    assert time.monotonic() - begun < 10

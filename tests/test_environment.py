"""Where a run's words cannot be shown, or its folder has gone: images are what counts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ENTRY, ENVIRONMENT, PROJECT, read_images, run_here

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


def test_a_working_folder_that_was_removed(tmp_path, monkeypatch, input_dir, tiny_model):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--respace_steps", 1)
    code, error = run_here(*args, "--save_dir", "out")
    assert code == 2 and error == "--save_dir out: the working directory, which it is in, was removed"
    assert run_here(*args, "--save_dir", tmp_path / "out") == (0, "")


def test_windows_is_told_in_a_line(tmp_path):
    code = "import runpy, sys; sys.platform = 'win32'; sys.modules['fcntl'] = None; "
    code += f"runpy.run_path({str(ENTRY)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(ENTRY).parent, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "sample_ilvr: error: this runs on Linux and macOS; on Windows, in its Linux (WSL)\n"

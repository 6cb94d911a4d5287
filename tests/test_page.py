"""The page that a run writes: true at any moment, the same for the same run, and never in place of another's."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands import run_here, start
from tests.test_resume import wait_for_images
from utils.errors import RunError
from utils.images import make_labelled_grid, save_png
from utils.run import figures, sampling
from utils.run.arguments import parse_args
from utils.run.page import render, spans


@pytest.fixture
def job(tmp_path, input_dir, tiny_model, monkeypatch) -> tuple:
    """The arguments of a quick run into out/."""
    monkeypatch.chdir(tmp_path)
    return ("--weights", tiny_model, "--input_dir", input_dir, "--save_dir", "out", "--respace_steps", 2)


def told(folder: Path) -> dict[str, Any]:
    """What a run's page says, as its script reads it."""
    content = (folder / "index.html").read_text("utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*)</script>', content)
    assert found
    return json.loads(found[1])


def shown(folder: Path) -> set[str]:
    """The samples that a run's page shows as made."""
    page = told(folder)
    return {
        f"{binding['folder']}/{page['references'][number % page['stride']]['stem']}_{number // page['stride']}.png"
        for binding in page["bindings"]
        for first, end in binding["made"]
        for number in range(first, end)
    }


def there(folder: Path) -> set[str]:
    """The samples that are."""
    return {f"{path.parent.relative_to(folder)}/{path.name}".removeprefix(".") for path in folder.rglob("*_?.png")}


def test_the_page_of_a_sweep(tmp_path, job):
    sweep = ("--downsample_factor", 2, 2.5, "--range_t", 0, 1, "--n_samples", 5, "--progress_grid", 1)
    assert run_here(*job, *sweep) == (0, "")
    page = told(tmp_path / "out")
    assert shown(tmp_path / "out") == there(tmp_path / "out") and len(shown(tmp_path / "out")) == 4 * 5
    assert [one["label"] for one in page["references"]] == ["a.png", "b.jpg", "c.bmp"]
    assert page["pictures"] == {folder: [[0, 3]] for folder in ("index_files", "index_files/N2", "index_files/N2.5")}
    assert (page["size"], page["film"], page["running"]) == ([16, 16], 1, False)
    assert all(binding["film"] for binding in page["bindings"])
    assert dict(page["settings"])["seed"] == "2022"
    assert page["command"].startswith("python sample_ilvr.py --weights ") and "--range_t 0 1" in page["command"]


def test_one_step_is_singular(tmp_path, job):
    assert run_here(*job[:-1], 1, "--n_samples", 1) == (0, "")
    assert "1\N{NO-BREAK SPACE}step " in told(tmp_path / "out")["about"]


def test_pictures_show_the_reference_and_what_binds(tmp_path, job, input_dir):
    args = (*job, "--downsample_factor", 16, "--n_samples", 3)
    assert run_here(*args) == (0, "")
    pictures = tmp_path / "out" / "index_files"
    assert np.ptp(np.asarray(Image.open(pictures / "a.png")).astype(int), axis=(0, 1)).min() > 50
    assert np.ptp(np.asarray(Image.open(pictures / "N16" / "a.png")).astype(int), axis=(0, 1)).max() <= 1  # its mean
    before = {path: path.read_bytes() for path in pictures.rglob("*.png") if path.name != "grid.png"}
    assert len(before) == 6

    (pictures / "a.png").unlink()
    (pictures / "N16" / "b.png").write_bytes(before[pictures / "N16" / "b.png"][:-20])  # cut short
    assert run_here(*args) == (0, "")  # all samples being finished
    assert {path: path.read_bytes() for path in before} == before
    Image.new("RGB", (30, 30), "red").save(input_dir / "a.png")
    assert run_here(*args) == (0, "")
    assert {path.name for path in before if path.read_bytes() != before[path]} == {"a.png"}
    assert (np.asarray(Image.open(pictures / "a.png")) == (255, 0, 0)).all()


@pytest.mark.slow
def test_the_page_of_a_killed_run_shows_what_is_there(tmp_path, job):
    job = (*job, "--n_samples", 60, "--micro_batch", 2, "--respace_steps", 20)
    out = tmp_path / "out"
    process = start(1, *job, cwd=tmp_path)
    wait_for_images(process, out, 1)
    assert told(out)["running"]
    wait_for_images(process, out, 9)
    process.kill()
    process.communicate()
    assert shown(out) <= there(out)  # at most some of the last second's are missing
    assert len(shown(out)) >= 1 and len(there(out)) < 60

    made = len(there(out))
    process = start(1, *job, cwd=tmp_path)
    wait_for_images(process, out, made + 1)
    assert len(shown(out)) >= made
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=30)[1]
    assert f"{len(there(out))} of 60 images are done" in errors
    assert not told(out)["running"]
    assert shown(out) == there(out)


def test_the_page_of_a_run_that_fails_says_so(tmp_path, job, monkeypatch):
    def fail_later(*args):
        if (tmp_path / "out" / "a_0.png").exists():
            raise RunError("disk full")
        return save_png(*args)

    monkeypatch.setattr(sampling, "save_png", fail_later)
    assert run_here(*job, "--n_samples", 3) == (1, "disk full")
    page = told(tmp_path / "out")
    assert not page["running"] and page["bindings"][0]["made"] == [[0, 1]]


@pytest.mark.parametrize("place", ["index.html", "index_files/b.png", "index_files/N8/b.png"])
def test_what_someone_else_wrote_is_not_replaced(tmp_path, job, place):
    path = tmp_path / "out" / place
    path.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(path, "PNG")
    content = path.read_bytes()
    code, error = run_here(*job)
    assert (code, error.count("\n")) == (2, 0)
    assert f"out/{place}: exists and was not written by this program" in error
    assert path.read_bytes() == content and not there(tmp_path / "out")
    assert run_here(*job, "--overwrite") == (0, "")
    assert path.read_bytes() != content


@pytest.mark.parametrize("place", ["index.html", "index_files/b.png"])
def test_a_folder_in_the_way_is_told(tmp_path, job, place):
    (tmp_path / "out" / place).mkdir(parents=True)
    for more in ((), ("--overwrite",)):
        code, error = run_here(*job, *more)
        assert code == 2 and f"out/{place}: is in the way" in error


def test_pictures_alone_are_no_images_of_other_settings(tmp_path, job):
    """As a run leaves them that is killed before its first image."""
    assert run_here(*job, "--n_samples", 3) == (0, "")
    for path in (tmp_path / "out").glob("*.png"):
        path.unlink()
    before = (tmp_path / "out" / "index_files" / "a.png").stat().st_mtime_ns
    assert run_here(*job, "--n_samples", 3, "--seed", 1) == (0, "")
    assert dict(told(tmp_path / "out")["settings"])["seed"] == "1"
    assert (tmp_path / "out" / "index_files" / "a.png").stat().st_mtime_ns != before


def test_references_that_cannot_be_read_are_left_out(tmp_path, job, input_dir):
    (input_dir / "b.jpg").write_bytes(b"no image")
    assert run_here(*job, "--n_samples", 5, "--skip_bad_inputs") == (0, "")
    page = told(tmp_path / "out")
    assert [one.get("name") for one in page["references"]] == ["a", None, "c"]
    assert page["bindings"][0]["made"] == [[0, 1], [2, 4]]
    assert page["pictures"]["index_files"] == [[0, 1], [2, 3]]


def test_open_shows_the_page_when_all_is_done(tmp_path, job, monkeypatch, capsys):
    opened: list[str] = []
    monkeypatch.setattr(figures.webbrowser, "open", lambda url: opened.append(url) or len(opened) == 1)
    assert run_here(*job, "--n_samples", 1) == (0, "") and not opened
    assert run_here(*job, "--n_samples", 2, "--open") == (0, "")
    assert opened == [(tmp_path / "out" / "index.html").as_uri()]
    assert "--open" not in told(tmp_path / "out")["command"]
    assert run_here(*job, "--n_samples", 2, "--open") == (0, "")  # on a machine without a browser
    assert "no browser" in capsys.readouterr().out


def test_the_grid_of_a_large_run_says_what_it_shows(job, monkeypatch):
    drawn: list[tuple] = []
    monkeypatch.setattr(figures, "GRID_ROWS", 2)
    monkeypatch.setattr(figures, "GRID_VARIATIONS", 1)
    monkeypatch.setattr(figures, "make_labelled_grid", lambda *args: drawn.append(args) or make_labelled_grid(*args))
    assert run_here(*job, "--n_samples", 6) == (0, "")
    rows, labels, note = drawn[0]
    assert note == "2 of 3 references, 1 of 2 variations"
    assert labels == ["reference", "what binds at N = 8", "samples"]
    assert [len(row) for row in rows] == [3, 3]


def test_nothing_that_is_told_ends_the_data_block():
    hostile = "</script><script>alert(1)</script><!--<script>{{script}}"
    data = {"references": [{"name": "a", "stem": "a", "label": hostile}], "pictures": {}, "folder": "index_files"}
    page = render(data | {"command": hostile, "about": hostile, "settings": [[hostile, hostile]]})
    assert page.count("<script") == 2 and page.count("</script") == 2 and "<!--" not in page
    assert json.loads(page.rpartition('application/json">')[2].partition("</script>")[0])["command"] == hostile


def testspans():
    assert spans([0, 1, 2, 5, 7, 8]) == [(0, 3), (5, 6), (7, 9)]
    assert spans([]) == []


@pytest.mark.parametrize("word", ["a b", "it's", "new\nline", "\udcff.png", 'a"b$c`d\\', "ünï", ""])
def test_a_command_can_be_pasted_into_a_shell(word):
    command = parse_args(["--weights", word])["command"].removeprefix("python sample_ilvr.py --weights ")
    done = subprocess.run(["bash", "-c", f"printf %s {command}"], capture_output=True)
    assert done.stdout == os.fsencode(word)

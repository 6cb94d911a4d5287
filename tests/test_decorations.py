"""Grid, page and film are drawn of finished images: what cannot be drawn is said in a line, and the run is done."""

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.commands import run_here
from utils.images import read_png_text
from utils.run import engine, figures, page, sampling


@pytest.fixture
def job(tmp_path, input_dir, tiny_model) -> tuple:
    """The arguments of a job of three images, whose results lie in out/."""
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--save_dir", tmp_path / "out", "--respace_steps", 2)
    return (*args, "--downsample_factor", 4, "--progress_grid", 0)


def at_the_end(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act when all images are there, and nothing has been drawn of them."""
    finish = engine.finish
    monkeypatch.setattr(engine, "finish", lambda *args: (act(), finish(*args)))


def lines_of(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("sample_ilvr: ")]


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk of a PNG (PNG, third edition, 5.3)."""
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def with_pixels(png: bytes, change: Callable[[bytes], bytes | None]) -> bytes:
    """The PNG with other content in its IDAT, or without any, and valid checksums."""
    parts = [png[:8]]
    for kind, content in chunks(png):
        changed = change(content) if kind == b"IDAT" else content
        if changed is not None:
            body = kind + changed
            parts.append(struct.pack(">I", len(changed)) + body + struct.pack(">I", zlib.crc32(body)))
    return b"".join(parts)


def resized(png: bytes) -> bytes:
    """As a tool leaves it that keeps a picture's text."""
    with Image.open(io.BytesIO(png)) as image:
        text, file = PngInfo(), io.BytesIO()
        for name, value in image.text.items():
            text.add_itxt(name, value)
        image.resize((8, 8)).save(file, "PNG", pnginfo=text)
    return file.getvalue()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "text": lambda path: path.write_bytes(b"my notes"),
    "no pixels": lambda path: path.write_bytes(with_pixels(path.read_bytes(), lambda content: None)),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_finished_image_that_is_damaged_during_the_run(tmp_path, job, monkeypatch, capsys, how):
    path = tmp_path / "out" / "b_0.png"
    at_the_end(monkeypatch, lambda: DAMAGES[how](path))
    assert run_here(*job) == (0, "")
    said = capsys.readouterr()
    (line,) = lines_of(said.err)
    assert line.startswith(
        f"sample_ilvr: index_files/grid.png could not be drawn: {path}: cannot be read as an image: "
    )
    assert "3 images are in" in said.out and "grid.png" not in said.out
    assert '"running":false' in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "progress_grid.webp").exists()


def test_an_image_of_another_size_is_drawn(tmp_path, job, monkeypatch):
    at_the_end(monkeypatch, lambda: Image.new("RGB", (900, 7)).save(tmp_path / "out" / "b_0.png"))
    assert run_here(*job) == (0, "")
    assert (tmp_path / "out" / "index_files" / "grid.png").exists()


@pytest.mark.parametrize("code", [errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EMFILE])
def test_a_page_that_cannot_list_or_write(tmp_path, job, monkeypatch, capsys, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    def break_it():
        monkeypatch.setattr(page.os, "listdir", fail)
        monkeypatch.setattr(page, "write_atomically", fail)

    at_the_end(monkeypatch, break_it)
    assert run_here(*job) == (0, "")
    (line,) = lines_of(capsys.readouterr().err)
    assert line.startswith("sample_ilvr: index.html could not be drawn: ") and os.strerror(code) in line


def test_a_film_that_webp_cannot_hold(tmp_path, job, monkeypatch, capsys):
    monkeypatch.setattr(figures, "make_grid", lambda rows: figures.np.zeros((4, 16384, 3), figures.np.uint8))
    assert run_here(*job) == (0, "")
    (line,) = lines_of(capsys.readouterr().err)
    assert line.startswith("sample_ilvr: progress_grid could not be drawn: ")


@pytest.mark.parametrize("name", ["index_files/grid.png", "index.html", "progress_grid.png", "progress_grid.webp"])
def test_a_file_of_somebody_else_that_comes_during_the_run_stays(tmp_path, job, monkeypatch, capsys, name):
    path = tmp_path / "out" / name
    save = sampling._save
    monkeypatch.setattr(sampling, "_save", lambda *args: (path.write_bytes(b"my notes"), save(*args)))
    assert run_here(*job) == (0, "")
    (line,) = lines_of(capsys.readouterr().err)
    assert f"{name.partition('.')[0]}" in line and f"{path}: exists and was not written by this program" in line
    assert path.read_bytes() == b"my notes"
    monkeypatch.undo()
    assert run_here(*job, "--overwrite") == (0, "")
    assert path.read_bytes() != b"my notes"


HALVED = {
    "missing": lambda png: with_pixels(png, lambda content: None),
    "halved": lambda png: with_pixels(png, lambda content: content[: len(content) // 2]),
    "resized": resized,
}


@pytest.mark.parametrize("how", HALVED)
def test_pixels_that_are_missing_are_made_again(tmp_path, job, how):
    """All the checksums are right, and so is the text."""
    assert run_here(*job) == (0, "")
    path = tmp_path / "out" / "b_0.png"
    whole, kept = path.read_bytes(), (tmp_path / "out" / "a_0.png").stat().st_mtime_ns
    path.write_bytes(HALVED[how](whole))
    assert "fingerprint" in read_png_text(path).text
    assert run_here(*job) == (0, "")
    assert path.read_bytes() == whole
    assert (tmp_path / "out" / "a_0.png").stat().st_mtime_ns == kept

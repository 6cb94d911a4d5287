"""Hostile input ends in success or in one line with exit code 2: never a traceback, a hang or a partial file.

The cases are run in this process, where a traceback stays one; `test_hostile_folder` runs the command itself.
"""

import io
import os
import random
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.files.checkpoint import config_for, open_checkpoint
from tests.commands import read_images, run_here, sample_ilvr

pytestmark = pytest.mark.slow

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
SECONDS = 20  # a case takes a tenth of one


def bounded(examples: int) -> Callable:
    """So many cases, the same in every run."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=checks)


@contextmanager
def no_hang() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError(f"a case took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    """A folder with one good reference, the tiny model and its config, which each case changes and restores."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "in").mkdir()
    Image.fromarray(PIXELS).save(folder / "in" / "good.png")
    config = config_for(open_checkpoint(tiny_model))
    content = {
        "image_size": config.image_size,
        "image_channels": config.image_channels,
        "weights": str(tiny_model / "diffusion_pytorch_model.safetensors"),
        "model": {"dialect": config.family, "params": dict(config.params)},
        "diffusion": dict(config.diffusion),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def ends_well(place: Path, *args: object, out: str = "out") -> int:
    """Run a case and see that it ended as it should."""
    folder = place / out
    with no_hang():
        code, error = run_here(
            "-c", place / "config.yaml", "--input_dir", place / "in", "--save_dir", folder, "--downsample_factor", 2,
            "--respace_steps", 1, "--overwrite", *args,
        )  # fmt: skip
    assert code in (0, 2), error
    assert (code == 0) == (error == "")
    assert all(line.isprintable() and line for line in error.split("\n")) or code == 0
    assert not list(folder.glob(".*.tmp"))
    assert all(image.ndim == 3 for image in read_images(folder).values())
    return code if code == 0 else 2


def mutated(data: bytes, seed: int) -> bytes:
    """Some bytes changed, cut out, doubled or cut off."""
    rng = random.Random(seed)
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        at = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(min(len(content), 120))
        kind = rng.randrange(6)
        if kind <= 2:
            content[at] = rng.choice([rng.randrange(256), rng.choice(b"0123456789{}[]:,-. \naZ")])
        elif kind == 3:
            content[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 4:
            del content[at : at + rng.randrange(1, 30)]
        else:
            content[at:at] = content[at : at + rng.randrange(1, 30)]
        if not content:
            return b""
    return bytes(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)


@bounded(130)
@given(ending=st.sampled_from(["png", "jpg", "bmp", "tiff", "webp", "gif"]), seed=st.integers(0, 2**32))
def test_images(place, ending, seed):
    file = io.BytesIO()
    mode = random.Random(seed).choice(["RGB", "L", "RGB"] if ending in ("jpg", "webp") else ["RGB", "P", "1", "RGBA"])
    Image.fromarray(PIXELS).convert(mode).save(file, format={"jpg": "jpeg"}.get(ending, ending))
    bad = place / "in" / f"bad.{ending.replace('gif', 'png')}"
    bad.write_bytes(mutated(file.getvalue(), seed))
    try:
        if ends_well(place) == 2:
            assert ends_well(place, "--skip_bad_inputs") == 0
    finally:
        bad.unlink()


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.sampled_from([10**6, 10**12, 10**400, -(10**20), 0.5, 1e-300]),
    st.floats(), st.text(max_size=8), st.lists(st.integers(-2, 9), max_size=4), st.just({"a": 1}),
    st.sampled_from(["linear", "cosine", "quad", "const", "pred_v", "pred_x0", "learned_range", "pesser", "", "\0"]),
)  # fmt: skip


def replaced(content: dict, path: list[int], value: object, how: str) -> None:
    """Change one place of a nested mapping."""
    for depth, number in enumerate(path):
        key = list(content)[number % len(content)]
        inner = content[key]
        if depth < len(path) - 1 and isinstance(inner, dict) and inner:
            content = inner
        elif how == "drop":
            del content[key]
            return
        elif how == "rename":
            content[str(value)[:50]] = content.pop(key)
            return
        else:
            content[key] = value
            return


CHANGES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 30), min_size=1, max_size=3), VALUES, st.sampled_from(["set", "set", "drop", "rename"])
    ),
    min_size=1, max_size=2,
)  # fmt: skip


def written(file: Path, content: dict, changes: list) -> None:
    for path, value, how in changes:
        replaced(content, path, value, how)
        if not content:
            break
    file.write_text(yaml.safe_dump(content))


@bounded(110)
@given(changes=CHANGES, seed=st.one_of(st.none(), st.integers(0, 2**32)))
def test_configs(place, changes, seed):
    config = place / "config.yaml"
    good = config.read_bytes()
    try:
        if seed is None:
            written(config, yaml.safe_load(good), changes)
        else:
            config.write_bytes(mutated(good, seed))
        ends_well(place)
    finally:
        config.write_bytes(good)


@bounded(60)
@given(changes=CHANGES, seed=st.one_of(st.none(), st.integers(0, 2**32)))
def test_run_records(place, changes, seed):
    assert ends_well(place, out="records") == 0
    record = place / "records" / "run.yaml"
    if seed is None:
        written(record, yaml.safe_load(record.read_bytes()), changes)
    else:
        record.write_bytes(mutated(record.read_bytes(), seed))
    with no_hang():
        code, error = run_here(
            "-c", place / "config.yaml", "--input_dir", place / "in", "--save_dir", place / "records",
            "--downsample_factor", 2, "--respace_steps", 1,
        )  # fmt: skip
    assert code in (0, 2) and "\n" not in error


@bounded(60)
@given(seed=st.integers(0, 2**32))
def test_checkpoints(place, tiny_model, seed):
    weights = place / "weights.safetensors"
    weights.write_bytes(mutated((tiny_model / "diffusion_pytorch_model.safetensors").read_bytes(), seed))
    ends_well(place, "--weights", weights)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "[" * 100_000,
        "a: &a [*a]",
        "a: &a [x]\n" + "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n" for i in range(12)),
        "b0: &b0 {x: 1}\n" + "".join(f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 9)}]}}\n" for i in range(1, 12)),
        "image_size: " + "9" * 5000,
        "? [1, 2]\n: 3",
        "image_size: 2001-02-31",
        "\ufeffimage_size: 1\x07",
    ],
    ids=["empty", "list", "deep", "circle", "aliases", "merges", "digits", "keys", "date", "bell"],
)
def test_yaml_made_to_hurt(place, text):
    config = place / "config.yaml"
    good = config.read_bytes()
    try:
        config.write_text(text)
        assert ends_well(place) == 2
    finally:
        config.write_bytes(good)
    assert ends_well(place, out="hurt") == 0
    (place / "hurt" / "run.yaml").write_text(text)
    with no_hang():
        code, error = run_here("--input_dir", place / "in", "--save_dir", place / "hurt")
    assert code == 2 and "\n" not in error and len(error) < 2000


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is as large as this."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def test_hostile_folder(tmp_path, tiny_model):
    """All that a folder can hold, by the command itself; what can be read is, and the rest is named."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    good = io.BytesIO()
    Image.fromarray(PIXELS).save(good, format="png")
    names = ["a.png", "a.jpg", "sub/a.png", "two words.png", "quo'te\".png", "new\nline.png", "é" * 100 + ".png"]
    names += ["-rf.png", "$(touch HACKED).png", "{0}%s.png", "a-0123456789ab.png", os.fsdecode(b"\xff\xfe.png")]
    for name in names:
        (folder / name).write_bytes(good.getvalue())
    (folder / "linked.png").symlink_to("a.png")

    bad = {
        "bomb.png": png_of(60_000, 60_000),
        "wide.png": png_of(2**31 - 1, 1),
        "zero.png": png_of(0, 5),
        "empty.png": b"",
    }
    bad["script.png"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(HACKED) (w) file closefile\n"
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    (folder / "circle.png").symlink_to("circle2.png")
    (folder / "circle2.png").symlink_to("circle.png")
    (folder / "nowhere.png").symlink_to("not/there.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "sub" / "up.png").symlink_to(folder)
    bad_names = {*bad, "circle.png", "circle2.png", "nowhere.png", "pipe.png"}

    args = ("--weights", tiny_model, "--input_dir", folder, "--downsample_factor", 4, "--respace_steps", 2)
    args += ("--save_dir", folder / "sub" / "results")  # inside the input folder
    done = sample_ilvr(*args, timeout=60)
    assert done.returncode == 2
    assert {name for name in bad_names if f"/{name}: " in done.stderr} == bad_names
    assert len(done.stderr.splitlines()) == len(bad_names)
    for _ in range(2):  # the second time, with results inside the input folder
        done = sample_ilvr(*args, "--skip_bad_inputs", timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(read_images(folder / "sub" / "results")) == len(names) + 1
    record = yaml.safe_load((folder / "sub" / "results" / "run.yaml").read_text())
    assert len(record["skipped_inputs"]) == len(bad_names)
    assert not list(Path.cwd().glob("HACKED")) and not list(folder.rglob("HACKED"))


def test_two_references_that_differ_in_ending_or_folder(place):
    """Never write the same file."""
    for name in ("good.jpg", "sub/good.png"):
        (place / "in" / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[::-1]).save(place / "in" / name)
    assert ends_well(place, out="names") == 0
    files = list(read_images(place / "names"))
    assert len(files) == 3 and all(file.startswith("good-") for file in files)
    for name in ("good.jpg", "sub/good.png"):
        (place / "in" / name).unlink()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--input_dir", "x" * 5000], 2),
        (["--save_dir", "x" * 5000], 2),
        (["--weights", "x" * 5000], 2),
        (["-c", "x" * 5000], 2),
        (["-c", "/dev/zero"], 2),
        (["-c", "."], 2),
        (["--weights", "/dev/null"], 2),
        (["--n_samples", 10**30], 2),
        (["--seed", 10**30], 0),
        (["--respace_steps", 10**30], 2),
        (["--downsample_factor", "inf"], 2),
        (["--micro_batch", 10**30], 0),
    ],
)
def test_arguments(place, args, code):
    assert ends_well(place, *args) == code

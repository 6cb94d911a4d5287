"""The sketch pad of examples/draw.py, as a real process: through its client, and in a real browser."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import resize_right
import torch
from PIL import Image

from benchmarks.browser import chromium
from tests.commands import PROJECT

gradio_client = pytest.importorskip("gradio_client", reason="pip install gradio: the example's own requirement")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen([sys.executable, "examples/draw.py"], cwd=PROJECT, env=environment)
    for _ in range(600):
        time.sleep(0.1)
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def drawn(address: str, picture: Image.Image, folder, seed: int = 1, name: str = "landforms") -> np.ndarray:
    """The four samples for a picture on the pad at N = 8, every step bound, as float64 [4, H, W, 3]."""
    picture.save(folder / "pad.png")
    file = gradio_client.handle_file(folder / "pad.png")
    pad = {"background": file, "layers": [], "composite": file}
    client = gradio_client.Client(address, verbose=False)
    found = client.predict(pad, name, 8, 0, "sample", seed, api_name="/draw")
    return np.stack([np.asarray(Image.open(each["image"]).convert("RGB")) for each in found]).astype(float)


def low(images: np.ndarray) -> np.ndarray:
    """The means of what binds at N = 8 of 64 pixels, by another project's resizer."""
    return resize_right.resize(torch.from_numpy(images).movedim(-1, 1), out_shape=(8, 8)).numpy()


def test_samples_follow_the_pad_where_it_is_drawn_on(address, tmp_path):
    picture = Image.open(PROJECT / "assets" / "maps" / "coast.png").convert("RGBA")
    bound = drawn(address, picture, tmp_path)
    wanted = low(np.asarray(picture.convert("RGB"), float)[None])
    assert len(bound) == 4 and abs(low(bound) - wanted).mean() < 6
    assert np.array_equal(bound, drawn(address, picture, tmp_path))  # the same seed
    assert not np.array_equal(bound, drawn(address, picture, tmp_path, seed=2))
    half = np.array(picture)
    half[:, 128:, 3] = 0
    left = drawn(address, Image.fromarray(half), tmp_path)
    difference = abs(low(left) - wanted).mean((0, 1, 2))
    assert difference[:3].mean() < 8 and difference[5:].mean() > 2 * difference[:3].mean()


def test_an_empty_pad_draws_what_the_model_likes(address, tmp_path):
    empty = drawn(address, Image.new("RGBA", (440, 440)), tmp_path)
    other = drawn(address, Image.new("RGBA", (440, 440), (255, 0, 0, 0)), tmp_path)
    assert np.array_equal(empty, other)  # of no colour
    assert abs(empty[0] - empty[1]).mean() > 10


def test_a_stroke_in_a_browser_becomes_samples(address):
    try:
        with chromium() as browser:
            browser.open(address)
            pictures = "[...document.images].filter(i => i.width > 80 && i.src.includes('/file=')).map(i => i.src)"
            browser.wait(f"{pictures}.length >= 4", 120)
            browser.wait("document.querySelector('canvas').getBoundingClientRect().width < 600", 20)
            before = set(browser.run(f"return {pictures}"))
            browser.click(browser.one("canvas"), 60)  # a dot of the brush
            browser.wait(f"{pictures}.filter(i => !{sorted(before)}.includes(i)).length >= 4", 120)
    except LookupError as error:
        pytest.skip(str(error))

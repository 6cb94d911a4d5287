"""How long the page of a large run takes to appear, and how much memory it takes.

    python -m benchmarks.gallery [--images 2000] [--rounds 5]

The page shows eight samples per reference, 64×64 pixels of noise, which PNG cannot compress. It is opened from disk
in a new headless Chromium each round. The script prints medians: the time to the first contentful paint, as the
browser reports it, and the memory of the page's process (proportional set size) when it is loaded, after scrolling
through all of it, and for an empty page.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from urllib.parse import quote

import numpy as np
from PIL import Image

from benchmarks.browser import Browser, chromium
from benchmarks.workers import machine, print_target
from utils.run.page import render

SIZE, VARIATIONS = 64, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        page = write_page(Path(work), args.images)
        rounds = [measure(page) for _ in range(args.rounds)]
    paint, empty, loaded, scrolled = (median(values) for values in zip(*rounds, strict=True))
    print(f"{machine()}, medians of {args.rounds} rounds, {args.images} images of {SIZE}×{SIZE}")
    print(f"first contentful paint {paint:.0f} ms")
    print(f"memory: an empty page {empty:.0f} MB, this one {loaded:.0f} MB, scrolled through {scrolled:.0f} MB")
    print_target("first paint, ms", paint, "≤", 1000)
    print_target("memory, scrolled through, MB", scrolled, "≤", 200)


def write_page(folder: Path, n_samples: int) -> Path:
    """Make a run's folder, with images of noise."""
    count = -(-n_samples // VARIATIONS)
    names = [f"reference {number:04}" for number in range(count)]
    folders = ("index_files", "index_files/N8")
    files = [f"{place}/{name}" for place in folders for name in names]
    files += [f"{names[number % count]}_{number // count}" for number in range(n_samples)]
    (folder / "index_files" / "N8").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file in files:
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{file}.png", compress_level=0)
    page = {
        "size": (SIZE, SIZE),
        "references": [{"name": name, "stem": quote(name), "label": f"{name}.png"} for name in names],
        "stride": count,
        "samples": n_samples,
        "bindings": [
            {
                "factor": 8.0,
                "range": 0,
                "folder": "",
                "binds": "index_files/N8",
                "made": [(0, n_samples)],
                "film": False,
            }
        ],
        "classes": [],
        "folder": "index_files",
        "pictures": {folder: [(0, count)] for folder in folders},
        "film": None,
        "about": "noise",
        "settings": [],
        "command": "",
        "running": False,
    }
    (folder / "index.html").write_text(render(page), encoding="utf-8")
    return folder / "index.html"


def measure(page: Path) -> tuple[float, float, float, float]:
    """First contentful paint in ms, and MB of an empty page, of this one loaded, and scrolled through."""
    with chromium() as browser:
        browser.open("about:blank")
        empty = memory(browser)
        browser.open(page)
        browser.wait("performance.getEntriesByName('first-contentful-paint').length")
        paint = browser.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
        browser.wait("[...document.images].slice(0, 6).every(image => image.complete)")
        time.sleep(1)
        loaded = memory(browser)
        while browser.run("scrollBy(0, 800); return scrollY + innerHeight < document.body.scrollHeight - 1"):
            time.sleep(0.02)
        return paint, empty, loaded, memory(browser)


def memory(browser: Browser) -> float:
    """MB of the page's own process: of the browser's renderers, the one that has the most."""
    renderers = [pid for pid in descendants(browser.driver.service.process.pid) if is_renderer(pid)]
    return max(map(proportional_set_size, renderers))


def descendants(pid: int) -> Iterator[int]:
    """Find the processes that a process has started, and their own."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from descendants(child)


def is_renderer(pid: int) -> bool:
    return b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes()


def proportional_set_size(pid: int) -> float:
    """MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


if __name__ == "__main__":
    main()

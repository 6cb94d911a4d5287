"""The README's screenshots of a run's page, by headless Chromium.

    python -m benchmarks.screenshots [--save_dir assets]

A sweep over the demo references is run for them, into a temporary folder: 80 images.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.browser import Browser, chromium
from benchmarks.figures import LAST_FIFTH, run
from utils.files import PROJECT
from utils.images import read_pixels, save_png

NARROW = (360, 740)
DENSITY = 2  # a phone's pixels per CSS pixel, at least
GAP = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=PROJECT / "assets")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        factors = ("--downsample_factor", 2, 4, 8, 16, 32)
        out = run(Path(work), ["*"], *factors, "--range_t", LAST_FIFTH, "--progress_grid", 13)
        with chromium() as browser:
            take(browser, out / "index.html", args.save_dir)


def take(browser: Browser, page: Path, save_dir: Path) -> None:
    """Make gallery.png, 1280 pixels wide, and gallery_360.png: the page on a phone, and an image in the dark theme."""
    browser.open(page)
    slide(browser, 2)
    shoot(browser, save_dir / "gallery.png")
    browser.screen(*NARROW, DENSITY)
    left = shoot(browser, page.parent / "left.png")
    browser.screen(*NARROW, DENSITY, dark=True)
    browser.one("button[aria-label^='photo-astronaut']").click()
    browser.run("document.activeElement.blur()")
    right = shoot(browser, page.parent / "right.png")
    between = np.full((left.shape[0], GAP, 3), 255, np.uint8)
    save_png(np.concatenate([left, between, right], axis=1), save_dir / "gallery_360.png")


def slide(browser: Browser, index: int) -> None:
    """Move the slider over N to one of its places."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    browser.run(script, browser.one("#controls input[type=range]"), index)


def shoot(browser: Browser, path: Path) -> np.ndarray:
    """Take a screenshot once all images in view are loaded."""
    seen = "image.getBoundingClientRect().top > innerHeight || image.complete"
    browser.wait(f"[...document.images].filter(image => image.src).every(image => {seen})")
    browser.screenshot(path)
    return read_pixels(path)


if __name__ == "__main__":
    main()

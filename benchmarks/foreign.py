"""References that the embedded model could not have drawn, for measuring translation.

    (cd weights/openpeeps64 && npm install) && node benchmarks/foreign.mjs data
    pip install scikit-image
    python -m benchmarks.foreign data      # writes benchmarks/foreign.webp, lossless, and foreign.csv, who made what

Eight portraits in each of twelve styles of other illustrators, a column per style, drawn by DiceBear; then a row of
photographs and of pictures painted, or made to look painted. `foreign.csv` names the author and licence of each.
"""

import csv
import sys
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor

from benchmarks.sheet import SIZE, read_sheet, write_sheet
from utils.files import PROJECT

SHEET = Path(__file__).with_suffix(".webp")
CREDITS = Path(__file__).with_suffix(".csv")
STYLES = 12
PAINTED, BRUSH = 192, 13  # pixels a side of a picture that is painted over, and of its brush


@dataclass(frozen=True)
class Credit:
    """A row of the list of authors."""

    name: str
    title: str
    creator: str
    licence: str
    source: str


@dataclass(frozen=True)
class Picture:
    """A file of a package, and the square to cut from it: left, top, right, bottom. All of it if left out."""

    credit: Credit
    package: str
    file: str
    box: tuple[int, int, int, int] | None = None
    paint: bool = False  # the most frequent colour around every pixel, as thick brushes leave it


ASTRONAUT = Credit("astronaut", "Eileen Collins", "NASA", "public domain", "scikit-image: astronaut")
HOPPER = Credit("hopper", "Grace Hopper", "James S. Davis, US Navy", "public domain", "matplotlib: grace_hopper")
CAMERA = Credit("camera", "Cameraman", "Lav Varshney", "CC0 1.0", "scikit-image: camera")
CHELSEA = Credit("chelsea", "Chelsea the cat", "Stefan van der Walt", "CC0 1.0", "scikit-image: chelsea")
COFFEE = Credit("coffee", "Coffee cup", "Rachel Michetti", "CC0 1.0", "scikit-image: coffee")
ROCKET = Credit("rocket", "Launch of DSCOVR", "SpaceX", "public domain", "scikit-image: rocket")
REDHEAD = Credit("redhead", "Painted redhead", "this project", "CC0 1.0", "assets/references/paint-redhead.png")
SCRIBBLE = Credit("scribble", "Scribble", "this project", "CC0 1.0", "assets/references/scribble-blue-hair.png")

IMAGES, SAMPLES = "data", "mpl-data/sample_data"
PICTURES = (
    Picture(ASTRONAUT, "skimage", f"{IMAGES}/astronaut.png"),
    Picture(HOPPER, "matplotlib", f"{SAMPLES}/grace_hopper.jpg", (0, 0, 512, 512)),
    Picture(CAMERA, "skimage", f"{IMAGES}/camera.png"),
    Picture(CHELSEA, "skimage", f"{IMAGES}/chelsea.png", (90, 0, 390, 300)),
    Picture(COFFEE, "skimage", f"{IMAGES}/coffee.png", (120, 0, 520, 400)),
    Picture(ROCKET, "skimage", f"{IMAGES}/rocket.jpg", (106, 0, 533, 427)),
    Picture(ASTRONAUT, "skimage", f"{IMAGES}/astronaut.png", (110, 0, 340, 230)),
    Picture(HOPPER, "matplotlib", f"{SAMPLES}/grace_hopper.jpg", (100, 20, 420, 340)),
    Picture(ASTRONAUT, "skimage", f"{IMAGES}/astronaut.png", (110, 0, 340, 230), paint=True),
    Picture(HOPPER, "matplotlib", f"{SAMPLES}/grace_hopper.jpg", (100, 20, 420, 340), paint=True),
    Picture(REDHEAD, "assets", "references/paint-redhead.png"),
    Picture(SCRIBBLE, "assets", "references/scribble-blue-hair.png"),
)


def load_foreign() -> Tensor:
    """Load the sheet's pictures, [108, 3, 64, 64] float32 in [-1, 1]; all styles' first, then all styles' second, …"""
    return read_sheet(SHEET)


def pack(folder: Path) -> None:
    """Make sheet and credits from what foreign.mjs wrote into `folder`, and from the photographs of two packages."""
    portraits = np.fromfile(folder / "foreign.bin", np.uint8).reshape(-1, STYLES, SIZE, SIZE, 3)
    write_sheet(np.concatenate([portraits, np.stack([square(picture) for picture in PICTURES])[None]]), SHEET)
    credits = dict.fromkeys(picture.credit for picture in PICTURES)
    with CREDITS.open("w", newline="", encoding="utf-8") as file:
        file.write((folder / "foreign.csv").read_text("utf-8"))
        csv.writer(file, lineterminator="\n").writerows(astuple(credit) for credit in credits)


def square(picture: Picture) -> np.ndarray:
    """[64, 64, 3] uint8."""
    with Image.open(package(picture.package) / picture.file) as file:
        image = file.convert("RGB").crop(picture.box)
    if picture.paint:
        image = image.resize((PAINTED, PAINTED)).filter(ImageFilter.ModeFilter(BRUSH))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def package(name: str) -> Path:
    """Find the folder of an installed package, or of this project."""
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else PROJECT / name


if __name__ == "__main__":
    pack(Path(sys.argv[1]))

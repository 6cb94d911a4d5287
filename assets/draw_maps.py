"""Draw the references of the atlas model: `python assets/draw_maps.py` writes assets/maps and assets/word.png.

Plain colours are enough: what a scribble leaves out, the model fills in. All but the photograph come from here.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ASSETS = Path(__file__).resolve().parent
# near to frequent colours of the atlas: of shallow sea, lowland, dry land, mountains and ice
SEA, LAND, DRY, ROCK, ICE = "#c8dcef", "#86b399", "#cbc0ac", "#c9b8a4", "#f2f2f4"
SIDE = 256
ZOOM = 4  # drawn so much larger, then shrunk to smooth the edges

Point = tuple[float, float]


class Canvas:
    """A picture to draw on, in units of its height.

    Args:
        ground: its colour.
        aspect: width per height.
    """

    def __init__(self, ground: str = SEA, aspect: float = 1) -> None:
        self.scale = SIDE * ZOOM
        self.image = Image.new("RGB", (round(self.scale * aspect), self.scale), ground)
        self.draw = ImageDraw.Draw(self.image)

    def blob(self, centre: Point, radius: float, colour: str, rough: float = 0.15, seed: int = 0) -> None:
        """Fill a roundish shape; its radius varies by `rough`."""
        angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        rng = np.random.default_rng(seed)
        waves = sum(rng.normal() / k * np.sin(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
        radii = radius * (1 + rough * waves)
        points = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], 1)
        self.draw.polygon([tuple(point) for point in points * self.scale], fill=colour)

    def area(self, points: Iterable[Point], colour: str) -> None:
        """Fill a polygon."""
        self.draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=colour)

    def line(self, points: Iterable[Point], width: float, colour: str) -> None:
        """Draw a line with round corners and ends."""
        at = [(x * self.scale, y * self.scale) for x, y in points]
        self.draw.line(at, fill=colour, width=round(width * self.scale), joint="curve")
        radius = width * self.scale / 2
        for x, y in (at[0], at[-1]):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def text(self, at: Point, text: str, size: float, colour: str, stroke: float = 0.05) -> None:
        """Write letters around a point, made bold by a stroke, in shares of their size."""
        font = ImageFont.load_default(size * self.scale)
        place = (at[0] * self.scale, at[1] * self.scale)
        self.draw.text(place, text, colour, font, "mm", stroke_width=round(stroke * size * self.scale))

    def save(self, name: str) -> None:
        """Write the picture, smoothed."""
        small = self.image.resize((self.image.width // ZOOM, self.image.height // ZOOM), Image.Resampling.BOX)
        small.quantize(256).save(ASSETS / name, optimize=True)


def islands() -> None:
    canvas = Canvas()
    places = [((0.27, 0.3), 0.16), ((0.7, 0.24), 0.1), ((0.6, 0.68), 0.19), ((0.2, 0.75), 0.07), ((0.87, 0.52), 0.05)]
    for i, (centre, radius) in enumerate(places):
        canvas.blob(centre, radius, LAND, seed=i)
        canvas.blob(centre, radius * 0.3, ROCK, seed=10 + i)
    canvas.save("maps/islands.png")


def coast() -> None:
    canvas = Canvas()
    shore = [(0, 0), (0.5, 0), (0.58, 0.2), (0.5, 0.36), (0.66, 0.55), (0.6, 0.78), (0.72, 1), (0, 1)]
    canvas.area(shore, LAND)
    canvas.line([(0.16, -0.1), (0.26, 0.22), (0.2, 0.45), (0.36, 0.7), (0.33, 1.1)], 0.13, ROCK)
    canvas.line([(0.2, 0.45), (0.36, 0.7)], 0.05, ICE)
    canvas.save("maps/coast.png")


def delta() -> None:
    canvas = Canvas()
    canvas.area([(0, 0), (1, 0), (1, 0.55), (0.72, 0.62), (0.5, 0.86), (0.28, 0.62), (0, 0.5)], DRY)
    canvas.area([(0.5, 0.24), (0.72, 0.62), (0.5, 0.86), (0.28, 0.62)], LAND)
    canvas.line([(0.42, -0.1), (0.56, 0.12), (0.5, 0.32)], 0.06, SEA)
    for x, y in ((0.3, 0.64), (0.5, 0.9), (0.7, 0.66)):
        canvas.line([(0.5, 0.32), ((0.5 + x) / 2 + 0.02, (0.32 + y) / 2), (x, y)], 0.035, SEA)
    canvas.save("maps/delta.png")


def letter() -> None:
    canvas = Canvas()
    canvas.text((0.5, 0.5), "A", 1.15, LAND, stroke=0.06)
    canvas.line([(0.5, 0.14), (0.68, 0.6)], 0.05, ROCK)
    canvas.save("maps/letter.png")


def word() -> None:
    """Draw the word of the first figure, three times as wide as high, with an island for a full stop."""
    canvas = Canvas(aspect=3)
    for x, letter in zip((0.26, 0.66, 1.2, 1.82), "ILVR", strict=True):
        canvas.text((x, 0.5), letter, 0.86, LAND)
    canvas.line([(0.52, 0.28), (0.52, 0.74), (0.77, 0.76)], 0.06, ROCK)
    canvas.line([(1.01, 0.28), (1.2, 0.76)], 0.06, ROCK)
    canvas.blob((2.55, 0.5), 0.21, LAND, seed=3)
    canvas.blob((2.55, 0.48), 0.09, ROCK, seed=4)
    canvas.blob((2.8, 0.84), 0.06, LAND, seed=5)
    canvas.save("word.png")


def scribble() -> None:
    """Scrawl a whale with a thick pen; it blows mountains."""
    canvas = Canvas()
    rng = np.random.default_rng(1)
    turns = np.linspace(0, 1, 26)
    x = 0.12 + 0.62 * turns
    middle, half = 0.58 - 0.05 * np.sin(3 * turns), 0.03 + 0.2 * np.sin(np.pi * np.clip(turns * 0.85 + 0.12, 0, 1))
    y = middle + half * np.where(np.arange(26) % 2, 1, -1)
    canvas.line(zip(x + rng.normal(0, 0.012, 26), y + rng.normal(0, 0.015, 26), strict=True), 0.055, LAND)
    canvas.line([(0.72, 0.55), (0.84, 0.42), (0.93, 0.3)], 0.06, LAND)
    canvas.line([(0.8, 0.47), (0.93, 0.52)], 0.06, LAND)
    canvas.line([(0.36, 0.34), (0.35, 0.2), (0.27, 0.13)], 0.04, ROCK)
    canvas.line([(0.36, 0.34), (0.38, 0.2), (0.47, 0.12)], 0.04, ROCK)
    canvas.save("maps/scribble.png")


def spiral() -> None:
    canvas = Canvas()
    turns = np.linspace(0.8, 2.7 * np.pi, 200)
    radius = 0.048 * turns
    arm = np.stack([0.5 + radius * np.cos(turns), 0.5 + radius * np.sin(turns)], 1)
    canvas.line(map(tuple, arm), 0.17, LAND)
    canvas.save("maps/spiral.png")


def painting() -> None:
    """Paint a bay at sunset in some thousand strokes of a flat brush."""
    canvas = Canvas("#e8c9a8")
    rng = np.random.default_rng(2)

    def colour(x: float, y: float) -> np.ndarray:
        hills = 0.42 + 0.07 * np.sin(5 * x) + 0.04 * np.sin(13 * x + 1)
        if y > 0.62 + 0.05 * np.sin(4 * x + 2):
            return np.array([94, 140, 176]) + 60 * np.exp(-((x - 0.68) ** 2) / 0.01) * np.array([1.6, 0.8, -0.2])
        if y > hills:
            return np.array([104, 148, 112]) + 90 * (y - hills)
        glow = np.exp(-((x - 0.68) ** 2 + (y - 0.3) ** 2) / 0.03)
        return np.array([168, 190, 214]) + glow * np.array([80, 20, -70])

    for _ in range(2600):
        x, y = rng.uniform(-0.05, 1.05, 2)
        shade = tuple(np.clip(colour(x, y) + rng.normal(0, 9), 0, 255).astype(int).tolist())
        slope = rng.normal(0, 0.2)
        canvas.line([(x - 0.03, y - 0.03 * slope), (x + 0.03, y + 0.03 * slope)], 0.02, f"rgb{shade}")
    canvas.save("maps/painting.png")


if __name__ == "__main__":
    (ASSETS / "maps").mkdir(exist_ok=True)
    for draw in (islands, coast, delta, letter, scribble, spiral, painting, word):
        draw()
    photograph = Image.open(ASSETS / "references" / "photo-astronaut.jpg")
    photograph.save(ASSETS / "maps" / "face.jpg", quality=90)

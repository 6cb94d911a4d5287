"""What a picture's numbers mean where Pillow leaves it open: which is white, and whether the smallest is."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

BITS, PHOTOMETRIC, LARGEST, PLANES, FORMAT = 258, 262, 281, 284, 339  # tags of TIFF
MIN_IS_WHITE, SEPARATE, SIGNED = 0, 2, 2  # values of theirs
DEEP_GREYS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # modes that Pillow does not bring to 8 bits
BAND_ROWS = 256  # looked at at a time
FEWEST = 2**14  # numbers that all lie below are not of 16 bits: cameras' own have 12 or 14
ADVICE = "save it with 8 bits, or with 16 of which white takes the largest number"


@dataclass(frozen=True)
class Values:
    """How numbers become 8 bits.

    Attributes:
        white: the number of white, or None where they have 8 bits already.
        unsigned: whether Pillow's first bit of 32 is no sign.
        inverted: whether it is black that has this number, and 0 is white.
        opaque: whether transparency does not count.
    """

    white: int | None = None
    unsigned: bool = False
    inverted: bool = False
    opaque: bool = False

    def to_8_bits(self, image: Image.Image) -> Image.Image:
        """A picture, or a part of it, in a mode of 8 bits where 255 is white."""
        if self.opaque:
            return image.convert("RGB")
        if self.white is None:
            return image
        numbers = _numbers(image, self.unsigned)
        scaled = (numbers * (255 / self.white)).round().clip(0, 255).astype(np.uint8)
        grey = Image.fromarray(255 - scaled if self.inverted else scaled)
        if isinstance(clear := image.info.get("transparency"), int):
            grey.putalpha(Image.fromarray(np.where(numbers == clear, 0, 255).astype(np.uint8)))
        return grey


@dataclass(frozen=True)
class Layout:
    """How a file keeps its numbers: Pillow's raw mode, the number that a TIFF names as its largest, and what 0 is."""

    kind: str
    largest: int | None
    min_is_white: bool


def layout_of(image: Image.Image) -> Layout:
    """How the file of a picture that is open, but not decoded yet, keeps its numbers.

    Raises:
        ValueError: in a way that Pillow reads wrong.
    """
    codec, _, _, arguments = (getattr(image, "tile", None) or [("", None, 0, "")])[0]
    kind = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    tags = getattr(image, "tag_v2", {})
    deep = np.max(tags.get(BITS, 1)) > 8
    if codec == "raw" and deep and tags.get(PLANES) == SEPARATE:
        raise ValueError("has 16 bits of each colour in planes of their own; save it with 8 bits, or in one plane")
    if kind == "I;32BS" and codec == "libtiff":
        raise ValueError(f"has packed numbers of 32 bits in big-endian order, which cannot be read; {ADVICE}")
    if SIGNED in np.atleast_1d(tags.get(FORMAT, 1)) and "32" not in kind:
        raise ValueError(f"has signed numbers, none of which is known as white; {ADVICE}")
    (largest,) = np.atleast_1d(tags.get(LARGEST, 0))[:1]
    return Layout(kind, int(largest) or None, tags.get(PHOTOMETRIC) == MIN_IS_WHITE)


def values_of(image: Image.Image, layout: Layout) -> Values:
    """What the numbers of a decoded picture mean.

    Raises:
        ValueError: it cannot be known.
    """
    if image.mode in DEEP_GREYS:
        unsigned = layout.kind == "I;32N"
        return Values(_white(*_extrema(image, unsigned), layout, unsigned), unsigned, layout.min_is_white)
    if image.mode == "F":
        raise ValueError(f"has floating-point numbers, none of which is known as white; {ADVICE}")
    if layout.kind.startswith(("RGB", "LA")) and ";16" in layout.kind:  # of which Pillow keeps the first 8
        highest = max(high for _, high in _bands(image)[:3])
        if 0 < highest < FEWEST >> 8:
            raise ValueError(f"has numbers of fewer than the 16 bits it tells of; {ADVICE}")
    return Values(opaque=image.format == "BMP" and image.mode == "RGBA" and _bands(image)[3] == (0, 0))


def _bands(image: Image.Image) -> tuple[tuple[int, int], ...]:
    """The smallest and the largest number of each band, of which there are several."""
    return cast("tuple[tuple[int, int], ...]", image.getextrema())


def _numbers(image: Image.Image, unsigned: bool) -> np.ndarray:
    numbers = np.asarray(image)
    return numbers.view(np.uint32) if unsigned else numbers


def _extrema(image: Image.Image, unsigned: bool) -> tuple[int, int]:
    """The smallest and the largest number; by bands, since Pillow does not know it of all modes."""
    tops = range(0, image.height, BAND_ROWS)
    boxes = ((0, top, image.width, min(top + BAND_ROWS, image.height)) for top in tops)
    bands = [(band.min(), band.max()) for band in (_numbers(image.crop(box), unsigned) for box in boxes)]
    return int(min(low for low, _ in bands)), int(max(high for _, high in bands))


def _white(lowest: int, highest: int, layout: Layout, unsigned: bool) -> int:
    """The number of white in a grey picture of more than 8 bits."""
    if layout.kind == "I;12":
        return 2**12 - 1
    if layout.largest and 255 <= layout.largest <= 65535 and 0 <= lowest <= highest <= layout.largest:
        return layout.largest
    if unsigned and highest >= 2**30:
        return 2**32 - 1
    if lowest < 0 or highest > 65535:
        raise ValueError(f"has numbers from {lowest} to {highest}, none of which is known as white; {ADVICE}")
    if 0 < highest < FEWEST:
        raise ValueError(f"has no number above {highest}, as if of fewer bits than it tells of; {ADVICE}")
    return 65535

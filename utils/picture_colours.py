"""From the colours that a picture's profile means to sRGB, by littleCMS."""

import io

import numpy as np
from PIL import Image, ImageCms

GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "LAB": "LAB"}  # a profile's: Pillow's
# as programs show pictures: colours that a screen has stay what they are, and black is black
INTENT, FLAGS = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
GREYS = np.arange(256, dtype=np.uint8)
CUBE = np.stack(np.meshgrid(*[GREYS[::17]] * 3), 3).reshape(1, -1, 3)
PROBES = {"L": GREYS[None], "RGB": np.concatenate([np.stack([GREYS] * 3, 1)[None], CUBE], 1)}


class Colours:
    """How the colours of a picture are turned into sRGB.

    Args:
        mode: Pillow's, of the picture.
        profile: ICC; None where the picture has none.

    Attributes:
        note: what is to be said of them, if anything.
    """

    def __init__(self, mode: str, profile: bytes | None) -> None:
        self.mode = "L" if mode in GREY_MODES else mode if mode in ("CMYK", "LAB") else "RGB"
        self.transform: ImageCms.ImageCmsTransform | None = None
        self.note = (
            "" if mode != "CMYK" or profile is not None else "CMYK without a colour profile, whose colours are a guess"
        )
        try:
            if profile is not None:
                self._use(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, KeyError, OSError, ValueError):
            self.note = "a colour profile that cannot be used, and is not"
        if self.mode == "LAB" and self.transform is None:
            self._use(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))

    def _use(self, profile: ImageCms.ImageCmsProfile) -> None:
        mode = SPACES[profile.profile.xcolor_space.strip().upper()]
        if mode != self.mode and (self.mode, mode) != ("L", "RGB"):
            raise ValueError("a profile of other colours")
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        flags = FLAGS | ImageCms.Flags.NOOPTIMIZE if mode == "L" else FLAGS  # its table for greys is 6 levels off
        transform = ImageCms.ImageCmsTransform(profile, srgb, mode, "RGB", INTENT, flags=flags)
        if not _changes_nothing(transform):
            self.mode, self.transform = mode, transform

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """RGB; or L of a grey picture, and CMYK where there is no profile. Transparency is left out."""
        image = in_mode(image, self.mode)
        return image if self.transform is None else self.transform.apply(image)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """An image in another of Pillow's modes; itself, if it has that mode."""
    return image if image.mode == mode else image.convert(mode)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether the colours are sRGB by another name, up to rounding."""
    if transform.input_mode not in PROBES:
        return False
    probe = PROBES[transform.input_mode]
    turned = np.asarray(transform.apply(Image.fromarray(probe)))
    return bool(abs(turned.astype(int) - probe.reshape(1, len(probe[0]), -1)).max() <= 1)

"""The colours that a picture file declares, and how littleCMS turns them into sRGB."""

import io
import re
import struct
from collections.abc import Sequence
from io import BufferedReader

import numpy as np
from PIL import Image, ImageCms

MAX_HEAD_BYTES = 2**20  # of a JPEG 2000 file, before its pixels

# x and y of white, red, green and blue
D65 = (0.3127, 0.3290)
BT709 = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # sRGB's
BT470 = (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)
BT601 = (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
BT2020 = (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
DISPLAY_P3 = (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
ADOBE_RGB, ADOBE_GAMMA = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256
# the codes of ITU-T H.273, which PNG's cICP and AVIF's nclx use; 2 is "not specified"
CODED_PRIMARIES = {1: BT709, 2: BT709, 5: BT470, 6: BT601, 7: BT601, 9: BT2020, 12: DISPLAY_P3}
# video's curves are taken for sRGB's, as viewers do: a screen shows both alike
CODED_GAMMAS = dict.fromkeys((1, 2, 6, 13, 14, 15)) | {4: 2.2, 5: 2.8, 8: 1.0}
SRGB_GAMMA = 0.45455  # of a PNG
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
ICC_WHITE = np.array([0.9642, 1.0, 0.8249])  # XYZ of D50, which every profile adapts its colours to

GREYS = np.arange(256, dtype=np.uint8)
CUBE = np.stack(np.meshgrid(*[GREYS[::17]] * 3), 3).reshape(1, -1, 3)
PROBES = {"L": GREYS[None], "RGB": np.concatenate([np.stack([GREYS] * 3, 1)[None], CUBE], 1)}


def declared_profile(image: Image.Image, file: BufferedReader) -> bytes | None:
    """Return the ICC profile of a picture, also of colours that Pillow does not pass on.

    Args:
        image: open, but not decoded yet.
        file: what it is read from.

    Returns:
        None where the file declares no colours; b"" for a profile that cannot be read.

    Raises:
        ValueError: these colours cannot be shown, or Pillow reads a JPEG 2000's numbers wrong.
    """
    info, position = image.info, file.tell()
    profile = (info["icc_profile"] or b"") if "icc_profile" in info else None
    file.seek(0)
    if image.format == "JPEG2000":
        profile = _jpeg_2000_profile(image.mode, file.read(MAX_HEAD_BYTES))
    elif image.format == "AVIF" and not profile:
        code = re.search(b"colrnclx(.{4})", file.read(), re.DOTALL)
        profile = coded_profile(*struct.unpack(">HH", code[1])) if code else None
    elif image.format == "PNG":  # the first of these counts (PNG, third edition, 4.3)
        code = re.search(b"\0\0\0\x04cICP(..)", file.read(image.tile[0][2]), re.DOTALL)  # type: ignore[attr-defined]
        if code:
            profile = coded_profile(*code[1])
        elif profile is None and "srgb" not in info and not {"gamma", "chromaticity"}.isdisjoint(info):
            value = info.get("gamma", SRGB_GAMMA)
            is_srgb = abs(value - SRGB_GAMMA) <= 0.05 * SRGB_GAMMA  # by libpng's tolerance
            profile = rgb_profile(info.get("chromaticity", BT709), None if is_srgb else 1 / max(value, 1e-9))
    file.seek(position)
    return profile


def _jpeg_2000_profile(mode: str, head: bytes) -> bytes | None:
    """Return the profile in a JPEG 2000's box of colours, and check its bits (ISO/IEC 15444-1, A.5.1 and I.5.3)."""
    pixels = head.find(b"\xff\x4f\xff\x51")
    (count,) = struct.unpack_from(">H", head, pixels + 40)
    depths = head[pixels + 42 : pixels + 42 + 3 * count : 3]
    if pixels < 0 or len(depths) < count:
        raise ValueError("is damaged, or has more than a megabyte before its pixels")
    for depth in depths:
        bits = 1 + (depth & 0x7F)
        if depth & 0x80 or (bits != 8 and not (bits > 8 and mode == "I;16")):
            raise ValueError(f"has {'signed ' if depth & 0x80 else ''}numbers of {bits} bits; save it with 8 bits")
    box = head.find(b"colr", 0, pixels)
    if box < 0:
        return None
    size, _, method, _, space = struct.unpack_from(">I4sBHI", head, box - 4)
    if method in (2, 3):
        return head[box + 7 : box - 4 + size]
    if method != 1 or space not in (0, 12, 15, 16, 17, 18):  # black and white, CMYK, sRGB, grey, sYCC
        raise ValueError(f"has colours of an unknown kind ({method}/{space}); save it as sRGB")
    return None


def coded_profile(primaries: int, transfer: int) -> bytes:
    """Return the profile of colours that are coded by two numbers of ITU-T H.273.

    Raises:
        ValueError: numbers without a meaning here, or of a high dynamic range, which 8 bits cannot show.
    """
    if transfer in (16, 18):
        raise ValueError(f"is of high dynamic range ({'PQ' if transfer == 16 else 'HLG'}); save it as sRGB")
    if primaries not in CODED_PRIMARIES or transfer not in CODED_GAMMAS:
        raise ValueError(f"has colours of an unknown kind (H.273 {primaries}/{transfer}); save it as sRGB")
    return rgb_profile(CODED_PRIMARIES[primaries], CODED_GAMMAS[transfer])


def rgb_profile(chromaticities: Sequence[float], gamma: float | None = None) -> bytes:
    """Return littleCMS's sRGB profile (ICC.1:2010) with other primaries, white and curve.

    Args:
        chromaticities: x and y of white, red, green and blue.
        gamma: light = value ** gamma; sRGB's curve if left out.

    Raises:
        ValueError: these are no colours.
    """
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    places = {tag: place for tag, place, _ in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])}
    try:
        points = np.array(chromaticities, np.float64).reshape(4, 2)
        if points[:, 1].min() <= 0:
            raise ValueError
        white, *primaries = np.column_stack([points, 1 - points.sum(1)]) / points[:, 1:]  # XYZ of Y = 1
        matrix = np.stack(primaries, 1)
        matrix = matrix @ np.diag(np.linalg.solve(matrix, white))
        matrix = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ ICC_WHITE / (BRADFORD @ white)) @ BRADFORD) @ matrix
        for letter, column in zip(b"rgb", matrix.T, strict=True):
            struct.pack_into(">3i", profile, places[b"%cXYZ" % letter] + 8, *(round(65536 * value) for value in column))
            if gamma:  # ICC's curve of type 3: (a · value + b) ** gamma where value ≥ d
                struct.pack_into(">5i", profile, places[b"%cTRC" % letter] + 12, round(65536 * gamma), 65536, 0, 0, 0)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError, struct.error):
        raise ValueError("has colours without a meaning (cHRM, gAMA); save it as sRGB") from None
    return bytes(profile)


def srgb_transform(mode: str, profile: bytes | None = None) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return how littleCMS turns a profile's colours into sRGB, as programs show pictures: black is black.

    Args:
        mode: Pillow's, of the picture: L, RGB, CMYK or LAB.
        profile: ICC; CIELAB if left out.

    Returns:
        The mode that the transform takes, RGB where a grey picture has such a profile; and the transform, None where
        it changes nothing.

    Raises:
        ImageCms.PyCMSError, OSError, ValueError: the profile cannot be used, or not for this mode.
    """
    source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB") if profile is None else io.BytesIO(profile))
    space = source.profile.xcolor_space.strip().upper().replace("GRAY", "L")
    if space != mode and (mode, space) != ("L", "RGB"):
        raise ValueError("a profile of other colours")
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    flags |= ImageCms.Flags.NOOPTIMIZE if space == "L" else 0  # littleCMS's table for greys is 6 levels off
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.ImageCmsTransform(source, srgb, space, "RGB", intent, flags=flags)
    if space in PROBES:
        probe = PROBES[space]
        turned = np.asarray(transform.apply(Image.fromarray(probe)))
        if abs(turned.astype(int) - probe.reshape(1, len(probe[0]), -1)).max() <= 1:
            return mode, None  # sRGB by another name, up to rounding
    return space, transform

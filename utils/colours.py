"""The colours that a picture file declares, and how littleCMS turns them into sRGB."""

import io
import re
import struct
from io import BufferedReader

import numpy as np
from PIL import Image, ImageCms

MAX_HEAD_BYTES = 2**20  # of a JPEG 2000 file, before its pixels
SRGB_GAMMA = 0.45455  # of a PNG
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green and blue
# the codes of ITU-T H.273, in PNG's cICP and AVIF's nclx, that are sRGB or "not specified"; video's curves are taken
# for sRGB's, as viewers do: a screen shows both alike
SRGB_PRIMARIES, SRGB_CURVES = (1, 2), (1, 2, 6, 13, 14, 15)
# XYZ of red, green and blue in an ICC profile of Adobe RGB (1998), and its gamma of 563/256; in units of 1/65536
ADOBE_RGB = {b"rXYZ": (39960, 20389, 1276), b"gXYZ": (13453, 41004, 3989), b"bXYZ": (9777, 4143, 48795)}
ADOBE_GAMMA = 144128

GREYS = np.arange(256, dtype=np.uint8)
CUBE = np.stack(np.meshgrid(*[GREYS[::17]] * 3), 3).reshape(1, -1, 3)
PROBES = {"L": GREYS[None], "RGB": np.concatenate([np.stack([GREYS] * 3, 1)[None], CUBE], 1)}


def declared_profile(image: Image.Image, file: BufferedReader) -> bytes | None:
    """Return the ICC profile of a picture, also where Pillow does not pass it on.

    Args:
        image: open, but not decoded yet.
        file: of the image.

    Returns:
        None where the file declares no colours, or sRGB; b"" for a profile that cannot be read.

    Raises:
        OSError: other colours are declared without a profile, or Pillow reads a JPEG 2000's numbers wrong.
    """
    info, position = image.info, file.tell()
    profile = info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) else b"" if "icc_profile" in info else None
    code = None
    file.seek(0)
    if image.format == "JPEG2000":  # ISO/IEC 15444-1, A.5.1 and I.5.3
        head = file.read(MAX_HEAD_BYTES)
        pixels = head.find(b"\xff\x4f\xff\x51")
        count = int.from_bytes(head[pixels + 40 : pixels + 42])
        depths = head[pixels + 42 : pixels + 42 + 3 * count : 3]
        if pixels < 0 or len(depths) < max(1, count):
            raise OSError("is damaged, or has more than a megabyte before its pixels")
        for depth in depths:
            bits = 1 + (depth & 0x7F)
            if depth & 0x80 or (bits != 8 and not (bits > 8 and image.mode == "I;16")):
                raise OSError(f"has {'signed ' if depth & 0x80 else ''}numbers of {bits} bits; save it with 8 bits")
        box = head.find(b"colr", 0, pixels)
        if box >= 0:
            size, _, method, _, space = struct.unpack_from(">I4sBHI", head, box - 4)
            profile = head[box + 7 : box - 4 + size] if method in (2, 3) else None
            if profile is None and (method, space) not in ((1, 0), (1, 12), (1, 15), (1, 16), (1, 17), (1, 18)):
                raise OSError(f"has colours of an unknown kind ({method}/{space}); save it as sRGB")
    elif image.format == "AVIF" and not profile:
        code = re.search(b"colrnclx.(.).(.)", file.read(), re.DOTALL)
    elif image.format == "PNG":  # the first of these counts (PNG, third edition, 4.3)
        tiles = image.tile  # type: ignore[attr-defined]
        code = re.search(b"\0\0\0\x04cICP(.)(.)", file.read(tiles[0][2] if tiles else 0), re.DOTALL)
        gamma, points = info.get("gamma", SRGB_GAMMA), info.get("chromaticity", SRGB_CHROMATICITIES)
        is_srgb = abs(gamma / SRGB_GAMMA - 1) <= 0.05 and len(points) == len(SRGB_CHROMATICITIES)
        is_srgb = is_srgb and np.allclose(points, SRGB_CHROMATICITIES, rtol=0, atol=1e-3)
        if code is None and profile is None and "srgb" not in info and not is_srgb:
            raise OSError("has colours other than sRGB (gAMA, cHRM), without a profile; save it as sRGB")
    if code:
        if code[1][0] not in SRGB_PRIMARIES or code[2][0] not in SRGB_CURVES:
            kind = {16: " of high dynamic range (PQ)", 18: " of high dynamic range (HLG)"}.get(code[2][0], "")
            raise OSError(f"has colours{kind} other than sRGB (H.273 {code[1][0]}/{code[2][0]}); save it as sRGB")
        profile = None
    file.seek(position)
    return profile


def adobe_rgb_profile() -> bytes:
    """Return littleCMS's sRGB profile (ICC.1:2010) with the primaries and the curve of Adobe RGB (1998)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    for tag, place, _ in struct.iter_unpack(">4sII", bytes(profile[132 : 132 + 12 * count])):
        if tag in ADOBE_RGB:
            struct.pack_into(">3i", profile, place + 8, *ADOBE_RGB[tag])
        elif tag in (b"rTRC", b"gTRC", b"bTRC"):  # ICC's curve of type 3: (a · value + b) ** gamma where value ≥ d
            struct.pack_into(">5i", profile, place + 12, ADOBE_GAMMA, 65536, 0, 0, 0)
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

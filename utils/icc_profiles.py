"""ICC profiles of RGB colour spaces that are given by primaries, white and gamma, for littleCMS to work with."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np

D65 = (0.3127, 0.3290)
ICC_WHITE = np.array([0.9642, 1.0, 0.8249])  # XYZ of D50, which every profile adapts its colours to
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1, as an ICC curve's parameters

# x and y of white, red, green and blue
BT709 = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
DISPLAY_P3 = (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
BT601 = (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
ADOBE_RGB = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256

# the numbers of ITU-T H.273, which PNG's cICP and AVIF's nclx speak in; 2 is "not specified"
CODED_PRIMARIES = {
    1: BT709,
    2: BT709,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: BT601,
    7: BT601,
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, *DISPLAY_P3[2:]),
    12: DISPLAY_P3,
}
# video's curves are taken for sRGB's, as viewers do: a screen shows both alike
CODED_GAMMAS = dict.fromkeys((1, 2, 6, 13, 14, 15)) | {4: 2.2, 5: 2.8, 8: 1.0}
HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


def rgb_profile(chromaticities: Sequence[float], gamma: float | None = None) -> bytes:
    """A profile of matrix and curves (ICC.1:2010, version 4.3).

    Args:
        chromaticities: x and y of white, red, green and blue.
        gamma: light = value ** gamma; sRGB's curve if left out.

    Raises:
        ValueError: these are no colours.
    """
    points = np.array(chromaticities, np.float64).reshape(4, 2)
    try:
        if points[:, 1].min() <= 0:
            raise ValueError
        white, *primaries = np.column_stack([points, 1 - points.sum(1)]) / points[:, 1:]  # XYZ of Y = 1
        matrix = np.stack(primaries, 1)
        matrix = matrix @ np.diag(np.linalg.solve(matrix, white))
        adaptation = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ ICC_WHITE / (BRADFORD @ white)) @ BRADFORD)
        curve = _curve(0, [gamma]) if gamma else _curve(3, SRGB_CURVE)
        tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, (adaptation @ matrix).T), strict=True))
    except (ArithmeticError, ValueError, np.linalg.LinAlgError, struct.error):
        raise ValueError("no colours have these chromaticities") from None
    return _assemble(tags | {b"wtpt": _xyz(ICC_WHITE)} | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def coded_profile(primaries: int, transfer: int) -> bytes:
    """The profile of colours that are coded by two numbers of ITU-T H.273.

    Raises:
        ValueError: numbers without a meaning here, or of a high dynamic range, which 8 bits cannot show.
    """
    if transfer in HIGH_DYNAMIC_RANGE:
        raise ValueError(f"is of high dynamic range ({HIGH_DYNAMIC_RANGE[transfer]}); save it as sRGB")
    if primaries not in CODED_PRIMARIES or transfer not in CODED_GAMMAS:
        raise ValueError(f"has colours of an unknown kind (H.273 {primaries}/{transfer}); save it as sRGB")
    return rgb_profile(CODED_PRIMARIES[primaries], CODED_GAMMAS[transfer])


def _fixed(values: Iterable[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _curve(kind: int, parameters: Iterable[float]) -> bytes:
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _fixed(parameters)


def _assemble(tags: dict[bytes, bytes]) -> bytes:
    """A profile of a display with these tags."""
    start = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(content), len(data))
        content += data  # all of them are whole words
    header = struct.pack(">II4s4s4s4s", start + len(content), 0, b"\x04\x30\0\0", b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(ICC_WHITE)
    return header.ljust(128, b"\0") + table + content

"""Colours are what the file says they are: against published colorants, formulas in numpy, and littleCMS itself."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.picture_files import chunk, cmyk_icc, curve, decode, encoded, icc, matrix_icc, png, tiff, with_segment
from utils.errors import InputError
from utils.pictures import Reading, open_picture

COLOURS = np.random.default_rng(0).integers(40, 216, (6, 8, 3), dtype=np.uint8)  # few of which leave sRGB
# XYZ of red, green and blue in the profiles that Apple and Adobe publish
PUBLISHED = {
    "Display P3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    "Adobe RGB": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
}
ADOBE_PNG = chunk(b"iCCP", b"x\0\0" + zlib.compress(matrix_icc(PUBLISHED["Adobe RGB"], 2.2)))
# x and y of white, red, green and blue, as the standards have them
BT709 = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
DISPLAY_P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SPACES = {"Display P3": DISPLAY_P3, "Adobe RGB": ADOBE_RGB, "sRGB": BT709}


def encode_srgb(light: np.ndarray) -> np.ndarray:
    """Light in 0 … 1 → sRGB in 0 … 255 (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def decode_srgb(values: np.ndarray) -> np.ndarray:
    values = values / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_xyz(chromaticities: tuple[float, ...]) -> np.ndarray:
    """The matrix from RGB to XYZ under the space's own white (Lindbloom)."""
    x, y = np.array(chromaticities).reshape(4, 2).T
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])


def expected(values: np.ndarray, chromaticities: tuple[float, ...], gamma: float | None) -> np.ndarray:
    """sRGB of colours in a space of sRGB's white."""
    light = decode_srgb(values) if gamma is None else (values / 255) ** gamma
    return encode_srgb(light @ to_xyz(chromaticities).T @ np.linalg.inv(to_xyz(BT709)).T)


def read(tmp_path, content: bytes, channels: int = 3) -> tuple[np.ndarray, list[str]]:
    (tmp_path / "a").write_bytes(content)
    with open_picture(tmp_path / "a", Reading()) as picture:
        picture.load()
    return decode(tmp_path / "a", Reading(channels)).astype(int), picture.notes


def near(pixels: np.ndarray, wanted: np.ndarray, most: float = 1) -> bool:
    return bool(abs(pixels - np.clip(wanted, 0, 255)).max() <= most + 0.5)


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB", "sRGB"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_profiles_of_published_colorants(tmp_path, space, kind):
    flat = np.full((16, 16, 3), (150, 90, 60), np.uint8)  # which no format changes
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind in ("JPEG", "AVIF") else {}
    content = encoded(Image.fromarray(flat), kind, icc_profile=matrix_icc(PUBLISHED[space], 563 / 256), **options)
    pixels, notes = read(tmp_path, content)
    wanted = expected(flat, SPACES[space], 563 / 256)
    assert near(pixels, wanted, 3 if options.get("quality") else 1)
    assert space == "sRGB" or abs(wanted - flat).max() > 8  # read as sRGB, it would be off
    assert notes == []


def test_they_are_converted_as_littlecms_converts_them(tmp_path):
    profile = matrix_icc(((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)), 1.8)  # ProPhoto
    source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    wanted = ImageCms.profileToProfile(Image.fromarray(COLOURS), source, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    pixels, _ = read(tmp_path, encoded(Image.fromarray(COLOURS), "TIFF", icc_profile=profile))
    assert near(pixels, np.asarray(wanted).astype(int), 0)
    assert abs(np.asarray(wanted).astype(int) - COLOURS).max() > 30


def test_a_profile_of_srgb_changes_no_pixel(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    every = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert (read(tmp_path, encoded(Image.fromarray(every), "PNG", icc_profile=profile))[0] == every).all()


def lab_to_srgb(lab: tuple[float, float, float]) -> np.ndarray:
    """CIELAB of D50 → sRGB, by Bradford's adaptation."""
    y = (lab[0] + 16) / 116
    f = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    to_d65 = np.array(
        [[0.9555766, -0.0230393, 0.0631636], [-0.0282895, 1.0099416, 0.0210077], [0.0122982, -0.0204830, 1.3299098]]
    )
    return encode_srgb(np.linalg.inv(to_xyz(BT709)) @ to_d65 @ xyz)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks_are_what_the_printers_profile_says(tmp_path, kind):
    inks = {"paper": (0, 0, 0, 0), "cyan": (1, 0, 0, 0), "magenta": (0, 1, 0, 0), "yellow": (0, 0, 1, 0)}
    labs = {(c, m, y, k): (0, 0, 0) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)}
    labs |= dict(zip(inks.values(), [(100, 0, 0), (60, -25, -30), (55, 55, 0), (85, -5, 60)], strict=True))
    for ink in inks.values():
        image = Image.new("CMYK", (16, 16), tuple(255 * part for part in ink))
        pixels, notes = read(tmp_path, encoded(image, kind, icc_profile=cmyk_icc(labs)))
        assert near(pixels, lab_to_srgb(labs[ink]), 2), ink
        assert notes == []
    assert abs(pixels - np.asarray(image.convert("RGB")).astype(int)).max() > 40


def test_inks_without_a_profile_are_said_to_be_a_guess(tmp_path):
    pixels, notes = read(tmp_path, encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "TIFF"))
    assert (pixels == 255).all()
    assert notes == ["CMYK without a colour profile, whose colours are a guess"]


@pytest.mark.parametrize("lab", [(50, 0, 0), (70, 20, -30), (40, -20, 25)])
def test_lab_is_converted(tmp_path, lab):
    content = tiff(np.full((4, 4, 3), (round(lab[0] * 2.55), lab[1] % 256, lab[2] % 256), np.uint8), photometric=8)
    assert near(read(tmp_path, content)[0], lab_to_srgb(lab), 2)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "I;16", "RGBA"])
def test_other_modes_have_profiles_too(tmp_path, mode):
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    linear = matrix_icc(PUBLISHED["sRGB"], 1.0)
    if mode in ("L", "LA", "I;16"):
        linear = icc(
            b"GRAY", {b"kTRC": curve(1.0), b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)}
        )
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    pixels, notes = read(tmp_path, encoded(image, "PNG", icc_profile=linear))
    assert notes == []
    assert near(pixels, encode_srgb(np.arange(256).reshape(16, 16, 1) / 255))


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        matrix_icc(PUBLISHED["sRGB"], 2.2)[:200],
        cmyk_icc(dict.fromkeys(np.ndindex(2, 2, 2, 2), (0, 0, 0))),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(tmp_path, profile):
    pixels, notes = read(tmp_path, encoded(Image.fromarray(COLOURS), "PNG", icc_profile=profile))
    assert (pixels == COLOURS).all()
    assert notes == ["a colour profile that cannot be used, and is not"]


def png_with(*chunks: bytes) -> bytes:
    return png(Image.fromarray(COLOURS), *chunks)


def chrm(space: tuple[float, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in space)))


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 / gamma)))


@pytest.mark.parametrize(
    ("chunks", "space", "gamma"),
    [
        ([gama(2.2)], BT709, None),  # as libpng takes it
        ([gama(2.2), chrm(BT709)], BT709, None),
        ([chrm(BT709)], BT709, None),
        ([gama(1.0), chunk(b"sRGB", b"\0")], BT709, None),
        ([gama(1.0), chunk(b"cICP", bytes([1, 13, 0, 1]))], BT709, None),
        ([chunk(b"cICP", bytes([1, 1, 0, 1])), ADOBE_PNG], BT709, None),
        ([chunk(b"sRGB", b"\0"), ADOBE_PNG], ADOBE_RGB, 2.2),
        ([gama(1.0), chrm(DISPLAY_P3), ADOBE_PNG], ADOBE_RGB, 2.2),
    ],
)  # fmt: skip
def test_the_chunks_of_png(tmp_path, chunks, space, gamma):
    pixels, notes = read(tmp_path, png_with(*chunks))
    assert near(pixels, expected(COLOURS, space, gamma))
    assert notes == []


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([gama(1.0)], "gAMA"),
        ([gama(1.8)], "gAMA"),
        ([gama(2.2), chrm(ADOBE_RGB)], "cHRM"),
        ([chrm(DISPLAY_P3)], "cHRM"),
        ([gama(1.0), chunk(b"cICP", bytes([12, 13, 0, 1]))], "H.273 12/13"),
        ([chunk(b"cICP", bytes([9, 8, 0, 1]))], "H.273 9/8"),
        ([chunk(b"cICP", bytes([1, 4, 0, 1])), ADOBE_PNG], "H.273 1/4"),
        ([chunk(b"cICP", bytes([9, 16, 0, 1]))], "PQ"),
        ([chunk(b"cICP", bytes([9, 18, 0, 1]))], "HLG"),
        ([chunk(b"cICP", bytes([99, 13, 0, 1]))], "H.273 99/13"),
    ],
)  # fmt: skip
def test_colours_declared_without_a_profile_are_refused_unless_they_are_srgb(tmp_path, chunks, words):
    (tmp_path / "a.png").write_bytes(png_with(*chunks))
    with pytest.raises(InputError, match=r"other than sRGB.*save it as sRGB") as error:
        decode(tmp_path / "a.png")
    assert words in str(error.value)


@pytest.mark.parametrize("data", [b"\0" * 32, b"\xff" * 32, b"\0" * 12, b"short", struct.pack(">8I", *[31270] * 8)])
def test_chromaticities_that_are_none_are_refused(tmp_path, data):
    (tmp_path / "a.png").write_bytes(png_with(chunk(b"cHRM", data), gama(2.2)))
    with pytest.raises(InputError, match=r"other than sRGB|Truncated"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("space", "interop", "is_adobe"), [(2, None, True), (65535, "R03", True), (1, "R98", False), (65535, None, False)]
)
def test_adobe_rgb_as_cameras_note_it(tmp_path, kind, space, interop, is_adobe):
    flat = np.full((16, 16, 3), (150, 90, 60), np.uint8)
    exif = Image.Exif()
    exif[0x8769] = {0xA001: space} | ({0xA005: {1: interop}} if interop else {})
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    pixels, _ = read(tmp_path, encoded(Image.fromarray(flat), kind, exif=exif, **options))
    assert near(pixels, expected(flat, ADOBE_RGB, 563 / 256) if is_adobe else flat, 2)


def box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data) + 8, name) + data


def test_the_boxes_of_jpeg_2000_and_avif(tmp_path):
    flat = Image.new("RGB", (16, 16), (150, 90, 60))
    wanted = expected(np.asarray(flat), DISPLAY_P3, 2.2)
    content = encoded(flat, "JPEG2000")
    colr = box(b"colr", b"\1\0\0" + struct.pack(">I", 16))
    profile = box(b"colr", b"\2\0\0" + matrix_icc(PUBLISHED["Display P3"], 2.2))
    at = content.index(b"jp2h") - 4
    (length,) = struct.unpack(">I", content[at : at + 4])
    header = content[at + 8 : at + length]
    assert colr in header
    jp2 = content[:at] + box(b"jp2h", header.replace(colr, profile)) + content[at + length :]
    assert near(read(tmp_path, jp2)[0], wanted, 2)

    content = encoded(flat, "AVIF", quality=100)
    at = content.index(b"nclx")
    for code, words in ((1, 1), None), ((12, 13), "H.273 12/13"), ((9, 16), "high dynamic range"):
        (tmp_path / "a.avif").write_bytes(content.replace(content[at : at + 8], b"nclx" + struct.pack(">HH", *code)))
        if words is None:
            assert near(decode(tmp_path / "a.avif").astype(int), np.asarray(flat), 3)
        else:
            with pytest.raises(InputError, match=words):
                decode(tmp_path / "a.avif")


def test_grey_models_see_the_converted_colours(tmp_path):
    content = encoded(Image.fromarray(COLOURS), "PNG", icc_profile=matrix_icc(PUBLISHED["Adobe RGB"], 563 / 256))
    wanted = expected(COLOURS, ADOBE_RGB, 563 / 256) @ [[0.299], [0.587], [0.114]]
    assert near(read(tmp_path, content, channels=1)[0], wanted)


def test_transparency_and_a_profile(tmp_path):
    image = Image.fromarray(COLOURS).convert("RGBA")
    image.putalpha(128)
    pixels, _ = read(tmp_path, encoded(image, "PNG", icc_profile=matrix_icc(PUBLISHED["Display P3"], 2.2)))
    assert near(pixels, (expected(COLOURS, DISPLAY_P3, 2.2) * 128 + 255 * 127) / 255)


def test_a_profile_in_many_segments(tmp_path):
    profile = matrix_icc(PUBLISHED["Display P3"], 2.2) + bytes(1000)
    jpeg = encoded(Image.new("RGB", (8, 8), (150, 90, 60)), "JPEG", quality=100)
    for number in (3, 2, 1):
        part = profile[(number - 1) * 500 : number * 500] if number < 3 else profile[1000:]
        jpeg = with_segment(jpeg, 0xE2, b"ICC_PROFILE\0" + bytes([number, 3]) + part)
    wanted = expected(np.full((8, 8, 3), (150, 90, 60)), DISPLAY_P3, 2.2)
    assert near(read(tmp_path, jpeg)[0], wanted, 3)

"""The pixels are what counts: whatever lies around them in a file, and however it keeps its numbers."""

import os
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, features

from tests.commands import ENVIRONMENT, PROJECT
from tests.picture_files import chunk, decode, encoded, matrix_icc, png, tiff, with_segment
from utils.errors import InputError
from utils.images import read_reference
from utils.pictures import Reading, open_picture

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)
DEEP.ravel()[:2] = 0, 65535


def read(tmp_path, content: bytes, reading: Reading = Reading()) -> tuple[np.ndarray, list[str]]:
    (tmp_path / "a").write_bytes(content)
    with open_picture(tmp_path / "a", reading) as picture:
        picture.load()
    return decode(tmp_path / "a", reading).astype(int), picture.notes


def refused(tmp_path, content: bytes, reading: Reading = Reading()) -> str:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError) as error:
        decode(tmp_path / "a", reading)
    assert "\n" not in str(error.value)
    return str(error.value)


# size


def test_a_small_file_that_says_it_is_huge(tmp_path):
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    assert "megapixels; the limit is 512" in refused(tmp_path, content)
    assert "has 0.2 megapixels; the limit is 0.1" in refused(
        tmp_path, encoded(Image.new("1", (500, 500)), "GIF"), Reading(max_megapixels=0.1)
    )


def test_a_huge_picture_in_little_memory(tmp_path):
    """90 megapixels, where Pillow warns of an attack. As floats they alone would take 360 MB."""
    ramp = np.linspace(0, 255, 10_000).astype(np.uint8)
    image = Image.frombuffer("L", (10_000, 9_000), np.tile(ramp, (9_000, 1)), "raw", "L", 0, 1)
    image.save(tmp_path / "a.jpg", quality=50)
    image.save(tmp_path / "a.png", compress_level=1)
    code = """if True:
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from utils.images import read_reference
        from benchmarks.memory import peak_bytes
        from utils.batching import keep_freed_memory
        from utils.pictures import Reading
        keep_freed_memory()
        for name in sys.argv[1:]:
            with ThreadPoolExecutor(1) as pool:  # as the references are read before the run, and during it
                square = pool.submit(read_reference, Path(name), 32, Reading(1)).result()
            print(peak_bytes(), *square[0, 0].tolist())"""
    command = [sys.executable, "-W", "error", "-c", code, PROJECT / "assets/sweep.png", "a.jpg", "a.png", "a.png"]
    environment = ENVIRONMENT | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    (before, *_), (jpeg, *row), (_, *same), (png, *_) = (map(float, line.split()) for line in done.stdout.splitlines())
    assert jpeg - before < 50e6
    assert png - before < 200e6
    wanted = np.interp(500 + (np.arange(32) + 0.5) * 9_000 / 32, np.arange(10_000), ramp) / 127.5 - 1
    assert abs(np.array([row, same]) - wanted)[:, 1:-1].max() < 0.02


@pytest.mark.parametrize("shape", [(1500, 1100), (1100, 1500), (3000, 700)])
def test_bands_make_up_the_whole(tmp_path, shape, monkeypatch):
    Image.fromarray(RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(tmp_path / "a.png", compress_level=1)
    monkeypatch.setattr("utils.images.BAND", 10**9)
    whole = read_reference(tmp_path / "a.png", 48)
    monkeypatch.setattr("utils.images.BAND", 70_001)
    assert (read_reference(tmp_path / "a.png", 48) - whole).abs().max() < 1e-5


# metadata

EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 1, "x" * 60
GOOD_EXIF = EXIF.tobytes()
BAD_EXIF = {
    "zeros": b"Exif\0\0" + bytes(40),
    "cut": GOOD_EXIF[:20],
    "cut in its header": GOOD_EXIF[:10],
    "doubled": GOOD_EXIF + GOOD_EXIF,
    "garbage": b"Exif\0\0" + RNG.bytes(200),
    "BigTIFF": b"Exif\0\0II+\0\x08\0\0\0" + b"\x10" + bytes(30),
    "endless": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(24),
    "nowhere": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "empty": b"Exif\0\0",
    "no orientation": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x63" + bytes(6),
    "letters": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0\x41" + bytes(7),
    "leads to nowhere": b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\xff\xff\xff\x7f" + bytes(4),
    "leads to itself": b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0" + bytes(4),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("damage", BAD_EXIF)
def test_damaged_exif_leaves_the_pixels_alone(tmp_path, kind, damage, recwarn):
    exif = BAD_EXIF[damage]
    flat = np.full((16, 16, 3), 100, np.uint8) if kind == "JPEG" else PIXELS
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind == "JPEG":
        content = with_segment(encoded(Image.fromarray(flat), kind), 0xE1, exif)
    else:
        content = encoded(Image.fromarray(flat), kind, exif=exif, **options)
    pixels, notes = read(tmp_path, content)
    assert (pixels == flat).all()
    assert set(notes) <= {"damaged metadata"}


@pytest.mark.parametrize(
    "extra",
    {
        "text of 2 MB": chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 2_000_000),
        "packed text of 2 MB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))),
        "a bomb of text": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50_000_000))),
        "orientation in a bomb": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(50_000_000))),
        "unknown": chunk(b"abCd", b"?"),
        "many": chunk(b"tEXt", b"a\0b") * 300,
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_png_chunks_that_are_none_of_the_pixels(tmp_path, extra, place):
    content = png(IMAGE, extra[1]) if place == "before" else png(IMAGE, last=extra[1])
    pixels, notes = read(tmp_path, content)
    assert (pixels == PIXELS).all() and notes == []


@pytest.mark.parametrize(
    "damaged",
    [
        chunk(b"tEXt", b"a\0b", wrong=True),
        chunk(b"eXIf", GOOD_EXIF[6:], wrong=True),
        chunk(b"iCCP", b"x\0\0" + zlib.compress(b"y"), wrong=True),
        chunk(b"cICP", b"\1\1\0\1", wrong=True),
        chunk(b"tRNS", bytes(6), wrong=True),
        chunk(b"gAMA", b"\0"),
        chunk(b"gAMA", bytes(4)),
        chunk(b"cHRM", b"\0"),
    ],
)
def test_damaged_png_chunks_are_refused(tmp_path, damaged):
    assert re.search("is damaged|Truncated|other than sRGB", refused(tmp_path, png(IMAGE, damaged)))


def test_a_large_profile_of_a_png_is_used(tmp_path):
    colorants = (0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)  # Display P3's
    profile = matrix_icc(colorants, 2.2)
    small, large = (encoded(IMAGE, "PNG", icc_profile=profile + RNG.bytes(size)) for size in (0, 3_000_000))
    pixels, notes = read(tmp_path, large)
    assert (pixels == read(tmp_path, small)[0]).all() and (pixels != PIXELS).any() and notes == []


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("size", [100, 70_000, 2_000_000])
def test_a_profile_of_garbage_is_named(tmp_path, kind, size):
    pixels, notes = read(tmp_path, encoded(Image.new("RGB", (16, 16), (90,) * 3), kind, icc_profile=RNG.bytes(size)))
    assert (pixels == 90).all() and notes == ["a colour profile that cannot be used, and is not"]


@pytest.mark.parametrize(
    ("marker", "data", "note"),
    [
        (0xE2, b"ICC_PROFILE\0\1\3part", "a colour profile that cannot be used, and is not"),
        (0xE2, b"ICC_PROFILE\0\1\1", "a colour profile that cannot be used, and is not"),
        (0xE1, b"Ex", None),
        (0xED, b"Photoshop 3.0\0008BIM\3\xed\0\0\0\0\0\x10ab", None),
        (0xE2, b"MPF\0II*\0\xff\xff\xff\xff", None),
        (0xFE, b"", None),
    ],
)
def test_damaged_segments_of_a_jpeg(tmp_path, marker, data, note):
    jpeg = encoded(Image.new("RGB", (16, 16), (90,) * 3), "JPEG")
    pixels, notes = read(tmp_path, with_segment(with_segment(jpeg, marker, data), 0xFE, b"a comment"))
    assert (pixels == 90).all() and notes == ([note] if note else [])


@pytest.mark.parametrize(
    ("marker", "data"), [(0xE0, b"JFIF"), (0xE0, b"JFIF\0\1"), (0xEE, b"Adobe"), (0xE2, b"ICC_PROFILE\0\1")]
)
def test_segments_of_a_jpeg_that_are_too_short_are_refused(tmp_path, marker, data):
    jpeg = encoded(Image.new("RGB", (16, 16), (90,) * 3), "JPEG")
    assert "is damaged" in refused(tmp_path, with_segment(jpeg, marker, data))


@pytest.mark.parametrize("exif", [bytes(8), RNG.bytes(8), b"II+\0\x08\0\0\0"])
def test_damaged_exif_of_an_avif_is_refused(tmp_path, exif):
    content = encoded(Image.new("RGB", (16, 16), (90,) * 3), "AVIF", exif=GOOD_EXIF)
    at = content.index(GOOD_EXIF[6:14])
    assert "Invalid Exif payload" in refused(tmp_path, content[:at] + exif + content[at + 8 :])


@pytest.mark.parametrize("left", [1, 20, 60])
def test_a_webp_that_is_cut_short_is_refused(tmp_path, left):
    content = encoded(IMAGE, "WEBP", lossless=True, exif=GOOD_EXIF)
    for cut in (content[:-left], content[: content.index(b"EXIF") - 30]):
        refused(tmp_path, cut)


@pytest.mark.parametrize("tag", [700, 34675, 33723, 34377, 34665, 34853])
def test_tags_of_a_tiff_that_lead_nowhere(tmp_path, tag):
    numbers = np.full((8, 8, 3), 90, np.uint8)
    for value in (0, 5, 8, 65535):
        content = tiff(numbers, 2, tags={tag: value})
        try:
            assert (read(tmp_path, content)[0] == 90).all()
        except InputError as error:
            assert "is damaged" in str(error) and tag in (700, 34675)


def test_frames_that_are_damaged_after_the_first(tmp_path):
    several = {"save_all": True, "append_images": [Image.new("RGB", (16, 12))]}
    gif = encoded(Image.new("RGB", (16, 12), "red"), "GIF", **several)
    second = gif.rindex(b"\x2c")
    mpo = encoded(IMAGE, "MPO", **several)
    for content in (
        gif[:second] + RNG.bytes(40),
        gif[: second + 4],
        gif[: second + 1] + b"\xff" * 8 + gif[second + 9 :],
    ):
        assert (read(tmp_path, content)[0] == [255, 0, 0]).all()
    index = mpo.index(b"MPF\0")
    for place in range(4, 40, 4):
        damaged = mpo[: index + place] + b"\xff" * 4 + mpo[index + place + 4 :]
        assert read(tmp_path, damaged)[0].shape == (12, 16, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "raw profile", "WEBP", "AVIF"])
def test_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "raw profile":
        data = exif.tobytes()
        text = f"\nexif\n{len(data):8}\n{data.hex()}\n".encode()
        content = png(IMAGE, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    else:
        options = (
            {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": "4:4:4"} if kind == "AVIF" else {}
        )
        content = encoded(IMAGE, kind, exif=exif, **options)
    turned = {
        1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1], 5: PIXELS.swapaxes(0, 1),
        6: np.rot90(PIXELS, -1), 7: np.rot90(PIXELS.swapaxes(0, 1), 2), 8: np.rot90(PIXELS),
    }[orientation]  # fmt: skip
    pixels, _ = read(tmp_path, content)
    assert pixels.shape == turned.shape
    assert abs(pixels - turned).max() <= (6 if kind == "AVIF" else 0)
    Image.fromarray(turned).save(tmp_path / "b.png")
    if kind != "AVIF":
        assert (read_reference(tmp_path / "a", 8) - read_reference(tmp_path / "b.png", 8)).abs().max() < 1e-6


# what is missing


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_pixels_cut_short_are_refused_unless_asked_for(tmp_path, kind):
    large = Image.fromarray(RNG.integers(0, 256, (100, 75, 3), dtype=np.uint8)).resize((300, 400))
    if kind == "TIFF":  # its table before its pixels, without which nothing can be read
        content = tiff(np.asarray(large), 2)
    else:
        content = encoded(large, kind, **({"interlace": 0} if kind == "GIF" else {}))
    whole, _ = read(tmp_path, content)
    cut = content[: len(content) // 2]
    refused(tmp_path, cut)
    pixels, notes = read(tmp_path, cut, Reading(allow_truncated=True))
    assert pixels.shape == whole.shape
    assert notes == ["pixels cut short; the missing ones are black"]
    there = slice(-50, None) if kind == "BMP" else slice(0, 50)
    assert (pixels[there] == whole[there]).all()
    refused(tmp_path, content[:20], Reading(allow_truncated=True))


def test_a_picture_of_which_nothing_is_left_is_refused(tmp_path):
    content = tiff(RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8), 2, packed=True)
    assert "decoder error" in refused(tmp_path, content[:-100], Reading(allow_truncated=True))


def test_a_file_that_changes_while_it_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(IMAGE, "PNG"))
    with pytest.raises(InputError, match="was changed while it was read"), open_picture(tmp_path / "a.png") as picture:
        with (tmp_path / "a.png").open("r+b") as file:
            file.write(b"\x89PNG")
        picture.load()
    with open_picture(tmp_path / "a.png") as picture:  # another put into its place is no matter
        (tmp_path / "b.png").write_bytes(encoded(Image.new("RGB", (3, 3)), "PNG"))
        (tmp_path / "b.png").replace(tmp_path / "a.png")
        picture.load()
    assert picture.width == 16


def test_a_reference_has_to_be_the_one_it_was(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(IMAGE, "PNG"))
    with open_picture(tmp_path / "a.png") as picture:
        sha256 = picture.sha256
    assert read_reference(tmp_path / "a.png", 8, sha256=sha256).shape == (3, 8, 8)
    (tmp_path / "a.png").write_bytes(encoded(IMAGE.rotate(180), "PNG"))
    with pytest.raises(InputError, match=r"a\.png: was replaced during the run"):
        read_reference(tmp_path / "a.png", 8, sha256=sha256)


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError])
def test_faults_of_the_program_are_no_damaged_pictures(tmp_path, error):
    (tmp_path / "a.png").write_bytes(encoded(IMAGE, "PNG"))
    with pytest.raises(error, match="ours"), open_picture(tmp_path / "a.png"):
        raise error("ours")
    with pytest.raises(InputError, match="cannot be read as an image"), open_picture(tmp_path / "a.png") as picture:
        picture.image.convert("no mode")  # raises within Pillow


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_strip_that_would_take_a_matrix_of_gigabytes_is_refused(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", (20_000, 1)).save(tmp_path / "a.png", exif=exif)
    shape = (64, 64 * 20_000) if orientation == 1 else (64 * 20_000, 64)
    pixels = "20000×1 pixels" if orientation == 1 else "1×20000 pixels"
    with pytest.raises(InputError, match=f"a.png: has {pixels}, too long and thin a strip to be resized to"):
        read_reference(tmp_path / "a.png", shape)
    assert read_reference(tmp_path / "a.png", 64).shape == (3, 64, 64)


# formats


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "MPO", "AVIF", "BMP", "JPEG2000"])
def test_of_several_frames_the_first(tmp_path, kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    several = kind not in ("BMP", "JPEG2000")
    options = {"save_all": True, "append_images": frames[1:]} if several else {}
    pixels, notes = read(tmp_path, encoded(frames[0], kind, **options))
    assert abs(pixels - [255, 0, 0]).max() <= 5
    assert notes == (["several frames, of which the first is used"] if several else [])


def test_every_format_is_one_that_this_pillow_has(tmp_path):
    assert features.check("avif") and features.check("jpg_2000")
    assert "not one of JPEG, PNG, BMP, TIFF, WEBP, GIF, PPM, JPEG2000, AVIF" in refused(
        tmp_path, b"%!PS-Adobe-3.0 EPSF"
    )


# numbers


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_greys_of_16_bits(tmp_path, packed, order):
    pixels, _ = read(tmp_path, tiff(DEEP, order=order, packed=packed))
    assert (pixels == (DEEP / 257).round()[..., None]).all()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("numbers", "bits"), [(DEEP, 16), ((DEEP >> 8).astype(np.uint8), 8), (DEEP.astype(np.uint32) * 65537, 32)]
)
def test_min_is_white(tmp_path, packed, order, numbers, bits):
    content = tiff(numbers, photometric=0, order=order, packed=packed)
    if bits > 8:
        assert re.search(
            "the smallest number is white|big-endian|a kind that Pillow does not read",
            refused(tmp_path, content),
        )
    else:
        assert (read(tmp_path, content)[0] == 255 - numbers[..., None]).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("packed", [False, True])
def test_fewer_bits_than_said_are_refused(tmp_path, bits, packed):
    few = DEEP >> (16 - bits)
    assert "fewer than the 16 bits it claims; save it with 8 bits" in refused(tmp_path, tiff(few, packed=packed))
    assert "fewer than" in refused(tmp_path, encoded(Image.fromarray(few), "PNG"))
    colour = np.stack([few] * 3, 2)
    assert "fewer than the 16 bits" in refused(tmp_path, tiff(colour, 2, packed=packed))


def test_black_is_black_with_any_number_of_bits(tmp_path):
    black = np.zeros((4, 4), np.uint16)
    for content in (
        tiff(black),
        tiff(black.astype(np.uint32)),
        encoded(Image.fromarray(black), "PNG"),
        tiff(np.stack([black] * 3, 2), 2),
    ):
        assert (read(tmp_path, content)[0] == 0).all()


@pytest.mark.parametrize("packed", [False, True])
def test_greys_of_32_bits(tmp_path, packed):
    wide = DEEP.astype(np.uint32) * 65537
    assert "white is not known" in refused(tmp_path, tiff(wide, packed=packed))
    assert (read(tmp_path, tiff(DEEP.astype(np.uint32), packed=packed))[0] == (DEEP / 257).round()[..., None]).all()
    assert (
        read(tmp_path, tiff(DEEP.astype(np.int32), sign=2, packed=packed))[0] == (DEEP / 257).round()[..., None]
    ).all()
    for numbers, sign in (
        (DEEP.astype(np.uint32) * 300, 1),
        (DEEP.astype(np.int32) - 5, 2),
        (DEEP.astype(np.int32) * 2, 2),
    ):
        assert "white is not known" in refused(tmp_path, tiff(numbers, sign=sign, packed=packed))
    assert "big-endian order" in refused(tmp_path, tiff(DEEP.astype(np.int32), sign=2, order=">", packed=packed))


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_numbers_are_refused(tmp_path, dtype, order):
    numbers = np.arange(-20, 44).reshape(8, 8).astype(dtype)
    assert "signed numbers" in refused(tmp_path, tiff(numbers, sign=2, order=order))


def test_floats_are_refused(tmp_path):
    assert "floating-point" in refused(tmp_path, tiff(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4), sign=3))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [2, 5])
def test_planes(tmp_path, packed, order, photometric):
    colours = RNG.integers(0, 65536, (5, 7, 3 if photometric == 2 else 4), dtype=np.uint16)
    beside = tiff(colours, photometric, order=order, packed=packed)
    apart = tiff(colours, photometric, order=order, packed=packed, separate=True)
    wanted, _ = read(tmp_path, beside)
    assert "planes of their own" in refused(tmp_path, apart)
    eight = (colours >> 8).astype(np.uint8)
    assert (read(tmp_path, tiff(eight, photometric, packed=packed, separate=True))[0] == wanted).all()
    assert photometric != 2 or (wanted == eight).all()


def bmp(alpha: int | np.ndarray, header: int = 124) -> bytes:
    """A BMP of 32 bits, whose header names a mask of transparency."""
    bgra = np.dstack([PIXELS[::-1, :, ::-1], np.broadcast_to(np.uint8(alpha), PIXELS.shape[:2])])
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", header, 16, 12, 1, 32, 3, bgra.size, 0, 0, 0, 0) + masks
    head = head.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + bgra.size, 0, 0, 14 + len(head)) + head + bgra.tobytes()


@pytest.mark.parametrize("header", [56, 108, 124])
def test_a_bmp_that_is_transparent_throughout_is_not(tmp_path, header):
    assert (read(tmp_path, bmp(0, header))[0] == PIXELS).all()
    assert (read(tmp_path, bmp(255, header))[0] == PIXELS).all()
    some = np.zeros((12, 16), np.uint8)
    some[-1, :3] = 255
    pixels, _ = read(tmp_path, bmp(some, header))
    assert (pixels[0, :3] == PIXELS[0, :3]).all() and (pixels[1:] == 255).all()


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (DEEP, struct.pack(">H", DEEP[2, 3])),
        (np.arange(16, dtype=np.uint8).reshape(4, 4), struct.pack(">H", 15)),
        (np.stack([DEEP] * 3, 2), struct.pack(">3H", *[DEEP[2, 3]] * 3)),
    ],
    ids=["grey 16", "grey 4", "RGB 16"],
)
def test_a_transparent_colour_of_other_than_8_bits_is_refused(tmp_path, image, colour):
    bits = 4 if image.dtype == np.uint8 else 16
    rows = np.packbits(np.unpackbits(image[..., None], axis=2)[..., 4:].reshape(4, 16), axis=1) if bits == 4 else image
    raw = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", *image.shape[1::-1], bits, 2 if image.ndim == 3 else 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", head), chunk(b"tRNS", colour), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    whole = b"\x89PNG\r\n\x1a\n"
    assert "a transparent colour" in refused(tmp_path, whole + b"".join(chunks))
    pixels, _ = read(tmp_path, whole + b"".join(chunks[:1] + chunks[2:]))
    wanted = image * 17 if bits == 4 else image / 257
    assert abs(pixels - wanted.reshape(*image.shape[:2], -1)).max() < 1


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("depth", [11, 15, 9, 0x87, 0x8F, 4, 0])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L"])
def test_a_jpeg_2000_of_other_than_8_bits_is_refused(tmp_path, mode, depth, boxed):
    content = bytearray(encoded(IMAGE.convert(mode), "JPEG2000", no_jp2=not boxed))
    assert abs(read(tmp_path, bytes(content))[0] - np.asarray(IMAGE.convert("RGB"))).mean() < 255
    components = content.index(b"\xff\x4f\xff\x51") + 42
    content[components : components + 3 * len(mode) : 3] = bytes([depth]) * len(mode)
    if boxed:
        content[content.index(b"ihdr") + 14] = depth
    if mode != "L" or depth < 8 or depth & 0x80:
        bits = f"{'signed ' if depth & 0x80 else ''}numbers of {1 + (depth & 0x7F)} bits"
        assert bits in refused(tmp_path, bytes(content))


@pytest.mark.parametrize(("name", "channels"), [("rgb16", 3), ("rgba16", 4), ("la16", 2)])
def test_colours_of_16_bits_of_a_jpeg_2000_are_refused(name, channels):
    """Written by OpenJPEG: a ramp, of which Pillow turns white into black, or all into white."""
    path = PROJECT / "tests/data/pictures" / f"{name}.jp2"
    with Image.open(path) as image:
        assert len(image.getbands()) == channels
    with pytest.raises(InputError, match=r"cannot be read as an image: has numbers of 16 bits; save it with 8 bits"):
        decode(path)


def test_greys_of_16_bits_of_a_jpeg_2000(tmp_path):
    pixels, _ = read(tmp_path, encoded(Image.fromarray(DEEP), "JPEG2000"))
    assert (pixels == (DEEP / 257).round()[..., None]).all()


@pytest.mark.parametrize(("kind", "white"), [("P5", 255), ("P5", 65535), ("P5", 1023), ("P6", 255), ("P6", 65535)])
def test_portable_pixmaps(tmp_path, kind, white):
    channels = 3 if kind == "P6" else 1
    numbers = RNG.integers(0, white + 1, (6, 9, channels))
    raw = numbers.astype(">u2" if white > 255 else "u1").tobytes()
    pixels, notes = read(tmp_path, f"{kind} 9 6 {white}\n".encode() + raw)
    assert abs(pixels - numbers * (255 / white)).max() < 1 and notes == []


def test_a_file_larger_than_a_webp_can_be_is_not_read(tmp_path):
    """Pillow would read all of it into memory."""
    (tmp_path / "a").write_bytes(encoded(IMAGE, "WEBP"))
    os.truncate(tmp_path / "a", 3 * 2**30)  # a hole, which takes no space
    with pytest.raises(InputError, match="is larger than any WebP, 1024 MB"):
        decode(tmp_path / "a")


def test_a_file_far_larger_than_its_pixels_may_be_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(encoded(IMAGE, "PNG"))
    os.truncate(tmp_path / "a", 2**26 + 2**20)  # a hole, which takes no space
    with pytest.raises(InputError, match="is larger than"):
        decode(tmp_path / "a", Reading(max_megapixels=0.1))
    assert decode(tmp_path / "a").shape == (12, 16, 3)

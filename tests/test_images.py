"""Any picture file is read as a person sees it."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.picture_files import decode
from utils.errors import InputError, one_line
from utils.images import PngText, from_pixels, make_grid, read_png_text, read_reference, save_png, to_pixels
from utils.pictures import Reading
from utils.resize_right import resize
from utils.run.references import find_references

GRADIENT = np.linspace(0, 255, 24 * 32 * 3).astype(np.uint8).reshape(24, 32, 3)


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "webp", "jpg"])
def test_formats(tmp_path, ending):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(ending, {})
    Image.fromarray(GRADIENT).save(tmp_path / f"a.{ending}", **options)
    pixels = decode(tmp_path / f"a.{ending}")
    assert abs(pixels.astype(int) - GRADIENT).max() <= (3 if ending == "jpg" else 0)


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.fromarray(GRADIENT)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png"), np.rot90(GRADIENT, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_is_composited_on_white(tmp_path, mode):
    if mode == "P":
        image = Image.new("P", (4, 4), 0)
        image.putpalette([255, 0, 0] + [0] * 765)
        image.save(tmp_path / "a.png", transparency=0)
    elif mode == "PA":
        Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert("PA").save(tmp_path / "a.tiff")
        (tmp_path / "a.tiff").rename(tmp_path / "a.png")
    else:
        Image.new(mode, (4, 4), (255, 0, 0, 0) if mode == "RGBA" else (0, 0)).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png") == 255).all()


def test_half_transparency_is_half_white(tmp_path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png") == 127).all()


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "<u2"), ("I;16B", ">u2"), ("I", "<i4")])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, mode, dtype):
    ramp = np.arange(256).reshape(16, 16) * 257
    Image.frombytes(mode, (16, 16), ramp.astype(dtype).tobytes()).save(tmp_path / "a.tiff")
    assert np.array_equal(decode(tmp_path / "a.tiff")[..., 0], ramp // 257)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes_keep_white_white(tmp_path, mode):
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(tmp_path / "a.tiff")
    assert (decode(tmp_path / "a.tiff") >= 253).all()


def test_grey_models_get_one_channel(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", Reading(1)).shape == (24, 32, 1)


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (200, 70), (10, 5000), (10, 12)])
def test_references_are_resized_and_cropped_around_the_centre(tmp_path, shape):
    height, width = shape
    picture = np.full((height, width, 3), 128, np.uint8)
    picture[:, : width // 2] = 0  # the edge between dark and light stays in the middle
    Image.fromarray(picture).save(tmp_path / "a.png")
    square = read_reference(tmp_path / "a.png", 64)
    assert square.shape == (3, 64, 64)
    assert square.abs().max() <= 1
    assert (square[:, :, :24] < -0.8).all() and (square[:, :, 40:] > -0.2).all()


@pytest.mark.parametrize("shape", [(20, 333), (334, 20), (500, 100), (101, 700), (64, 64), (3, 90)])
def test_what_is_cut_off_before_resizing_does_not_count(tmp_path, shape):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    picture = from_pixels(torch.from_numpy(decode(tmp_path / "a.png").copy()))
    whole = resize(picture, 32 / min(shape), (32, 32), pad_mode="symmetric").clamp(-1, 1)
    assert (read_reference(tmp_path / "a.png", 32) - whole).abs().max() < 1e-5


@pytest.mark.parametrize("orientation", [1, 5, 6, 8])
@pytest.mark.parametrize("shape", [(20, 333), (500, 100), (64, 64), (24, 16)])
def test_a_rectangle_is_the_middle_of_what_people_see(tmp_path, shape, orientation, monkeypatch):
    monkeypatch.setattr("utils.images.BAND", 1000)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    picture = from_pixels(torch.from_numpy(decode(tmp_path / "a.png").copy()))
    scale = max(24 / picture.shape[1], 16 / picture.shape[2])
    for canvas in ((24, 16), (24, 24)):
        whole = resize(picture, scale, canvas, pad_mode="symmetric").clamp(-1, 1)
        assert (read_reference(tmp_path / "a.png", (24, 16), canvas=canvas) - whole).abs().max() < 1e-5


def test_a_picture_of_one_long_row_is_read_in_no_time(tmp_path):
    Image.new("1", (40_000_000, 2), 1).save(tmp_path / "a.png")
    assert (read_reference(tmp_path / "a.png", 32) > 0.99).all()


def test_a_picture_of_the_models_size_is_not_touched(tmp_path):
    Image.fromarray(GRADIENT[:, :24]).save(tmp_path / "a.png")
    assert np.array_equal(to_pixels(read_reference(tmp_path / "a.png", 24)), GRADIENT[:, :24])


def test_float_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match="floating-point"):
        decode(tmp_path / "a.tiff")


def test_saved_pixels_and_text_come_back(tmp_path):
    save_png(GRADIENT, tmp_path / "a.png", {"seed": "7", "reference": "ä.png"})
    image = Image.open(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image), GRADIENT)
    assert image.text == {"seed": "7", "reference": "ä.png"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_grid_places_every_picture():
    pictures = [np.full((4, 6, 3), value, np.uint8) for value in range(5)]
    grid = make_grid([pictures[:3], pictures[3:]])
    assert grid.shape == (10, 22, 3)
    assert [grid[0, 0, 0], grid[0, 8, 0], grid[0, 16, 0], grid[6, 0, 0], grid[6, 8, 0]] == [0, 1, 2, 3, 4]
    assert (grid[6:, 16:] == 255).all()


def test_to_pixels_rounds_and_clips():
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 5)
    assert to_pixels(values)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_two_references_never_share_a_name(tmp_path):
    names = ["a.png", "a.jpg", "sub/a.png", "A.PNG", "b.png", "sub/c d.webp", "new\nline.png", "x" * 240 + ".png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "d.png").mkdir()
    (tmp_path / ".hidden.png").write_bytes(b"")
    references, _ = find_references(tmp_path)
    assert len(references) == len(names)
    assert len({reference.name.casefold() for reference in references}) == len(names)
    assert {reference.name for reference in references} >= {"b", "c d"}
    assert all(len(reference.name.encode()) <= 200 and reference.name.isprintable() for reference in references)
    assert [r.path for r in references] == sorted(r.path for r in references)


def test_results_inside_the_input_folder_are_no_references(tmp_path):
    for name in ("a.png", "out/a_0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [r.name for r in find_references(tmp_path, exclude=tmp_path / "out")[0]] == ["a"]


def test_the_text_of_a_png_and_whether_it_is_whole(tmp_path):
    path = tmp_path / "a.png"
    assert read_png_text(path) is None
    path.write_bytes(b"")
    assert read_png_text(path) is None
    save_png(GRADIENT, path, {"seed": "7", "reference": "ä.png"})
    whole, text = path.read_bytes(), {"seed": "7", "reference": "ä.png"}
    assert read_png_text(path) == PngText(text, True, (24, 32))
    start = whole.index(b"IDAT") - 4
    for damaged in (whole[:-1], whole[: start + 20], whole[: start + 20] + b"\0" + whole[start + 21 :]):
        path.write_bytes(damaged)
        assert read_png_text(path) == PngText(text, False, (24, 32))
    for other in (whole[:start] + whole[-12:], whole[:60], b"GIF89a", b"\x89PNG\r\n\x1a\n"):  # the first without pixels
        path.write_bytes(other)
        found = read_png_text(path)
        assert found is not None and not found.is_whole


def test_letters_and_emoji_that_are_joined_are_shown_as_they_are(tmp_path):
    """A family, and Kannada and Persian whose letters a joiner shapes; what could mislead is escaped."""
    names = ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0ca8\u0ccd\u200d", "\u0645\u06cc\u200c\u0634\u0648\u062f"]
    for name in names:
        assert one_line(name) == name
        (tmp_path / f"{name}.png").write_bytes(b"")
    assert {reference.name for reference in find_references(tmp_path)[0]} == set(names)
    assert one_line("a\nb\x1b[2J\u202ec\u2066\u2028\u200e") == r"a\nb\x1b[2J\u202ec\u2066\u2028\u200e"

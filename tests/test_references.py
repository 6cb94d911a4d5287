"""No picture of the input folder is passed over without a word, and nothing else is taken for one."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from tests.commands import run_here, sample_ilvr
from tests.picture_files import cmyk_icc, encoded
from utils.errors import InputError
from utils.pictures import Reading
from utils.run.references import examine, find_references

RED = Image.new("RGB", (16, 16), "red")
KINDS = {
    "jfif": "JPEG",
    "jpe": "JPEG",
    "gif": "GIF",
    "avif": "AVIF",
    "mpo": "MPO",
    "jp2": "JPEG2000",
    "dib": "BMP",
    "apng": "PNG",
    **dict.fromkeys(("j2k", "j2c", "jpf"), "JPEG2000"),
    **dict.fromkeys(("pgm", "ppm", "pnm"), "PPM"),
}


def put(path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("ending", KINDS)
def test_formats_that_were_passed_over(tmp_path, ending):
    put(tmp_path / f"A.{ending.upper()}", encoded(RED, KINDS[ending]))
    references, notes = find_references(tmp_path)
    found, faults, _ = examine(references, 16, Reading())
    assert [reference.name for reference in references] == ["A"]
    assert list(found) == ["A"] and not faults and notes == ()


def test_a_codestream_without_boxes(tmp_path):
    put(tmp_path / "a.j2k", encoded(RED, "JPEG2000", no_jp2=True))
    assert not examine(find_references(tmp_path)[0], 16, Reading())[1]


def test_pictures_that_cannot_be_read_are_counted(tmp_path):
    for name in ("a.png", "b.heic", "c.HEIC", "sub/d.jxl", "e.cr2", "f.txt", "g", "h.json"):
        put(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    for name in ("link", "sub/link", "other"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "z.png").symlink_to(tmp_path / "a.png")  # a link to a picture is one
    references, notes = find_references(tmp_path)
    assert [reference.name for reference in references] == ["a", "z"]
    others = "1 .cr2, 2 .heic, 1 .json, 1 .jxl, 1 .txt, 3 links to folders, 1 without an ending"
    assert notes == (f"--input_dir {tmp_path}: skipped {others}",)
    (tmp_path / "a.png").unlink()
    (tmp_path / "z.png").unlink()
    with pytest.raises(InputError, match=r"contains no picture .*\n.*skipped 1 .cr2, 2 .heic"):
        find_references(tmp_path)


def test_files_of_other_fields_are_counted_too(tmp_path):
    names = ["a.npy", "b.dcm", "c.nii.gz", "d.mat", "e.h5", "f.fits", "g.pcx", "h.sgi", "i"]
    for name in ("z.png", *names, *(f"{i}.{i}" for i in range(10))):
        put(tmp_path / name)
    (note,) = find_references(tmp_path)[1]
    assert note.startswith(f"--input_dir {tmp_path}: skipped 1 .0, 1 .1, ") and note.endswith(", 1 .fits, 6 more kinds")


def test_names_that_differ_by_normalisation_get_outputs_of_their_own(tmp_path):
    """macOS composes accents in a form of its own; what one file system keeps apart, another takes for one."""
    for form in ("NFC", "NFD"):
        put(tmp_path / f"{unicodedata.normalize(form, 'é')}.png", encoded(RED, "PNG"))
    names = [reference.name for reference in find_references(tmp_path)[0]]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == 2


HIDDEN = (".a.png", "._a.jpg", ".Trash/a.png", "@eaDir/a.jpg/b.jpg", "__MACOSX/._a.png", "__MACOSX/a.png", "Thumbs.db")
HIDDEN += ("#recycle/a.png", "$RECYCLE.BIN/a.heic", ".b.heic", "lost+found/a.png")


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_matter_stays_out(tmp_path, name):
    put(tmp_path / "b.png")
    put(tmp_path / "sub" / name)
    put(tmp_path / name)
    references, notes = find_references(tmp_path)
    assert [reference.name for reference in references] == ["b"] and notes == ()


@pytest.mark.parametrize("name", ["one.png", "no ending", ".hidden.png", "a:b.gif"])
def test_a_single_file(tmp_path, name, tiny_model):
    put(tmp_path / name, encoded(RED, "PNG"))
    ((reference,), notes) = find_references(tmp_path / name)
    assert reference.path == tmp_path / name and notes == ()
    args = ("--weights", tiny_model, "--respace_steps", 1, "--downsample_factor", 4, "--save_dir", tmp_path / "out")
    assert run_here("--input_dir", tmp_path / name, *args) == (0, "")
    assert (tmp_path / "out" / f"{reference.name}_0.png").exists()
    assert run_here("--input_dir", tmp_path / "none.png", *args)[0] == 2


@pytest.mark.slow
def test_what_there_is_to_say_is_said_once(tmp_path, tiny_model):
    folder = tmp_path / "in"
    for i in range(5):
        put(folder / f"{i}.gif", encoded(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (16, 16))]))
    put(folder / "b.png", encoded(RED, "PNG", icc_profile=cmyk_icc(dict.fromkeys(np.ndindex(2, 2, 2, 2), (0, 0, 0)))))
    put(folder / "c.jpg", encoded(Image.new("CMYK", (16, 16)), "JPEG"))
    for name, exif in (("a.png", bytes(40)), ("d.webp", bytes(20))):
        put(folder / name, encoded(RED, "PNG" if name == "a.png" else "WEBP", exif=b"Exif\0\0" + exif))
    put(folder / "e.heic")
    args = ("--weights", tiny_model, "--input_dir", folder, "--respace_steps", 1, "--downsample_factor", 4)
    done = sample_ilvr(*args, "--save_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "reference" in line or "skipped" in line]
    assert said == [
        f"--input_dir {folder}: skipped 1 .heic",
        "5 references: several frames, of which the first is used (0.gif, 1.gif, 2.gif, … 2 more)",
        "2 references: damaged metadata (a.png, d.webp)",
        "1 reference: a colour profile that cannot be used, and is not (b.png)",
        "1 reference: CMYK without a colour profile, whose colours are a guess (c.jpg)",
    ]
    assert "Warning" not in done.stderr


def test_limits_of_the_command_line(tmp_path, tiny_model):
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    put(tmp_path / "in" / "a.png", encoded(large, "PNG")[:-20_000])
    args = ("--weights", tiny_model, "--input_dir", tmp_path / "in", "--respace_steps", 1, "--downsample_factor", 4)
    args += ("--save_dir", tmp_path / "out")
    assert run_here(*args)[0] == 2
    code, error = run_here(*args, "--allow_truncated", "--max_megapixels", "0.05")
    assert code == 2 and "has 0.1 megapixels; the limit is 0.05" in error
    for limit in ("0", "-1", "nan"):
        code, error = run_here(*args, "--max_megapixels", limit)
        assert code == 2 and "--max_megapixels must be at least 0.001" in error
    assert run_here(*args, "--allow_truncated", "--max_megapixels", "0.06") == (0, "")


def test_huge_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """As many at once as there are threads would take that many times the memory."""
    for i in range(6):
        put(tmp_path / f"{i}.png", encoded(RED, "PNG"))
    monkeypatch.setattr("utils.run.references.HUGE", 0)
    monkeypatch.setattr("utils.run.references.THREADS", 6)
    together, most = [], []

    def load(picture, size):
        together.append(picture)
        most.append(len(together))
        picture.image.load()
        together.pop()

    monkeypatch.setattr("utils.pictures.PictureFile.load", load)
    assert len(examine(find_references(tmp_path)[0], 16, Reading())[0]) == 6
    assert max(most) == 1

"""References and samples that are arrays of numbers in units of their own, of any number of channels."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import resize_right
import torch
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models import build_network, config_for, open_checkpoint
from models.families import FAMILIES
from models.files.config import parse_config
from tests.commands import run_here
from utils.errors import InputError
from utils.images import read_reference
from utils.pictures import Reading

DATA = Path(__file__).parent / "data" / "arrays"
DIFFUSION = {"total_steps": 1000, "beta_schedule": "linear", "objective": "pred_eps", "var_type": "fixed_small"}
RANGES = [(-1024.0, 3071.0), (0.0, 1e-9), (1500.0, 4500.0)]
MODELS = {  # the arguments of a tiny network of each family, but for its channels
    "adm": {"model_channels": 32, "num_res_blocks": 1, "attention_resolutions": [], "channel_mult": [1, 1]},
    "pesser": {"resolution": 16, "ch": 32, "num_res_blocks": 1, "attn_resolutions": [], "ch_mult": [1, 1]},
    "diffusers": {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "add_attention": False}
    | {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2},
    "lucidrains": {"dim": 8, "dim_mults": [1, 2], "attn_heads": 1, "attn_dim_head": 8},
    "edm": {"model_type": "SongUNet", "img_resolution": 16, "model_channels": 16, "channel_mult": [1, 1]}
    | {"num_blocks": 1, "attn_resolutions": []},
    "score_sde_ddpm": {"image_size": 16, "nf": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": []},
    "xyf": {"dim": 32, "dim_mults": [1, 1], "use_attn": [False, False], "num_res_blocks": 1},
    "monai": {"channels": [8, 8], "attention_levels": [False, False], "num_res_blocks": 1, "norm_num_groups": 4},
}
OUT = {"pesser": "out_ch", "lucidrains": None, "score_sde_ddpm": None}


def config(family, channels, **more):
    names = {"lucidrains": "channels", "score_sde_ddpm": "num_channels"}
    params = MODELS[family] | {names.get(family, "in_channels"): channels}
    if out := OUT.get(family, "out_channels"):
        params[out] = channels
    model = {"dialect": family, "params": params}
    return {"image_size": 16, "image_channels": channels, "model": model, "diffusion": DIFFUSION} | more


def write_model(folder: Path, family: str, channels: int, **more) -> tuple:
    """Write an untrained network as its family names its parts, and its config; return the arguments that name both."""
    content = config(family, channels, **more)
    torch.manual_seed(0)
    network = build_network(parse_config(content, "test"))
    names = FAMILIES[family].names(network)
    state = {}
    for name, meta in network.state_dict().items():
        tensor = 0.2 * torch.randn(meta.shape)
        for theirs, part in zip(names[name], tensor.chunk(len(names[name])), strict=True):
            if ".NIN_" in theirs:  # score_sde's linear layers, transposed
                theirs, part = (
                    theirs.replace("weight", "W").replace("bias", "b"),
                    part.flatten(1).T if part.ndim > 1 else part,
                )
            state[theirs] = part.clone()
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "model.pt")
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return "-c", folder / "config.yaml", "--weights", folder / "model.pt"


def waves(channels: int, height: int = 16, width: int = 16, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """[H, W, C] between the two, float64."""
    y, x = np.mgrid[:height, :width]
    each = [np.sin(x / 3 + i) * np.cos(y / 4 - i) for i in range(channels)]
    return low + (high - low) * (0.5 + 0.45 * np.stack(each, -1))


def run(model, source, save_dir, *more):
    args = (*model, "--input_dir", source, "--save_dir", save_dir, "--respace_steps", 2, "--downsample_factor", 4)
    return run_here(*args, *more)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("grey"), "diffusers", 1)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("colour"), "diffusers", 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("family", MODELS)
def test_a_whole_run_of_any_number_of_channels(tmp_path, family, channels):
    low, high = RANGES[channels % len(RANGES)]
    model = write_model(tmp_path / "model", family, channels, value_range=[low, high])
    checkpoint = open_checkpoint(tmp_path / "model" / "model.pt")
    hidden = {"norm_num_groups": 4, "norm_eps": 1e-5, "freq_shift": 0, "flip_sin_to_cos": True, "downsample_padding": 1}
    hidden |= {
        "attention_head_dim": 8,
        "num_heads": 1,
        "num_head_channels": 8,
        "n_heads": 1,
        "use_new_attention_order": 0,
    }
    keys = {key for keys in FAMILIES[family].hidden_params for key in keys.split("|")}
    if family != "edm":  # of which a pickle says it, and a bare state dict nothing
        given = {"image_size": 16, **{key: hidden[key] for key in keys if key != "num_heads"}}
        given |= {key: value for key, value in DIFFUSION.items() if key != "var_type"}
        assert config_for(checkpoint, None, given).image_channels == channels

    (tmp_path / "in").mkdir()
    values = waves(channels, low=low, high=high).astype(np.float32)
    np.save(tmp_path / "in" / "last.npy", values)
    np.save(tmp_path / "in" / "first.npy", values[::-1].transpose(2, 0, 1))
    args = ("--save_as", "npy", "--low_pass", "projection")
    assert run(model, tmp_path / "in", tmp_path / "out", *args) == (0, "")
    for name in ("last", "first"):
        reference, sample = (np.load(tmp_path / file) for file in (f"in/{name}.npy", f"out/{name}_0.npy"))
        assert sample.dtype == np.float32 and sample.shape == reference.shape
        last = [np.moveaxis(each, 0, -1) if name == "first" else each for each in (reference, sample)]
        down = [resize_right.resize(each.astype(float), 1 / 4, pad_mode="symmetric") for each in last]
        assert abs(down[1] - down[0]).max() < 1e-4 * (high - low)
        assert abs(sample - reference).max() > 0.01 * (high - low)  # it is another image
        picture = Image.open(tmp_path / f"out/{name}_0.png")
        assert picture.mode == ("L" if channels == 1 else "RGB")
        pixels = np.asarray(picture).astype(float).reshape(16, 16, -1)
        shown = ((last[1] - low) / (high - low) * 255).round().clip(0, 255)[..., :3]
        assert abs(pixels[..., : shown.shape[-1]] - shown).max() <= 1


def test_the_same_picture_in_every_form(tmp_path, grey, colour):
    """The samples are equal to one grey level, whatever the file, also resized and cropped."""
    pixels = (waves(1, 40, 30)[..., 0] * 255).round()
    pixels[:20, :9] = 255 * (np.indices((20, 9)).sum(0) % 2)  # edges, at which the kernel overshoots
    put = tmp_path / "in"
    forms = {
        "eight.png": (Image.fromarray(pixels.astype(np.uint8)), None),
        "sixteen.png": (Image.fromarray((pixels * 257).astype(np.uint16)), None),
        "sixteen.pgm": (Image.fromarray((pixels * 257).astype(np.uint16)), None),
        "sixteen.tif": (Image.fromarray((pixels * 257).astype(np.uint16)), None),
        "float.tif": (Image.fromarray((pixels / 10 - 5).astype(np.float32)), (-5, 20.5)),
        "bytes.npy": (pixels.astype(np.uint8), (0, 255)),
        "float.npy": ((pixels * 3 + 100).astype(np.float64), (100, 865)),
        "fortran.npy": (np.asfortranarray((pixels * 3 + 100).astype(">f4"))[..., None], (100, 865)),
        "one.npz": (pixels / 255, (0, 1)),
    }
    put.mkdir()
    for name, (content, _) in forms.items():
        path = put / name
        if isinstance(content, Image.Image):
            content.save(path)
        else:
            (np.savez_compressed if path.suffix == ".npz" else np.save)(path, content)
    seen = {}
    for name, (_, value_range) in forms.items():
        args = () if value_range is None else ("--value_range", *value_range)
        assert run(grey, put / name, tmp_path / name, *args) == (0, "")
        (made,) = tmp_path.joinpath(name).glob("*.png")
        seen[name] = np.asarray(Image.open(made)).astype(int)
    assert np.ptp(seen["eight.png"]) > 50
    for name, image in seen.items():
        assert abs(image - seen["eight.png"]).max() <= 1, name
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "grey.png")
    np.save(tmp_path / "colour.npy", pixels[None].repeat(3, 0))
    one, other = (
        read_reference(tmp_path / name, 16, Reading(value_range=(0, 255))) for name in ("grey.png", "colour.npy")
    )
    assert (one - other).abs().max() < 1e-5


@pytest.mark.parametrize("path", sorted(DATA.glob("*.tif")), ids=lambda path: path.stem)
def test_tiffs_of_another_program(path):
    """tifffile 2026.3.3 wrote them; what is in them is computed here once more."""
    y, x = np.mgrid[:12, :14]
    first = np.sin(x / 3 + y / 5).astype(np.float32) * 1000
    kind, channels = path.stem.split("_")[:2]
    if channels == "tiled":
        with pytest.raises(InputError, match=r"has numbers in tiles: save it plain, or as \.npy"):
            read_reference(path, 16, Reading(1, (0, 1)))
        return
    values = {
        "1": [first + 2000 * (kind == "uint16")],
        "2": [first + 2000, 2000 - first],
        "3": [first + 2000, 2000 - first, first / 2 + 2000],
        "4": [first, -first, first * 0.5 + 7, first**2 / 500],
    }[channels]
    wanted = np.stack(values).astype(kind).astype(float)
    found = read_reference(path, (12, 14), Reading(len(values), (-1000, 3000))).numpy()
    assert abs((found + 1) * 2000 - 1000 - wanted).max() < 1e-3


def test_sixteen_bits_are_read_whole(tmp_path):
    ramp = np.arange(256 * 16, dtype=np.uint16).reshape(64, 64) + 30000
    for name in ("a.png", "a.pgm", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        found = read_reference(tmp_path / name, 64, Reading(1))[0].double().numpy()
        assert abs((found + 1) * 32767.5 - ramp).max() < 0.01


def npy_bytes(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def zipped(*members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, member in enumerate(members):
            archive.writestr(f"{i}.npy", member)
    return file.getvalue()


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"
SQUARE = np.arange(256.0).reshape(16, 16)
HOLED = np.where(SQUARE == 35, np.nan, SQUARE)
BAD = {
    "cut short": (npy(SQUARE)[:-8], "is cut short: 2040 of 2048 bytes are there"),
    "a header cut short": (npy(SQUARE)[:40], "EOF"),
    "another shape": (npy(SQUARE[None, None]), "has shape [1, 1, 16, 16], but the model takes [H, W], [H, W, 1] or [1"),
    "three channels": (npy(np.zeros((16, 16, 3))), "has shape [16, 16, 3], but the model takes [H, W], [H, W, 1]"),
    "ambiguous": (
        npy(np.zeros((1, 16, 1))),
        "has shape [1, 16, 1], whose channels may be first or last: say",
    ),
    "a number": (npy(np.float32(1)), "has shape [], which no image has"),
    "empty": (npy(np.zeros((0, 5))), "has shape [0, 5], which no image has"),
    "objects": (npy(np.array([[Runs()]], dtype=object)), "is of type object; only bool, integers and floating-point"),
    "complex": (npy(SQUARE * 1j), "is of type complex128; only bool, integers and floating-point numbers can be read"),
    "text": (npy(np.array([["a"]])), "is of type <U1; only bool"),
    "not a number": (npy(HOLED), "contains nan in row 2, column 3, channel 0, counted from 0"),
    "infinite": (npy(np.where(SQUARE == 0, -np.inf, SQUARE)), "contains -inf in row 0, column 0, channel 0"),
    "huge": (npy_bytes(HEADER % "(1000000000, 1000000000)"), "has 1000000000000.0 megapixels; the limit is 512"),
    "endless": (npy_bytes(HEADER % f"({10**40}, {10**400})"), "is damaged"),
    "negative": (npy_bytes(HEADER % "(-5, -5)"), "has shape [-5, -5], which no image has"),
    "code": (npy_bytes("__import__('os').mkdir('ran')"), "malformed node or string"),
    "nested": (npy_bytes("(" * 100), "is damaged"),
    "of fields": (
        npy_bytes(HEADER % "(1,)", version=b"\3\0"),
        "is of a version of the format",
    ),
    "two arrays": (zipped(npy(SQUARE), npy(SQUARE)), "must contain one array, not 2 entries"),
    "objects in a zip": (zipped(npy(np.array([[Runs()]], dtype=object))), "is of type object; only bool"),
    "a bomb": (zipped(npy_bytes(HEADER % "(16, 16)", bytes(10**7))), None),  # what is behind the image is not unpacked
    "a short one in a zip": (zipped(npy(SQUARE)[:-8]), "is cut short: 2040 of 2048 bytes are there"),
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_and_hostile_arrays(tmp_path, grey, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = BAD[kind]
    path = tmp_path / ("a.npz" if content.startswith(b"PK") else "a.npy")
    path.write_bytes(content)
    code, error = run(grey, path, tmp_path / "out", "--value_range", 0, 255, "--dry_run")
    if message is None:
        assert (code, error) == (0, "")
    else:
        assert code == 2 and message in error and f"{path}: cannot be read as an image: " in error
    assert "\n" not in error and len(error) < 500 and not (tmp_path / "ran").exists()


def test_which_axis_is_which_can_be_said(tmp_path, colour):
    values = waves(3, 3, 3).repeat(1, 0)
    np.save(tmp_path / "a.npy", values.astype(np.float32))
    both = [
        read_reference(tmp_path / "a.npy", 3, Reading(3, (0, 1), first)).numpy() * 0.5 + 0.5 for first in (False, True)
    ]
    assert np.allclose(both[0], values.transpose(2, 0, 1), atol=1e-6) and np.allclose(both[1], values, atol=1e-6)
    args = (colour, tmp_path / "a.npy", tmp_path / "out", "--value_range", 0, 1, "--dry_run")
    code, error = run(*args)
    assert code == 2 and "say channels_first or _last" in error
    assert run(*args, "--channels_first")[0] == run(*args, "--channels_last")[0] == 0
    code, error = run(*args, "--channels_first", "--channels_last")
    assert code == 2 and error == "--channels_first contradicts --channels_last: give one of them"
    np.save(tmp_path / "a.npy", waves(3))
    code, error = run(*args, "--channels_first")
    assert (
        code == 2 and "has shape [16, 16, 3], but the model takes [H, W, 3] or [3, H, W] with channels first" in error
    )


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("dtype", ["?", "i1", ">i2", "<u4", "i8", "f2", "f4", ">f8"])
def test_every_type_of_number(tmp_path, dtype, fortran):
    values = (np.arange(12 * 9).reshape(12, 9) % 100).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(values) if fortran else values)
    found = read_reference(tmp_path / "a.npy", (12, 9), Reading(1, (0, 50)))[0].numpy()
    assert abs((found + 1) * 25 - values.astype(float)).max() < 1e-4


def test_the_values_must_be_given_a_meaning(tmp_path, grey, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", SQUARE - 100)
    np.save(tmp_path / "in" / "b.npy", SQUARE * 4)
    Image.fromarray(SQUARE.astype(np.float32) - 2000).save(tmp_path / "in" / "c.tif")
    code, error = run(grey, tmp_path / "in", tmp_path / "out")
    assert code == 2 and error == (
        "--value_range LOW HIGH: give the values that training mapped to -1 and 1; those of the references are "
        "-2000 … 1020"
    )
    for pair in (("1", "1"), ("2", "1"), ("0", "inf"), ("nan", "1")):
        code, error = run(grey, tmp_path / "in", tmp_path / "out", "--value_range", *pair)
        assert code == 2 and "--value_range must be two numbers, the lower first" in error
    capsys.readouterr()
    assert run(grey, tmp_path / "in", tmp_path / "out", "--value_range", 0, 512, "--dry_run") == (0, "")
    # below 0 are 100 values of a and all of c; above 512 are 127 of b
    expected = "3 references: 483 values outside of the value range, which are kept (a.npy, b.npy, c.tif)"
    assert expected in capsys.readouterr().out
    assert read_reference(tmp_path / "in" / "b.npy", 16, Reading(1, (0, 512))).max().item() == pytest.approx(
        1020 / 256 - 1
    )
    code, error = run((*grey, "--set", "value_range=[5]"), tmp_path / "in", tmp_path / "out")
    assert code == 2 and "value_range must be two numbers, the lower first, not [5]" in error


def test_pictures_may_have_a_range_of_their_own(tmp_path, grey):
    """12 bits in 16, whose white is not known otherwise; and what Pillow would scale or cut is refused."""
    deep = (waves(1)[..., 0] * 4095).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    code, error = run(grey, tmp_path / "a.png", tmp_path / "out")
    assert code == 2 and "has fewer than the 16 bits it claims" in error
    found = read_reference(tmp_path / "a.png", 16, Reading(1, (0, 4095)))[0].numpy()
    assert abs((found + 1) * 2047.5 - deep).max() < 0.01
    (tmp_path / "b.pgm").write_bytes(b"P5 4 4 1023\n" + bytes(32))
    with pytest.raises(InputError, match="has a largest number of its own"):
        read_reference(tmp_path / "b.pgm", 4, Reading(1, (0, 1023)))
    with pytest.raises(InputError, match="is a picture, of 1 or 3 channels; this model's images have 4: give arrays"):
        read_reference(tmp_path / "a.png", 16, Reading(4))


def test_sizes_sweeps_and_shapes(tmp_path, colour):
    """An array is resized like a picture: its shape is kept, it is enlarged in windows, and swept."""
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", waves(3, 20, 30).transpose(2, 0, 1))
    args = ("--value_range", 0, 1, "--save_as", "npy")
    assert run(colour, tmp_path / "in", tmp_path / "wide", *args, "--keep_aspect", "--upscale", 2) == (0, "")
    assert np.load(tmp_path / "wide" / "a_0.npy").shape == (3, 32, 48)
    assert run(colour, tmp_path / "in", tmp_path / "sweep", *args, "--downsample_factor", 2, 8) == (0, "")
    assert not np.array_equal(*(np.load(tmp_path / "sweep" / name / "a_0.npy") for name in ("N2", "N8")))


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "index.html"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def arrays(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abc":
        np.save(tmp_path / "in" / f"{name}.npy", waves(1)[..., 0] * ord(name) / 100)
    return tmp_path / "in"


NPY = ("--value_range", 0, 1, "--save_as", "npy", "--n_samples", 6, "--micro_batch", 2)


def die_at(place: int) -> None:
    """End this process as it gives the so manieth file its name: before that at odd places, after it at even ones."""
    replace, count = Path.replace, 0

    def die(self, target):
        nonlocal count
        count += self.name.endswith(".tmp")
        if count == place and place % 2:
            os._exit(9)
        replace(self, target)
        if count == place:
            os._exit(9)

    Path.replace = die


def test_a_run_killed_anywhere_is_finished_by_the_same_command(tmp_path, grey, arrays):
    """Killed as a file has been written, and as it has been given its name: ten places among arrays and pictures."""
    assert run(grey, arrays, tmp_path / "whole", *NPY) == (0, "")
    whole = contents(tmp_path / "whole")
    assert len([name for name in whole if name.endswith(".npy")]) == 6
    for place in range(3, 13):
        out = tmp_path / f"killed_{place}"
        child = os.fork()
        if child == 0:
            die_at(place)
            run(grey, arrays, out, *NPY)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert contents(out) != whole
        assert run(grey, arrays, out, *NPY) == (0, "")
        found = contents(out)
        record = found.pop("run.yaml")
        assert record == whole["run.yaml"].replace(b"/whole", f"/killed_{place}".encode())
        assert found == {name: content for name, content in whole.items() if name != "run.yaml"}


@pytest.mark.parametrize("damage", ["missing", "cut short", "a flipped bit", "of another run"])
def test_a_sample_is_finished_when_both_files_are_there(tmp_path, grey, arrays, damage):
    assert run(grey, arrays, tmp_path / "out", *NPY) == (0, "")
    before = contents(tmp_path / "out")
    path = tmp_path / "out" / "b_1.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= damage == "a flipped bit"
    path.write_bytes(content[: -8 if damage == "cut short" else None])
    if damage == "missing":
        path.unlink()
    if damage == "of another run":
        path.write_bytes(before["c_1.npy"])
    assert run(grey, arrays, tmp_path / "out", *NPY) == (0, "")
    assert contents(tmp_path / "out") == before


def test_pictures_that_are_finished_get_their_arrays_later(tmp_path, grey, arrays):
    picture_only = tuple(each for each in NPY if each not in ("--save_as", "npy"))
    assert run(grey, arrays, tmp_path / "out", *picture_only) == (0, "")
    pictures = {name: np.asarray(Image.open(tmp_path / "out" / name)) for name in ("a_0.png", "c_1.png")}
    assert run(grey, arrays, tmp_path / "out", *NPY) == (0, "")
    both = contents(tmp_path / "out")
    assert run(grey, arrays, tmp_path / "out", *picture_only) == (0, "")
    assert {name: both[name] for name in both if name != "run.yaml"}.items() <= contents(tmp_path / "out").items()
    assert run(grey, arrays, tmp_path / "out", *NPY) == (0, "")
    assert contents(tmp_path / "out") == both
    assert all(np.array_equal(np.asarray(Image.open(tmp_path / "out" / name)), pictures[name]) for name in pictures)


def test_an_array_of_somebody_else_is_not_replaced(tmp_path, grey, arrays):
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "b_1.npy", SQUARE)
    before = contents(tmp_path / "out")
    code, error = run(grey, arrays, tmp_path / "out", *NPY)
    assert code == 2 and "b_1.npy: exists and was not written by this program" in error and "\n" not in error
    assert contents(tmp_path / "out") == before
    assert run(grey, arrays, tmp_path / "out", *NPY, "--overwrite") == (0, "")
    assert np.load(tmp_path / "out" / "b_1.npy").dtype == np.float32


def test_sixteen_bits_of_grey(tmp_path, grey, arrays):
    assert run(grey, arrays, tmp_path / "floats", *NPY) == (0, "")
    args = [*NPY]
    args[args.index("npy")] = "png16"
    assert run(grey, arrays, tmp_path / "out", *args) == (0, "")
    picture = Image.open(tmp_path / "out" / "a_1.png")
    values = np.load(tmp_path / "floats" / "a_1.npy").astype(float)
    assert picture.mode == "I;16" and abs(np.asarray(picture) - (values * 65535).clip(0, 65535)).max() <= 1
    for made, save_as, message in (("floats", args, "'png', now 'png16'"), ("out", NPY, "'png16', now 'png'")):
        code, error = run(grey, arrays, tmp_path / made, *save_as)
        assert code == 2 and f"save_as {message}" in error


def test_the_channels_that_a_picture_shows(tmp_path):
    model = write_model(tmp_path / "model", "diffusers", 4)
    np.save(tmp_path / "a.npy", waves(4))
    args = (model, tmp_path / "a.npy", tmp_path / "out", "--value_range", 0, 1, "--save_as", "npy")
    for number, show in enumerate(([3, 0, 2], [3], [1, 0])):
        out = tmp_path / f"out{number}"
        assert run(*args[:2], out, *args[3:], "--show_channels", *show) == (0, "")
        pixels = np.asarray(Image.open(out / "a_0.png")).reshape(16, 16, -1)
        wanted = (np.load(out / "a_0.npy")[..., show] * 255).clip(0, 255)
        assert abs(pixels[..., : len(show)] - wanted).max() <= 1
        assert pixels.shape[-1] == (1 if len(show) == 1 else 3) and (len(show) != 2 or not pixels[..., 2].any())
        assert Image.open(out / "index_files" / "a.png").mode == ("L" if len(show) == 1 else "RGB")
    for show in ([4], [0, 1, 2, 3], [-1]):
        assert run(*args, "--show_channels", *show)[0] == 2
    code, error = run(*args[:5], 1, "--save_as", "png16")
    assert code == 2 and error == "--save_as png16 is for grey, not for images of 4 channels: choose npy"


def test_finished_pictures_of_grey_models_with_three_equal_channels_stay(tmp_path, grey):
    """As versions before 0.2 wrote them."""
    Image.fromarray((waves(1)[..., 0] * 255).astype(np.uint8)).save(tmp_path / "a.png")
    assert run(grey, tmp_path / "a.png", tmp_path / "out") == (0, "")
    for path in (tmp_path / "out").rglob("a*.png"):
        picture = Image.open(path)
        info = PngInfo()
        for name, value in picture.text.items():
            info.add_itxt(name, value)
        picture.convert("RGB").save(path, pnginfo=info)
    before = contents(tmp_path / "out")
    assert run(grey, tmp_path / "a.png", tmp_path / "out") == (0, "")
    assert contents(tmp_path / "out") == before

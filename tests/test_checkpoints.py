"""Checkpoint files, whole and broken: what they are wrapped in, and what is said of those that do not fit."""

import os
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models import load_network
from models.files.checkpoint import Checkpoint, open_checkpoint
from sample_ilvr import main
from tests.test_adm import golden_config
from utils.errors import InputError

DATA = Path(__file__).parent / "data"
WEIGHTS = DATA / "ddpm_tiny.weights.safetensors"
CONFIG = golden_config("ddpm_tiny", "pesser")


def read_state(path: Path, raw_weights: bool = False) -> dict[str, torch.Tensor]:
    return open_checkpoint(path, raw_weights).tensors


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return load_file(WEIGHTS)


def other(state):
    """A state that must not be the one taken."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 1e-4}},
    "ema, shadow": lambda state: {"model": other(state), "ema": {"decay": 0.999, "shadow": state}},
    "ema": lambda state: {"ema": state, "state_dict": other(state)},
    "state_dict in a model": lambda state: {"model": {"state_dict": state}},
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "ema, shadow, module.": lambda state: {"ema": {"shadow": {f"module.{n}": tensor for n, tensor in state.items()}}},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_pickles_and_their_wrappings(tmp_path, state, wrapping, zipped):
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
    read = read_state(tmp_path / "weights.pt")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.parametrize("file_name", ["model.ckpt", "ffhq_10m", "model.pt", "model.json"])
def test_the_files_name_does_not_matter(tmp_path, state, file_name):
    save_file(state, tmp_path / file_name)
    assert read_state(tmp_path / file_name).keys() == state.keys()
    torch.save(state, tmp_path / file_name)
    assert read_state(tmp_path / file_name).keys() == state.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_other_precisions_become_float32(tmp_path, state, dtype, suffix):
    cast = {name: tensor.to(dtype) for name, tensor in state.items()}
    (torch.save if suffix == "pt" else save_file)(cast, tmp_path / f"weights.{suffix}")
    model = load_network(tmp_path / f"weights.{suffix}", CONFIG)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.conv_in.weight, cast["conv_in.weight"].float())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux where the memory is from")
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_parameters_are_the_files_own_memory(tmp_path, state, suffix):
    file = tmp_path / f"weights.{suffix}"
    (torch.save if suffix == "pt" else save_file)(state, file)
    model = load_network(file, CONFIG)
    address = model.conv_out.weight.data_ptr()
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    (owner,) = [line for line in maps if address in range(*(int(end, 16) for end in line[0].split("-")))]
    assert owner[-1] == str(file)


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_not_opened(tmp_path, state, zipped):
    content = {"state_dict": state, "logger": Hostile(tmp_path / "marker")}
    torch.save(content, tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError) as error:
        load_network(tmp_path / "weights.pt", CONFIG)
    assert "is not opened, because reading it would run code (posix.system)" in str(error.value)
    assert "save its state_dict alone" in str(error.value)
    assert not (tmp_path / "marker").exists()
    torch.load(tmp_path / "weights.pt", weights_only=False)
    assert (tmp_path / "marker").exists(), "the file was as hostile as it should be"


def packed(tmp_path: Path, state: dict, pack) -> Path:
    torch.save(state, tmp_path / "model.pt")
    pack(tmp_path / "packed.pt", tmp_path / "model.pt")
    return tmp_path / "packed.pt"


def test_archives_around_a_checkpoint_are_said_to_be_archives(tmp_path, state):
    def tar(target: Path, file: Path) -> None:
        with tarfile.open(target, "w") as archive:
            archive.add(file)

    def zipped(target: Path, file: Path) -> None:
        with zipfile.ZipFile(target, "w") as archive:
            archive.write(file)

    for pack, words in (
        (tar, "is a tar archive: unpack it"),
        (zipped, "is a zip archive, but none of PyTorch's: unpack"),
    ):
        with pytest.raises(InputError, match=words):
            read_state(packed(tmp_path, state, pack))


@pytest.mark.parametrize(("ending", "words"), [("onnx", "an ONNX program"), ("eqx", "of Equinox, for JAX")])
def test_files_of_other_frameworks_are_said_to_be_theirs(tmp_path, ending, words):
    (tmp_path / f"model.{ending}").write_bytes(b"\x08\x08\x12\x07pytorch")  # as torch.onnx.export begins
    with pytest.raises(InputError, match=f"is {words}; only checkpoints of PyTorch can be read"):
        read_state(tmp_path / f"model.{ending}")


def test_the_state_of_an_edm_training_leads_to_its_snapshot(tmp_path, state):
    torch.save(
        {"net": state, "optimizer_state": {"state": {}, "param_groups": []}}, tmp_path / "training-state-000010.pt"
    )
    with pytest.raises(
        InputError, match=r"the state of an EDM training, .* give the network-snapshot of the same training"
    ):
        read_state(tmp_path / "training-state-000010.pt")


def test_a_modules_extra_state_is_left_out(tmp_path, state):
    """As torch.nn.Module.get_extra_state adds it to a state_dict."""

    class Extra(torch.nn.Linear):
        def get_extra_state(self):
            return torch.zeros(3, dtype=torch.uint8)

    module = torch.nn.ModuleDict({"temb": torch.nn.ModuleDict({"extra": Extra(2, 2)})})
    extra = {name: value for name, value in module.state_dict().items() if "_extra_state" in name}
    assert extra
    torch.save(state | extra, tmp_path / "weights.pt")
    assert read_state(tmp_path / "weights.pt").keys() == state.keys()


def truncated(file: Path, share: float) -> bytes:
    return file.read_bytes()[: int(file.stat().st_size * share)]


BROKEN = {
    "empty": lambda folder: b"",
    "text": lambda folder: b"<!DOCTYPE html><html>Quota exceeded</html>",
    "zeros": lambda folder: bytes(1000),
    "image": lambda folder: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "safetensors cut in its header": lambda folder: truncated(WEIGHTS, 0.001),
    "safetensors cut in its tensors": lambda folder: truncated(WEIGHTS, 0.9),
    "zip cut short": lambda folder: truncated(folder / "zip.pt", 0.9),
    "zip cut at once": lambda folder: truncated(folder / "zip.pt", 0.0001),
    "pickle cut short": lambda folder: truncated(folder / "pickle.pt", 0.9),
    "pickle cut at once": lambda folder: truncated(folder / "pickle.pt", 0.0001),
    "another zip": lambda folder: b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(tmp_path, state, kind):
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "pickle.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "weights").write_bytes(BROKEN[kind](tmp_path))
    with pytest.raises(InputError, match=rf"^weights {tmp_path}/weights: is ") as error:
        load_network(tmp_path / "weights", CONFIG)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@given(st.integers(0, 2**31), st.binary(min_size=1, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_damage_is_never_a_traceback(tmp_path_factory, place, damage, zipped):
    """Bytes overwritten anywhere: the parameters, which then are other numbers, or an InputError."""
    file = tmp_path_factory.getbasetemp() / "damaged.pt"
    torch.save({"conv_in.weight": torch.ones(3, 3), "n": 3}, file, _use_new_zipfile_serialization=zipped)
    content = bytearray(file.read_bytes())
    place %= len(content)
    content[place : place + len(damage)] = damage
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_network(file, CONFIG)  # at the latest, all but one of the parameters are missing
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "hold no parameters but a list"),
        ([], "hold no parameters but an empty list"),
        ({}, "hold no parameters but an empty dict"),
        ({"epoch": 3, "loss": 0.1}, "hold no parameters but epoch, loss"),
        ({"temb.weight": torch.ones(1), "step": 7}, "do not fit the config: they lack"),
        ({3: torch.ones(1)}, "3 are not names of any known family"),
        ({"a.weight": torch.ones(1)}, "a.weight are not names of any known family .pesser, adm, diffusers"),
    ],
)
def test_files_of_something_else(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=message):
        load_network(tmp_path / "weights.pt", CONFIG)


def test_folders_and_shards_that_lack_something(tmp_path, state):
    with pytest.raises(InputError, match=r"hold no diffusion_pytorch_model\.safetensors"):
        read_state(tmp_path)
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    for text, message in (
        ('{"weight_map": {"a": "part-1", "b": "part-2"}}', "names the file part-2, which is not there"),
        ('{"weight_map": {}}', "has no weight_map"),
        ("[]", "must hold a JSON object"),
        ("{", "is not valid JSON"),
    ):
        save_file(state, tmp_path / "part-1")
        index.write_text(text)
        with pytest.raises(InputError, match=message):
            read_state(tmp_path)


def changed(state, **changes):
    """The state without the parameters whose new value is None, and with the others."""
    return {name: tensor for name, tensor in (state | changes).items() if tensor is not None}


# what is wrong: the state, the config's parameters, and what is said of it
MISFITS = {
    "missing": (
        {"conv_out.bias": None, "norm_out.weight": None},
        {},
        "do not fit the config: they lack conv_out.bias, norm_out.weight",
    ),
    "extra": (
        {f"down.7.block.{i}.conv1.bias": torch.ones(1) for i in range(5)},
        {},
        "the config's model has no place for down.7.block.0.conv1.bias, down.7.block.1.conv1.bias, "
        "down.7.block.2.conv1.bias and 2 more",
    ),
    "renamed": (
        {"conv_out.bias": None, "conv_last.bias": torch.ones(3)},
        {},
        "they lack conv_out.bias, and the config's model has no place for conv_last.bias",
    ),
    "wider": ({}, {"ch": 64}, "do not fit the config: ch: the file has 32, the config says 64"),
    "deeper": ({}, {"num_res_blocks": 2}, "do not fit the config: num_res_blocks: the file has 1, the config says 2"),
    "other levels": (
        {},
        {"ch_mult": [1, 2, 2], "attn_resolutions": [4]},
        "ch_mult: the file has [1, 2], the config says [1, 2, 2]; attn_resolutions: the file has [16], the config says",
    ),
    "transposed": (
        {"conv_out.weight": torch.ones(32, 3, 3, 3)},
        {},
        "conv_out.weight is [32, 3, 3, 3] and the config's model has [3, 32, 3, 3]",
    ),
}


def test_a_zip_of_several_disks_is_told(tmp_path, state):
    torch.save(state, tmp_path / "weights.pt")
    content = bytearray((tmp_path / "weights.pt").read_bytes())
    content[content.rindex(b"PK\6\7") + 16] = 2  # the number of disks, in the locator of its directory
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(InputError, match="is no checkpoint, or is damaged or cut short"):
        load_network(tmp_path / "weights.pt", CONFIG)


def run_main(capsys, *args: object) -> str:
    """The entry script's one line of complaint, in this process."""
    assert main(list(map(str, args))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_get_one_line_with_the_first_differences(tmp_path, state, capsys, misfit):
    changes, params, message = MISFITS[misfit]
    torch.save(changed(state, **changes), tmp_path / "weights.pt")
    config = golden_config("ddpm_tiny", "pesser")
    config["model"]["params"] |= params
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    args = ("-c", tmp_path / "config.yaml", "--weights", tmp_path / "weights.pt", "--save_dir", tmp_path / "out")
    line = run_main(capsys, *args)
    assert line.startswith(f"sample_ilvr: error: weights {tmp_path}/weights.pt")
    assert message in line


def test_broken_and_hostile_files_get_one_line(tmp_path, state, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "cut.safetensors").write_bytes(truncated(WEIGHTS, 0.5))
    (tmp_path / "text.pt").write_text("not found")
    torch.save({"model": state, "logger": Hostile(tmp_path / "marker")}, tmp_path / "hostile.pt")
    for name, message in (
        ("cut.safetensors", "is damaged or cut short"),
        ("text.pt", "is no checkpoint"),
        ("hostile.pt", "is not opened, because reading it would run code"),
    ):
        args = ("-c", tmp_path / "config.yaml", "--weights", tmp_path / name, "--save_dir", tmp_path / "out")
        assert message in run_main(capsys, *args)
    assert not (tmp_path / "marker").exists()


def test_a_config_of_another_family(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    adm = DATA / "adm_p2_tiny.weights.safetensors"
    line = run_main(capsys, "-c", tmp_path / "config.yaml", "--weights", adm, "--save_dir", tmp_path / "o")
    assert f"are of family adm, but config {tmp_path}/config.yaml says model.dialect: pesser" in line


@pytest.mark.parametrize("checksums", [True, False])
def test_zeros_inside_a_zip_are_seen_by_its_checksums(tmp_path, state, checksums):
    """As a download that was broken off leaves them in a file of the right size; safetensors has no checksums."""
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(state, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    whole = (tmp_path / "model.pt").read_bytes()
    assert open_checkpoint(tmp_path / "model.pt").sha256() == sha256(sha256(whole).digest()).hexdigest()
    largest = max(zipfile.ZipFile(tmp_path / "model.pt").infolist(), key=lambda record: record.file_size)
    middle = largest.header_offset + largest.file_size // 2
    (tmp_path / "model.pt").write_bytes(whole[:middle] + bytes(500) + whole[middle + 500 :])
    checkpoint = open_checkpoint(tmp_path / "model.pt")
    if not checksums:
        assert checkpoint.sha256() != sha256(sha256(whole).digest()).hexdigest()
        return
    with pytest.raises(InputError, match=rf"model\.pt: is damaged: Bad CRC-32 for file '{largest.filename}'"):
        checkpoint.sha256()


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3_000_000])
def test_the_hash_is_the_files_own(tmp_path, size):
    """Also of a zip with something before it, or something compressed in it."""
    content = np.random.default_rng(0).bytes(size)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("stored", content)
        archive.writestr("packed", content, zipfile.ZIP_DEFLATED)
    for each in (content, (tmp_path / "zip").read_bytes(), content + (tmp_path / "zip").read_bytes()):
        (tmp_path / "file").write_bytes(each)
        found = Checkpoint(tmp_path / "file", {}, files=(tmp_path / "file",)).sha256()
        assert found == sha256(sha256(each).digest()).hexdigest()

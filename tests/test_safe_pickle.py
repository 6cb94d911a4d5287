"""The restricted unpickler: what it reads of NVlabs' pickles and PyTorch's files, and that it runs nothing."""

import builtins
import collections
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from benchmarks.module_pickles import Call, persistence, saved_network, write_pickle
from models.files.checkpoint import config_for, open_checkpoint
from models.files.safe_pickle import KNOWN, Inert
from tests.families import unpacked
from utils.errors import InputError

STATE = {"model.map_layer0.weight": torch.arange(6.0).reshape(2, 3), "model.map_layer0.bias": torch.ones(2)}
ARGUMENTS = {"img_resolution": 16, "model_type": "SongUNet"}


def network(**fields):
    return saved_network("EDMPrecond", ARGUMENTS, STATE, **fields)


def test_a_network_is_read_with_its_class_arguments_and_tensors(tmp_path):
    shared = torch.arange(12.0)
    state = STATE | {"model.view": shared[2:8].reshape(2, 3).T, "model.other": shared[:4]}
    path = write_pickle(tmp_path / "net.pkl", {"ema": saved_network("VPPrecond", ARGUMENTS, state)})
    checkpoint = open_checkpoint(path)
    assert checkpoint.edm == ("VPPrecond", ARGUMENTS)
    assert {f"model.{name}" for name in checkpoint.tensors} == state.keys()
    assert all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in checkpoint.tensors.items())


def test_a_file_of_nvlabs_own_classes_is_read_and_its_source_code_is_not_run(tmp_path):
    path = unpacked("edm_vp_ddpmpp.pkl", tmp_path)  # its source code would end the program
    checkpoint = open_checkpoint(path)
    class_name, arguments = checkpoint.edm
    assert (class_name, arguments["model_type"]) == ("VPPrecond", "SongUNet")
    assert checkpoint.tensors["enc.16x16_conv.weight"].shape == (32, 3, 3, 3)


def hostile_storage(command: str) -> bytes:
    stream = io.BytesIO()
    torch.save(Call(os.system, command), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


HOSTILE = {
    "alone": lambda command: Call(os.system, command),
    "beside a network": lambda command: {"ema": network(), "loss_fn": Call(os.system, command)},
    "deep in a network": lambda command: {"ema": network(extra=[{"deep": Call(os.system, command)}])},
    "eval": lambda command: {"ema": Call(builtins.eval, f"__import__('os').system({command!r})")},
}
CONTAINERS = {
    "bare": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=4)),
    "zip": lambda content, path: torch.save(content, path),
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_name_that_would_run_code_ends_the_reading(tmp_path, kind, container):
    ran, path = tmp_path / "ran", tmp_path / "net.pkl"
    with persistence():
        CONTAINERS[container](HOSTILE[kind](f"touch {ran}"), path)
    named = "builtins.eval" if kind == "eval" else "posix.system"
    with pytest.raises(InputError, match=rf"net\.pkl: is not opened, because reading it would run code \({named}\)"):
        open_checkpoint(path)
    assert not ran.exists()


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_other_name_is_inert(tmp_path, container):
    ran, path = tmp_path / "ran", tmp_path / "net.pt"
    calls = [Call(Path.touch, ran), Call(OrderedDict.fromkeys, "ab"), Call(pickle.loads, pickle.dumps(1)), ran]
    CONTAINERS[container]({"temb.weight": torch.ones(2), "calls": calls}, path)
    assert open_checkpoint(path).tensors["temb.weight"].tolist() == [1, 1]
    assert not ran.exists()


def test_subclasses_of_lists_and_dicts_are_read(tmp_path):
    class_ = type("Items", (list,), {"__module__": "collections", "__qualname__": "Items"})
    collections.Items = class_  # type: ignore[attr-defined]
    try:
        content = {"state_dict": {"temb.weight": torch.ones(2)}, "items": class_([1, 2, 3]), "set": {1, 2}}
        torch.save(content, tmp_path / "net.pt")
    finally:
        del collections.Items  # type: ignore[attr-defined]
    assert open_checkpoint(tmp_path / "net.pt").tensors.keys() == {"temb.weight"}


def test_a_torchscript_program_is_not_run(tmp_path):
    program = torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1))
    torch.jit.save(program, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net\.pt: is a TorchScript program"):
        open_checkpoint(tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt", "a") as archive:
        archive.writestr("constants.pkl", b"")
    with pytest.raises(InputError, match=r"net\.pt: is "):
        open_checkpoint(tmp_path / "net.pt")


def test_a_tar_archive_is_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / "net.tar", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(InputError, match=r"net\.tar: is a tar archive"):
        open_checkpoint(tmp_path / "net.tar")


def test_a_tensor_whose_own_bytes_would_run_code_is_refused(tmp_path):
    ran = tmp_path / "ran"
    evil = Call(torch._utils._rebuild_tensor_v2, Call(torch.storage._load_from_bytes, hostile_storage(f"touch {ran}")))
    evil.call = (evil.call[0], (*evil.call[1], 0, (1,), (1,), False, OrderedDict()))
    path = write_pickle(tmp_path / "net.pkl", {"ema": network(_parameters={"evil": evil})})
    with pytest.raises(InputError, match=r"net\.pkl: is damaged"):
        open_checkpoint(path)
    assert not ran.exists()


@pytest.mark.parametrize(("module", "name"), [key for key in KNOWN if "torch" not in key or key[1].islower()])
def test_a_pickle_cannot_change_what_stands_in_for_its_names(tmp_path, module, name):
    """BUILD on the stand-in itself, with a dict of attributes, and with one of slots, which it sets one by one."""
    known = KNOWN[module, name]
    attributes = {key: getattr(known, key, None) for key in ("take", "__call__", "function")}
    for state in (b"}X\x04\x00\x00\x00takeNs", b"N}X\x04\x00\x00\x00takeNs\x86", b"N}X\x08\x00\x00\x00functionNs\x86"):
        (tmp_path / "net.pkl").write_bytes(b"\x80\x04c" + f"{module}\n{name}\n".encode() + state + b"b.")
        with pytest.raises(InputError):
            open_checkpoint(tmp_path / "net.pkl")
    assert {key: getattr(known, key, None) for key in attributes} == attributes
    assert not hasattr(Inert, "take")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no checkpoint, or is damaged or cut short"),
        (b"\x80\x04", "is no checkpoint, or is damaged or cut short"),
        (b"not a pickle at all", "is no checkpoint, or is damaged or cut short"),
        (pickle.dumps({"ema": "text"}), "hold no parameters but ema"),
        (pickle.dumps([1, 2]), "hold no parameters but a list"),
    ],
)
def test_other_files_are_input_errors(tmp_path, content, message):
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"net\.pkl: {message}"):
        open_checkpoint(path)


def test_a_file_cut_short_anywhere_is_an_input_error(tmp_path):
    path = write_pickle(tmp_path / "net.pkl", {"ema": network()})
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 40):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged or cut short"):
            open_checkpoint(path)


def test_a_network_inside_itself_is_an_input_error(tmp_path):
    inner = torch.nn.ModuleDict()
    inner._modules["again"] = inner
    path = write_pickle(tmp_path / "net.pkl", {"ema": network(_modules={"inner": inner})})
    with pytest.raises(InputError, match="is damaged"):
        open_checkpoint(path)


def test_arguments_without_names_are_refused(tmp_path):
    saved = network()
    saved.fields["_init_args"] = (16,)
    with pytest.raises(InputError, match="are of class 'EDMPrecond', constructed with arguments without names"):
        config_for(open_checkpoint(write_pickle(tmp_path / "net.pkl", {"ema": saved})))

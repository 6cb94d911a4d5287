"""The reader of NVlabs' pickles: what it reads, and that it runs nothing."""

import builtins
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from models.module_pickle import STAND_INS, is_module_pickle, read_arguments, read_state

from benchmarks.module_pickles import Call, Saved, saved_network, write_pickle
from tests.families import unpacked
from utils.errors import InputError

STATE = {"model.conv.weight": torch.arange(6.0).reshape(2, 3), "model.conv.bias": torch.ones(2)}
ARGUMENTS = {"img_resolution": 16, "model_type": "SongUNet"}


def network(**fields):
    return saved_network("EDMPrecond", ARGUMENTS, STATE, **fields)


def test_a_network_is_read_with_its_class_arguments_and_tensors(tmp_path):
    shared = torch.arange(12.0)
    state = STATE | {"model.view": shared[2:8].reshape(2, 3).T, "model.other": shared[:4]}
    path = write_pickle(tmp_path / "net.pkl", {"ema": saved_network("VPPrecond", ARGUMENTS, state)})
    assert read_arguments(path) == ("VPPrecond", ARGUMENTS)
    read = read_state(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_a_file_of_nvlabs_own_classes_is_read_and_its_source_code_is_not_run(tmp_path):
    path = unpacked("edm_vp_ddpmpp.pkl", tmp_path)  # its source code would end the program
    class_name, arguments = read_arguments(path)
    assert (class_name, arguments["model_type"]) == ("VPPrecond", "SongUNet")
    assert read_state(path)["model.enc.16x16_conv.weight"].shape == (32, 3, 3, 3)


def hostile_storage(command: str) -> bytes:
    stream = io.BytesIO()
    torch.save(Call(os.system, command), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda command: Call(os.system, command), "posix.system"),
        (lambda command: {"ema": network(), "loss_fn": Call(os.system, command)}, "posix.system"),
        (lambda command: {"ema": network(extra=[{"deep": Call(os.system, command)}])}, "posix.system"),
        (lambda command: {"ema": Call(builtins.eval, f"__import__('os').system({command!r})")}, "builtins.eval"),
        (lambda command: {"ema": Call(OrderedDict.fromkeys, command)}, "builtins.getattr"),
        (lambda command: {"ema": network(extra=Path(command))}, "pathlib.PosixPath"),
    ],
)
def test_a_name_that_is_no_part_of_such_a_network_ends_the_reading(tmp_path, make, named):
    ran = tmp_path / "ran"
    path = write_pickle(tmp_path / "net.pkl", make(f"touch {ran}"))
    with pytest.raises(InputError, match=rf"net\.pkl: is not opened, because it names '{named}'"):
        read_state(path)
    assert not ran.exists()


def test_a_tensor_whose_own_bytes_would_run_code_is_refused(tmp_path):
    ran = tmp_path / "ran"
    evil = Call(torch._utils._rebuild_tensor_v2, Call(torch.storage._load_from_bytes, hostile_storage(f"touch {ran}")))
    evil.call = (evil.call[0], (*evil.call[1], 0, (1,), (1,), False, OrderedDict()))
    path = write_pickle(tmp_path / "net.pkl", {"ema": network(_parameters={"evil": evil})})
    with pytest.raises(InputError, match=r"net\.pkl: is no EDM network"):
        read_state(path)
    assert not ran.exists()


@pytest.mark.parametrize(("module", "name"), STAND_INS)
def test_a_pickle_cannot_change_what_stands_in_for_its_names(tmp_path, module, name):
    attribute = b"X\x04\x00\x00\x00takeN"  # {"take": None}, given to the stand-in itself as its state
    path = tmp_path / "net.pkl"
    path.write_bytes(b"\x80\x04c" + f"{module}\n{name}\n".encode() + b"}" + attribute + b"s" + b"b.")
    with pytest.raises(InputError, match="is no EDM network"):
        read_state(path)
    assert getattr(STAND_INS[module, name], "take", ...) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04",
        pickle.dumps({"ema": "text"}),
        pickle.dumps([1, 2]),
        pickle.dumps({"model": 1}),
        b"not a pickle at all",
    ],
)
def test_other_files_are_input_errors(tmp_path, content):
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"net\.pkl: is no EDM network, or is damaged or cut short"):
        read_state(path)


def test_a_file_cut_short_anywhere_is_an_input_error(tmp_path):
    path = write_pickle(tmp_path / "net.pkl", {"ema": network()})
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 40):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged or cut short"):
            read_state(path)


def test_a_network_inside_itself_is_an_input_error(tmp_path):
    inner = torch.nn.ModuleDict()
    inner._modules["again"] = inner
    path = write_pickle(tmp_path / "net.pkl", {"ema": network(_modules={"inner": inner})})
    with pytest.raises(InputError, match="is no EDM network"):
        read_state(path)


def test_arguments_without_names_are_refused(tmp_path):
    unnamed = Saved("EDMPrecond", _init_args=(16,), _init_kwargs=ARGUMENTS)
    with pytest.raises(InputError, match="is no EDM network"):
        read_arguments(write_pickle(tmp_path / "net.pkl", {"ema": unnamed}))


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_state(tmp_path / "net.pkl")


def test_bare_pickles_are_told_from_pytorchs_files(tmp_path):
    torch.save({}, tmp_path / "zip.pt")
    torch.save({}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    write_pickle(tmp_path / "net.pkl", {"ema": network()})
    assert [is_module_pickle(tmp_path / name) for name in ("none", "zip.pt", "old.pt", "net.pkl")] == [0, 0, 0, 1]

"""What training scripts wrap parameters in: which copy is taken, and that nothing of a file runs."""

import argparse
import collections
import os
import pathlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models import load_model, load_network
from models.files.checkpoint import open_checkpoint
from tests import families
from tests.families import apart
from tests.test_adm import golden_config
from tests.test_checkpoints import Hostile
from utils.errors import InputError

DATA = Path(__file__).parent / "data"
CONFIG = golden_config("ddpm_tiny", "pesser")
MEAN = load_file(DATA / "ddpm_tiny.weights.safetensors")  # stands for the average
LAST = {name: tensor + 1 for name, tensor in MEAN.items()}  # and this for the last weights of training

OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def undotted(state):
    return {f"model_ema.diffusion_model{name.replace('.', '')}": tensor for name, tensor in state.items()}


# what scripts save that keep both; the averaged weights are to be taken
BOTH = {
    "ema_model": {"net_model": LAST, "ema_model": MEAN, "sched": {"last_epoch": 5}, "optim": OPTIMIZER, "step": 5},
    "model_ema": {"model": LAST, "model_ema": MEAN},
    "state_dict_ema": {"state_dict": LAST, "state_dict_ema": MEAN, "epoch": 3},
    "ema_state_dict": {"model_state_dict": LAST, "ema_state_dict": MEAN},
    "params_ema": {"params": LAST, "params_ema": MEAN},
    "shadow by name": {"unet": LAST, "ema": {"decay": 0.999, "shadow": MEAN, "num_updates": 3}},
    "shadow as a list": {"model": LAST, "ema": {"decay": 0.999, "shadow": list(MEAN.values()), "num_updates": 3}},
    "a list beside a buffer": {
        "model": {"module.sigmas": torch.ones(9, dtype=torch.float64)} | under("module.", LAST),
        "ema": {"shadow_params": list(MEAN.values())},
        "optimizer": OPTIMIZER,
    },
    "a list of all": [under("module.", LAST), OPTIMIZER, 3, 100, MEAN],
    "one flat record": under("online_model.", LAST) | under("ema_model.", MEAN) | {"initted": torch.tensor(True)},
    "an EMA's own record": {
        "model": under("model.", LAST) | {"betas": torch.ones(9)},
        "ema": under("online_model.model.", LAST) | under("ema_model.model.", MEAN) | {"step": torch.tensor(3)},
    },
    "latent diffusion": {
        "state_dict": under("model.diffusion_model.", LAST)
        | undotted(MEAN)
        | {"model_ema.decay": torch.tensor(0.999), "scale_factor": torch.tensor(0.2)}
    },
    # a Lightning callback's own state, as in several published EMA callbacks
    "a callback": {
        "state_dict": under("model.", LAST),
        "callbacks": {
            "ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)},
            "EMA{'decay': 0.999}": {"ema_state_dict": under("model.", MEAN), "n_averaged": torch.tensor(3)},
        },
    },
    # NeMo's EMAOptimizer.state_dict: the parameters' averages in their order, beside the optimizer's own state
    "NeMo's optimizer": {
        "state_dict": under("model.", LAST),
        "optimizer_states": [{"opt": OPTIMIZER, "ema": list(MEAN.values()), "current_step": 5, "decay": 0.999}],
    },
    # Lightning's WeightAveraging.on_save_checkpoint puts the average where the weights were, and these aside
    "EMAWeightAveraging": {
        "state_dict": under("model.", MEAN),
        "current_model_state": under("model.", LAST),
        "averaging_state": {"n_averaged": torch.tensor(3)},
    },
    "compiled and parallel": {"net": under("_orig_mod.module.", LAST), "ema": under("module._orig_mod.", MEAN)},
}


def taken(tmp_path, content, raw_weights=False):
    torch.save(content, tmp_path / "weights.pt")
    return open_checkpoint(tmp_path / "weights.pt", raw_weights)


def is_same(tensors, state):
    return tensors.keys() >= state.keys() and all(torch.equal(tensors[name], state[name]) for name in state)


@pytest.mark.parametrize("kind", BOTH)
def test_averaged_weights_are_taken_and_raw_ones_on_request(tmp_path, kind):
    mean, last = (taken(tmp_path, BOTH[kind], raw) for raw in (False, True))
    assert is_same(mean.tensors, MEAN)
    assert is_same(last.tensors, LAST)
    assert mean.note.startswith("Using the averaged weights (")
    assert last.note.startswith("Using the raw weights (")


WRAPPERS = [
    "_orig_mod.",
    "model.",
    "unet.",
    "net.",
    "module.model.",
    "model._orig_mod.module.",
    "denoise_fn.",
    "model_fn.",
]
WRAPPERS += [
    "backbone.",
    "denoiser.",
    "network.",
    "eps_model.",
    "_forward_module.",
    "_fsdp_wrapped_module.",
    "any.other.",
]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_one_copy_is_taken_without_ado(tmp_path, prefix):
    checkpoint = taken(tmp_path, {"state_dict": under(prefix, MEAN), "epoch": 3})
    assert is_same(checkpoint.tensors, MEAN)
    assert checkpoint.note == ""


def test_a_record_inside_the_parameters_does_not_hide_them(tmp_path):
    assert is_same(taken(tmp_path, MEAN | {"statistics": {"mean": torch.ones(3)}, "step": 7}).tensors, MEAN)


def test_what_lies_beside_the_parameters_is_kept(tmp_path):
    betas = torch.linspace(1e-4, 0.02, 9)
    assert taken(tmp_path, under("model.", MEAN) | {"betas": betas}).beside["betas"].equal(betas)


@pytest.mark.parametrize(
    ("content", "raw_weights", "message"),
    [
        (OPTIMIZER, False, "hold the state of an optimizer, which resumes a training; the network is another file"),
        ({"ema_0.99": MEAN, "ema_0.9999": LAST}, False, r"hold several networks \(ema_0.99, ema_0.9999\)"),
        (
            {"student": LAST, "teacher": MEAN},
            False,
            r"hold several networks \(student, teacher\): save the one you mean",
        ),
        (under("best.", LAST) | under("last.", MEAN), False, r"hold several networks \(best, last\)"),
        ({"ema": MEAN}, True, r"hold averaged weights only \(ema\), no raw ones"),
        ({"ema": {"shadow": list(MEAN.values())}}, False, "is a list without names, and the weights that would name"),
        ({"model": MEAN, "ema": list(MEAN.values())[1:]}, False, "the list ema does not fit the names in model"),
    ],
)
def test_no_telling_what_to_take(tmp_path, content, raw_weights, message):
    with pytest.raises(InputError, match=message):
        taken(tmp_path, content, raw_weights)


def test_a_training_folder_of_several_files(tmp_path):
    """xyfJASON's: what they hold has changed over time, and each of them can be named alone as well."""
    mean = families.weights("xyf_unet")
    last = {name: tensor + 1 for name, tensor in mean.items()}
    folder = tmp_path / "ckpt" / "step000010"
    folder.mkdir(parents=True)
    torch.save({"model": last}, folder / "model.pt")
    torch.save({"ema": {"decay": 0.999, "shadow": list(mean.values()), "num_updates": 3}}, folder / "ema.pt")
    torch.save({"step": 10}, folder / "meta.pt")
    torch.save(OPTIMIZER, folder / "optimizer.pt")
    io = families.io("xyf_unet")

    def check(path):
        model = load_model(path, families.config("xyf_unet"))
        with torch.no_grad():
            assert apart(model(io["x"], io["t"]), io["out_ema"]) < 1e-5
        return model

    assert check(folder).notes[0].startswith("Using the averaged weights (ema.ema.shadow)")
    check(folder / "ema.pt")
    torch.save({"model": mean}, folder / "ema_model.pt")
    assert check(folder).notes[0].startswith("Using the averaged weights (ema_model.model)")
    check(folder / "ema_model.pt")
    torch.save({"model": last, "ema": {"shadow": mean}}, tmp_path / "legacy.pt")
    check(tmp_path / "legacy.pt")
    raw = load_network(folder, families.config("xyf_unet"), raw_weights=True)
    assert raw.conv_in.bias.equal(last["first_conv.bias"])
    with pytest.raises(InputError, match=r"is a whole training run: choose a checkpoint in it, like .*step000010"):
        load_network(tmp_path / "ckpt", families.config("xyf_unet"))


class ModelCheckpoint:
    """As a Lightning callback in a checkpoint: a class that is not there when the file is opened."""

    def __setstate__(self, state):
        raise AssertionError("code of the file's has run")


class EasyDict(dict):
    """As configurations are often kept."""


def test_objects_of_unknown_classes_are_opened_inert(tmp_path):
    content = {
        "state_dict": MEAN,
        "callbacks": {ModelCheckpoint: ModelCheckpoint(), "best": torch.ones(1)},
        "hyper_parameters": argparse.Namespace(folder=pathlib.Path("/data"), size=32),
        "config": EasyDict(lr=1e-4),
        "counts": collections.defaultdict(list, {1: [2]}),
        "rng_state": torch.ones(9, dtype=torch.uint8),
    }
    content["callbacks"][ModelCheckpoint].best_model_path = "a"
    assert is_same(taken(tmp_path, content).tensors, MEAN)


def test_a_whole_pickled_module_is_read_as_its_parameters(tmp_path):
    module = nn.Sequential(collections.OrderedDict(temb=nn.Linear(2, 3), rest=nn.Sequential(nn.GroupNorm(2, 4))))
    assert is_same(taken(tmp_path, {"model": module, "step": 3}).tensors, module.state_dict())


class Evil:
    """Unpickled, it makes a file by way of a function of Python's own."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize(
    ("function", "named"),
    [(os.mkdir, "posix.mkdir"), (eval, "builtins.eval"), (exec, "builtins.exec"), (os.removedirs, "os.removedirs")],
)
def test_a_file_that_names_a_function_to_run_is_refused(tmp_path, function, named):
    content = {"state_dict": MEAN, "logger": Evil(function, str(tmp_path / "made"))}
    with pytest.raises(InputError, match=rf"reading it would run code \({named}\)"):
        taken(tmp_path, content)
    assert not (tmp_path / "made").exists()


def test_a_nested_hostile_object_is_refused_too(tmp_path):
    with pytest.raises(InputError, match="would run code"):
        taken(tmp_path, {"state_dict": MEAN, "logs": [{"inner": (Hostile(tmp_path / "made"),)}]})
    assert not (tmp_path / "made").exists()


NAME = "temb.dense.0.bias"
TENSORS = {
    "of type int64": lambda tensor: tensor.long(),
    "of type bool": lambda tensor: tensor > 0,
    "of type complex64": lambda tensor: tensor.to(torch.complex64),
    "of type float8_e4m3fn": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "of type quint8": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8),
    "sparse": lambda tensor: tensor.to_sparse(),
    "without its numbers": lambda tensor: tensor.to("meta"),
    "nested": lambda tensor: torch.nested.nested_tensor([tensor, tensor[:3]]),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_numbers_are_told(tmp_path, kind):
    torch.save(MEAN | {NAME: TENSORS[kind](MEAN[NAME])}, tmp_path / "weights.pt")
    with pytest.raises(InputError) as error:
        load_network(tmp_path / "weights.pt", CONFIG)
    assert f"weights {tmp_path}/weights.pt: {NAME} is {kind}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tensor_without_dimensions_is_told(tmp_path):
    torch.save(MEAN | {NAME: torch.tensor(1.0)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"temb\.dense\.0\.bias is \[\] and the config's model has \[128\]"):
        load_network(tmp_path / "weights.pt", CONFIG)


# files of something else, by the names in them
OTHERS = {
    "a classifier, which judges": {"input_blocks.0.0.weight": (8, 3, 3, 3), "out.0.weight": (8,)},
    "an upsampler, which needs": {"input_blocks.0.0.weight": (8, 6, 3, 3), "output_blocks.0.0.weight": (8,)},
    "a text-to-image network": {"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (8, 768)},
    "a transformer": {"blocks.0.adaLN_modulation.1.weight": (8, 8)},
    "a LoRA": {"unet.down_blocks.0.attn.lora_A.weight": (4, 8)},
    "a ControlNet": {"controlnet_cond_embedding.conv_in.weight": (8, 3, 3, 3)},
    "an autoencoder": {"encoder.conv_in.weight": (8, 3, 3, 3), "decoder.conv_in.weight": (8, 3, 3, 3)},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_other_things_are_told_what_they_are(tmp_path, kind):
    torch.save({name: torch.zeros(shape) for name, shape in OTHERS[kind].items()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=f"weights {tmp_path}/weights.pt: this is {kind}"):
        load_network(tmp_path / "weights.pt", CONFIG)

"""Our UNet against the networks it loads: diffusers' UNet2DModel, and pesser's through its recorded output."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import UNet, load_network
from tests.test_golden_ilvr import DATA, WEIGHTS, tiny_config
from utils.errors import InputError
from utils.files import PROJECT

EMBEDDED = PROJECT / "weights" / "openpeeps64"

SMALL = {
    "sample_size": 16,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 64),
}


def random_config(seed: int) -> dict[str, Any]:
    """A UNet2DModel's config, each choice drawn by itself."""
    rng = random.Random(seed)
    levels = rng.choice([2, 3])
    scale_shift = rng.random() < 0.5
    return {
        "sample_size": 16,
        "in_channels": rng.choice([1, 3]),
        "out_channels": rng.choice([1, 3, 6]),
        "freq_shift": rng.choice([0, 1]),
        "flip_sin_to_cos": rng.random() < 0.5,
        "down_block_types": rng.choices(["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"], k=levels),
        "up_block_types": rng.choices(["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"], k=levels),
        "block_out_channels": [16 * rng.choice([1, 2, 3]) for _ in range(levels)],
        "layers_per_block": rng.choice([1, 2]),
        "downsample_padding": rng.choice([0, 1]),
        "downsample_type": rng.choice(["conv", "resnet"]),
        "upsample_type": rng.choice(["conv", "resnet"]),
        "attention_head_dim": rng.choice([4, 8, 16, None]),
        "norm_num_groups": rng.choice([4, 8, 16]),
        "attn_norm_num_groups": rng.choice([None, 4]),
        "norm_eps": rng.choice([1e-6, 1e-5, 1e-2]),
        "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
        "add_attention": rng.random() < 0.7,
        "num_class_embeds": rng.choice([None, None, 5]),
    }


def save_random_unet(folder: Path, config: dict[str, Any]) -> UNet2DModel:
    """A folder as diffusers writes it, with no parameter at a value (0, 1) that hides a mistake."""
    torch.manual_seed(0)
    unet = UNet2DModel(**config).eval()
    for parameter in unet.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    unet.save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    return unet


@torch.no_grad()
def check_same(ours: UNet, theirs: UNet2DModel, size: int, **labels: Tensor) -> None:
    x = torch.randn(2, theirs.config.in_channels, size, size, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3, 871])
    expected = theirs(x, t, *labels.values()).sample
    assert expected.std() > 0.05  # the output says something
    torch.testing.assert_close(ours(x, t, *labels.values()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(16))
def test_a_random_diffusers_unet_computes_the_same_here(seed, tmp_path):
    config = random_config(seed)
    theirs = save_random_unet(tmp_path, config)
    labels = {"class_labels": torch.tensor([4, 0])} if config["num_class_embeds"] else {}
    check_same(load_network(tmp_path), theirs, size=16, **labels)


def test_the_default_config_of_diffusers_is_understood(tmp_path):
    theirs = save_random_unet(tmp_path, SMALL)
    for name in set(UNet2DModel(**SMALL).config) - SMALL.keys():
        edit_config(tmp_path, **{name: ...})
    check_same(load_network(tmp_path), theirs, size=16)


def test_the_embedded_weights_compute_what_diffusers_computes():
    check_same(load_network(EMBEDDED), UNet2DModel.from_pretrained(EMBEDDED, torch_dtype=torch.float32), size=64)


def test_the_embedded_config_file_and_folder_describe_the_same_network():
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([500])
    with torch.no_grad():
        by_file, by_folder = (
            load_network(EMBEDDED, config)(x, t) for config in (PROJECT / "configs" / "openpeeps64.yaml", None)
        )
    assert torch.equal(by_file, by_folder)


def test_the_pesser_network_computes_its_recorded_output():
    io = load_file(DATA / "ddpm_tiny.io.safetensors")
    with torch.no_grad():
        out = load_network(WEIGHTS, tiny_config())(io["x"], io["t"])
    assert (out - io["out"]).norm() < 1e-5 * io["out"].norm()


def test_a_loaded_model_is_in_eval_mode_float32_and_on_the_cpu():
    model = load_network(EMBEDDED)  # stored in float16
    assert not model.training
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float32, "cpu")}


def edit_config(folder: Path, **changes: Any) -> None:
    """Set keys of a folder's config.json; `...` takes one out."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def edit_weights(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Set tensors of a folder's weights; None takes one out."""
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path) | changes
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_in.bias": None}, r"lack conv_in\.bias$"),
        ({"extra.weight": torch.zeros(1)}, r"has no place for extra\.weight$"),
        (
            {f"extra.{i}": torch.zeros(1) for i in range(5)} | {"conv_in.bias": None},
            r"lack conv_in\.bias, and the config's model has no place for extra\.0, extra\.1, extra\.2 and 2 more$",
        ),
        (
            {"conv_in.bias": torch.zeros(7), "conv_out.weight": torch.zeros(3, 32, 1, 1)},
            r"conv_in\.bias is \[7\] and the config's model has \[32\], conv_out\.weight is \[3, 32, 1, 1\] .*"
            r"\[3, 32, 3, 3\]$",
        ),
        ({"mid_block.attentions.0.to_v.weight": torch.zeros(8, 64)}, r"to_q\.weight is \[136, 64\] .* \[192, 64\]$"),
    ],
)
def test_weights_that_do_not_fit_are_told_by_first_names_and_shapes(tmp_path, changes, message):
    save_random_unet(tmp_path, SMALL)
    edit_weights(tmp_path, changes)
    with pytest.raises(InputError, match=message):
        load_network(tmp_path)


def test_a_wider_network_than_the_weights_is_told_by_the_parameter_to_change(tmp_path):
    save_random_unet(tmp_path, SMALL)
    edit_config(tmp_path, block_out_channels=[32, 96])
    message = r"do not fit the config: block_out_channels: the file has \[32, 64\], the config says \[32, 96\]$"
    with pytest.raises(InputError, match=message):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]},
            "down_block_types 'SkipDownBlock2D' .* not supported",
        ),
        ({"time_embedding_type": "fourier"}, "time_embedding_type 'fourier' .* not supported"),
        ({"act_fn": "gelu"}, r"act_fn 'gelu' .* not supported \(only silu, swish\)"),
        ({"new_option": True}, "new_option is not a known parameter"),
        ({"layers_per_block": "two"}, "layers_per_block must be a whole number, not 'two'"),
        ({"norm_eps": 10**400}, "norm_eps must be a number, not 1000+"),
        ({"norm_eps": "small"}, "norm_eps must be a number, not 'small'"),
        ({"attention_head_dim": True}, "attention_head_dim must be a whole number or null, not True"),
    ],
)
def test_a_diffusers_network_without_counterpart_is_refused_by_name(tmp_path, changes, message):
    save_random_unet(tmp_path, SMALL)
    edit_config(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"chanels": 32}, "unexpected keyword argument 'chanels'"),
        ({"ch": ...}, "missing a required argument: 'ch'"),
        ({"ch_mult": [1, "x"]}, r"ch_mult must be a list of whole numbers, not \[1, 'x'\]"),
        ({"ch": 40}, "model.params are impossible"),
    ],
)
def test_params_that_make_no_pesser_network_are_input_errors(params, message):
    config = tiny_config()
    merged = config["model"]["params"] | params
    config["model"]["params"] = {name: value for name, value in merged.items() if value is not ...}
    with pytest.raises(InputError, match=message):
        load_network(WEIGHTS, config)


def test_files_that_hold_no_parameters_are_input_errors(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no parameters at all")
    for name, message in (("broken", "is no checkpoint, or is damaged"), ("absent", "no such file")):
        with pytest.raises(InputError, match=rf"{name}\.safetensors: {message}"):
            load_network(tmp_path / f"{name}.safetensors", tiny_config())

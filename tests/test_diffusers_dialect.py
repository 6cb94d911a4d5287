"""diffusers' own networks and pipelines, as its save_pretrained writes them."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusions import DDPM
from models import load_model, load_network
from models.files.checkpoint import config_for, open_checkpoint
from tests.commands import read_images, sample_ilvr
from utils.errors import InputError

CONTAINERS = {
    "safetensors": {},
    "bin": {"safe_serialization": False},
    "sharded safetensors": {"max_shard_size": "200KB"},
    "sharded bin": {"safe_serialization": False, "max_shard_size": "200KB"},
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def random_params(seed: int) -> dict:
    """A small UNet2DModel, none of whose choices is the same for all seeds."""
    draw = random.Random(seed)
    levels = draw.choice([1, 2, 3])
    groups = draw.choice([4, 8])
    return {
        "sample_size": 16,
        "in_channels": (channels := draw.choice([1, 3])),
        "out_channels": channels * draw.choice([1, 2]),
        "block_out_channels": [draw.choice([16, 24, 32]) for _ in range(levels)],
        "layers_per_block": draw.choice([1, 2]),
        "down_block_types": draw.choices(["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"], k=levels),
        "up_block_types": draw.choices(["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"], k=levels),
        "downsample_type": draw.choice(["conv", "resnet"]),
        "upsample_type": draw.choice(["conv", "resnet"]),
        "downsample_padding": draw.choice([0, 1]),
        "attention_head_dim": draw.choice([None, 4, 8]),
        "norm_num_groups": groups,
        "attn_norm_num_groups": draw.choice([None, 2]),
        "norm_eps": draw.choice([1e-5, 1e-6]),
        "resnet_time_scale_shift": draw.choice(["default", "scale_shift"]),
        "flip_sin_to_cos": draw.choice([True, False]),
        "freq_shift": draw.choice([0, 1]),
        "add_attention": draw.choice([True, True, False]),
        "act_fn": draw.choice(["silu", "swish"]),
        "num_class_embeds": draw.choice([None, None, 5]),
    }


def random_unet(**params) -> UNet2DModel:
    """With parameters that all matter: freshly made ones leave normalisations at 1 and 0."""
    torch.manual_seed(0)
    unet = UNet2DModel(**params).eval()
    for parameter in unet.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return unet


def assert_agree(ours, theirs: UNet2DModel) -> None:
    """Within 1e-4 of the largest output."""
    size, channels = 16, theirs.config.in_channels
    x, t = torch.randn(2, channels, size, size), torch.tensor([3, 700])
    labels = torch.tensor([1, 4]) if theirs.config.num_class_embeds else None
    with torch.no_grad():
        expected = theirs(x, t, labels).sample
        difference = (ours(x, t, labels) - expected).abs().max()
    assert difference / expected.abs().max() < 1e-4


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("seed", range(3))
def test_random_networks(tmp_path, seed, container):
    theirs = random_unet(**random_params(10 * seed + list(CONTAINERS).index(container)))
    theirs.save_pretrained(tmp_path, **CONTAINERS[container])
    assert len(list(tmp_path.glob("*-of-*"))) != 1, "sharded is more than one file"
    assert_agree(load_network(tmp_path), theirs)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_older_attention_names(tmp_path, suffix):
    params = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
    }
    theirs = random_unet(**params)
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {}
    for name, tensor in load_file(file).items():
        for new_part, old_part in OLD_NAMES.items():
            name = name.replace(f".{new_part}.", f".{old_part}.")
        old[name] = tensor.clone()
    file.unlink()
    assert any(".proj_attn." in name for name in old)
    file = file.with_suffix(suffix)
    if suffix == ".bin":
        torch.save(old, file)
    else:
        save_file(old, file)
    assert_agree(load_network(tmp_path), theirs)

    # a single file takes a config, whose params are config.json's, or the one beside it
    DDPMScheduler().save_pretrained(tmp_path)
    assert_agree(load_network(file, config_for(open_checkpoint(tmp_path))), theirs)
    assert_agree(load_network(file), theirs)


def test_half_precision_variant(tmp_path):
    theirs = random_unet(sample_size=16, block_out_channels=(16,), norm_num_groups=8, **ONE_LEVEL)
    theirs.half().save_pretrained(tmp_path, variant="fp16")
    ours = load_network(tmp_path)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    assert_agree(ours, theirs.float())


ONE_LEVEL = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"up_block_types": ["AttnSkipUpBlock2D"]}, "up_block_types 'AttnSkipUpBlock2D' .* is not supported"),
        ({"mid_block_type": None}, "mid_block_type None .* is not supported"),
        ({"class_embed_type": "timestep"}, "class_embed_type 'timestep' .* is not supported"),
        ({"center_input_sample": True}, "center_input_sample True .* is not supported"),
        ({"attention_head_dim": 12}, "16 channels cannot be divided among attention heads"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "must have the same length"),
    ],
)
def test_unsupported_networks_are_refused_by_name(tmp_path, changes, message):
    random_unet(sample_size=16, block_out_channels=(16,), norm_num_groups=8, **ONE_LEVEL).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match=message) as error:
        load_network(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("scheduler", "ours"),
    [
        ({"variance_type": "fixed_large"}, {"var_type": "fixed_large"}),
        ({"variance_type": "fixed_small_log"}, {"var_type": "fixed_small"}),
        ({"prediction_type": "v_prediction", "clip_sample": False}, {"objective": "pred_v", "clip_denoised": False}),
        ({"prediction_type": "sample"}, {"objective": "pred_x0"}),
        ({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, {"beta_schedule": "quad"}),
        ({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400}, {"total_steps": 400}),
    ],
)
def test_scheduler_settings(tmp_path, scheduler, ours):
    unet = random_unet(sample_size=16, block_out_channels=(16,), norm_num_groups=8, **ONE_LEVEL)
    theirs = DDPMScheduler(**scheduler)
    DDPMPipeline(unet, theirs).save_pretrained(tmp_path)
    diffusion = config_for(open_checkpoint(tmp_path)).diffusion
    assert ours.items() <= diffusion.items()
    assert torch.allclose(
        config_for(open_checkpoint(tmp_path)).make_process().alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4
    )


@pytest.mark.parametrize(
    "changes",
    [{"beta_schedule": "exp"}, {"variance_type": "learned"}, {"timestep_spacing": "quad"}, {"trained_betas": "linear"}],
)
def test_unsupported_schedulers_are_refused_by_name(tmp_path, changes):
    unet = random_unet(sample_size=16, block_out_channels=(16,), norm_num_groups=8, **ONE_LEVEL)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match=next(iter(changes))):
        config_for(open_checkpoint(tmp_path))
    load_network(tmp_path)  # the network needs none of it


@pytest.mark.parametrize("size", [None, [16, 24]])
def test_a_pipeline_must_say_its_images_size(tmp_path, size):
    unet = random_unet(sample_size=size, block_out_channels=(16,), norm_num_groups=8, **ONE_LEVEL)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"sample_size in config\.json must be one number, for squares"):
        config_for(open_checkpoint(tmp_path))
    load_network(tmp_path)


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory) -> Path:
    """A whole pipeline with a network of two levels."""
    unet = random_unet(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    )
    folder = tmp_path_factory.mktemp("pipeline")
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def test_a_pipeline_runs_without_a_config(pipeline_folder, tmp_path, input_dir):
    done = sample_ilvr(
        "--weights", pipeline_folder, "--input_dir", input_dir, "--save_dir", tmp_path / "out", "--respace_steps", 5
    )
    assert done.returncode == 0, done.stderr
    images = read_images(tmp_path / "out")
    assert sorted(images) == ["a_0.png", "b_0.png", "c_0.png"]
    assert np.asarray(Image.open(tmp_path / "out" / "a_0.png")).shape == (16, 16, 3)


def test_samples_agree_with_diffusers_own_loop(pipeline_folder):
    """The same noise through both loops: first the initial one, then each step's but the last."""
    pipeline = DDPMPipeline.from_pretrained(pipeline_folder)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    theirs = pipeline(batch_size=2, generator=generator, num_inference_steps=20, output_type="pt").images

    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(2, 3, 16, 16, generator=generator)
    model = load_model(pipeline_folder)
    sampler = DDPM(model.process, respace_steps=20)
    ours = sampler.sample(model, noise, randn_like=lambda x: torch.randn(x.shape, generator=generator))
    assert torch.allclose((ours / 2 + 0.5).clamp(0, 1), theirs, atol=1e-4)

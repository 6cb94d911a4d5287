"""Latent diffusion models: diffusers' pipelines and CompVis's checkpoints, from the folder or file to the images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, VQModel
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from PIL import Image
from torch import Tensor

from diffusions import DDIM, ILVR
from models import load_model, load_network
from models.conversion import build_network
from models.families import AUTOENCODERS, FAMILIES
from models.files.checkpoint import Checkpoint, open_checkpoint
from models.files.config import Config, parse_config, read_config
from models.files.describe import describe
from models.files.diffusers_folder import read_diffusers_folder
from models.files.hub import needed_files
from tests.commands import contains, launch, read_images, run_here, sample_ilvr
from tests.latent import KINDS, save_pipeline
from utils.errors import InputError
from utils.files import PROJECT
from utils.images import TILE, read_reference, to_pixels

SIZE = 32  # of the images; the latents are 8×8


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    save_pipeline(folder, VQModel)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_same_noise_same_image_as_diffusers(tmp_path, kind):
    pipeline = save_pipeline(tmp_path, kind)
    theirs = pipeline(2, torch.Generator().manual_seed(3), num_inference_steps=20, output_type="np").images

    model = load_model(tmp_path)
    noise = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    latents = DDIM(model.process, respace_steps=20).sample(model, noise)
    ours = (model.decode(latents) / 2 + 0.5).clamp(0, 1).movedim(1, -1).numpy()
    assert ours.shape == (2, SIZE, SIZE, 3)
    assert np.abs(ours - theirs).max() < 1e-4


def test_a_codebook_without_a_scaling_factor_is_of_latents_as_they_are(pipeline_folder, tmp_path):
    """As of CompVis/ldm-celebahq-256 when it was published; see huggingface/diffusers, issue 6725."""
    shutil.copytree(pipeline_folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "vqvae" / "config.json"
    config = json.loads(file.read_text())
    del config["scaling_factor"]
    file.write_text(json.dumps(config))
    images = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    with torch.no_grad():
        latents = VQModel.from_pretrained(tmp_path, subfolder="vqvae").encode(images).latents
    assert torch.allclose(load_model(tmp_path).encode(images), latents, atol=1e-5)


def low_frequencies(weights: Path, file: Path, factor: int, config: dict | None = None) -> np.ndarray:
    """What binds of a reference, decoded; [H, W, 3]."""
    model = load_model(weights, config)
    latents = model.encode(read_reference(file, model.image_size)[None])
    guide = ILVR(latents, downsample_factor=factor / model.factor)
    return to_pixels(model.decode(guide.low_frequencies))[0].astype(int)


def test_a_run(pipeline_folder, tmp_path, input_dir):
    """Images at their own size; at N = f nothing but the reference is left, and page and grid show what binds."""
    out = tmp_path / "out"
    args = ("--weights", pipeline_folder, "--input_dir", input_dir, "--save_dir", out, "--respace_steps", 4)
    assert run_here(*args, "--downsample_factor", 4, "--progress_grid") == (0, "")
    images = read_images(out)
    assert sorted(images) == ["a_0.png", "b_0.png", "c_0.png"]
    shown = np.asarray(Image.open(out / "index_files" / "N4" / "a.png")).astype(int)
    times = TILE // SIZE
    assert contains(np.asarray(Image.open(out / "index_files" / "grid.png")), shown.repeat(times, 0).repeat(times, 1))
    expected = low_frequencies(pipeline_folder, input_dir / "a.png", 4)
    for picture in (images["a_0.png"], shown):
        assert picture.shape == (SIZE, SIZE, 3)
        assert np.abs(picture - expected).max() <= 1
    strip = Image.open(out / "progress_grid.png")
    assert strip.width > 4 * SIZE


@pytest.mark.slow
def test_samples_depend_on_nothing_but_themselves(tmp_path, input_dir):
    """On two processes, in other batches, or when a run goes on, the images are the same."""
    save_pipeline(tmp_path / "pipeline", AutoencoderKL)
    args = ("--weights", tmp_path / "pipeline", "--input_dir", input_dir, "--respace_steps", 4, "--strength", 0.8)
    args = (*args, "--n_samples", 5, "--save_dir")
    assert run_here(*args, tmp_path / "one", "--micro_batch", 3) == (0, "")
    done = launch(2, *args, tmp_path / "two", "--micro_batch", 2)
    assert done.returncode == 0, done.stderr
    one, two = read_images(tmp_path / "one"), read_images(tmp_path / "two")
    assert one.keys() == two.keys() and len(one) == 5
    assert max(np.abs(one[name] - two[name]).max() for name in one) <= 1

    (tmp_path / "one" / "b_0.png").unlink()
    assert run_here(*args, tmp_path / "one", "--micro_batch", 3) == (0, "")
    assert np.array_equal(read_images(tmp_path / "one")["b_0.png"], one["b_0.png"])


def test_half_precision_and_sweeps(pipeline_folder, tmp_path, input_dir):
    args = ("--weights", pipeline_folder, "--input_dir", input_dir, "--respace_steps", 4, "--downsample_factor", 4, 8)
    assert run_here(*args, "--save_dir", tmp_path / "full") == (0, "")
    assert run_here(*args, "--save_dir", tmp_path / "half", "--mixed_precision", "bf16") == (0, "")
    full, half = read_images(tmp_path / "full"), read_images(tmp_path / "half")
    assert full.keys() == half.keys() and len(full) == 6
    assert np.abs(full["N4/a_0.png"] - half["N4/a_0.png"]).max() <= 1  # the autoencoder keeps its precision
    assert not np.array_equal(full["N8/a_0.png"], half["N8/a_0.png"])


def test_a_factor_below_the_autoencoders_is_refused(pipeline_folder, tmp_path, input_dir):
    args = ("--weights", pipeline_folder, "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    code, error = run_here(*args, "--downsample_factor", 8, 3.5)
    assert code == 2
    assert error.startswith("--downsample_factor must be at least 4 for this model")


@pytest.mark.parametrize("size", [("--image_size", 64, 48), ("--keep_aspect", "--upscale", 2)])
def test_images_of_other_sizes(pipeline_folder, tmp_path, input_dir, size):
    """At N = f nothing but the reference is left, in windows and on a canvas too."""
    args = ("--weights", pipeline_folder, "--input_dir", input_dir, "--save_dir", tmp_path / "out", *size)
    factor = 2 if "--upscale" in size else 4
    assert run_here(*args, "--respace_steps", 4, "--detail", 0.5, "--downsample_factor", factor) == (0, "")
    images = read_images(tmp_path / "out")
    assert len(images) == 3
    for name, image in images.items():
        shown = np.asarray(Image.open(tmp_path / "out" / "index_files" / "N4" / f"{name[0]}.png")).astype(int)
        assert image.shape == shown.shape and min(image.shape[:2]) == (64 if "--upscale" in size else 48)
        assert np.abs(image - shown).max() <= 1


def test_sizes_that_no_latents_have_are_refused(pipeline_folder, tmp_path, input_dir):
    args = ("--weights", pipeline_folder, "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    code, error = run_here(*args, "--image_size", 36)
    assert code == 2 and error == "--image_size 36: must be a multiple of 8 for this model, such as 32 and 40"


def test_another_autoencoder_is_another_checkpoint(pipeline_folder, tmp_path, input_dir):
    """A run does not go on with the images of another decoder."""
    shutil.copytree(pipeline_folder, tmp_path / "pipeline")
    args = ("--weights", tmp_path / "pipeline", "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    args = (*args, "--respace_steps", 2)
    assert run_here(*args) == (0, "")
    file = tmp_path / "pipeline" / "vqvae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    code, error = run_here(*args)
    assert code == 2 and "weights_sha256" in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AutoencoderTiny"}, "class 'AutoencoderTiny' is not supported"),
        ({"norm_type": "spatial"}, "norm_type 'spatial' of VQModel is not supported"),
        ({"num_vq_embeddings": 61}, r"quantize.embedding.weight is \[60, 3\]"),
        ({"layers_per_block": 2}, "they lack decoder.up_blocks.0.resnets.2"),
        ({"block_out_channels": 3}, "block_out_channels must be a list"),
        ({"scaling_factor": 0}, "scale must be above 0"),
        ({"scaling_factor": "0.2"}, "autoencoder.params"),
    ],
)
def test_autoencoders_that_do_not_fit_are_refused(pipeline_folder, tmp_path, changes, message):
    shutil.copytree(pipeline_folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "vqvae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("part", ["unet", "unet/diffusion_pytorch_model.safetensors"])
def test_a_part_of_a_pipeline_has_its_autoencoder_too(pipeline_folder, part):
    images = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    assert load_model(pipeline_folder / part).encode(images).equal(load_model(pipeline_folder).encode(images))
    assert open_checkpoint(pipeline_folder / part).sha256() == open_checkpoint(pipeline_folder).sha256()


@pytest.mark.parametrize("part", ["", "unet"])
def test_other_pipelines_of_latents_are_refused(pipeline_folder, tmp_path, part):
    shutil.copytree(pipeline_folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": "AudioDiffusionPipeline"}))
    with pytest.raises(InputError, match=r"AudioDiffusionPipeline draws in the latents of an autoencoder \(vqvae/\)"):
        load_model(tmp_path / part)


def test_a_pipeline_without_its_autoencoder_is_refused(pipeline_folder, tmp_path):
    shutil.copytree(pipeline_folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "vqvae")
    with pytest.raises(InputError, match=r"hold no vqvae/, which model_index\.json names"):
        load_model(tmp_path)


def test_the_hubs_files_of_an_autoencoder_are_fetched():
    wanted = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "vqvae/config.json",
        "vqvae/diffusion_pytorch_model.bin.index.json",
        "vqvae/diffusion_pytorch_model-00001-of-00001.bin",
    ]
    others = ["README.md", "unet/diffusion_pytorch_model-00001-of-00002.bin"]
    assert set(needed_files([*wanted, *others])) == set(wanted)


CODER = {"double_z": True, "z_channels": 4, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32}
COMPVIS_CONFIG = {
    "image_size": 16,
    "image_channels": 3,
    "autoencoder": {
        "dialect": "compvis",
        "params": {
            "embed_dim": 4,
            "ddconfig": CODER | {"ch_mult": [1, 2], "num_res_blocks": 2, "attn_resolutions": []},
        },
    },
    "model": {
        "dialect": "adm",
        "params": {
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 32,
            "num_res_blocks": 1,
            "attention_resolutions": [2],
            "channel_mult": [1, 2],
            "num_heads": 2,
        },
    },
    "diffusion": {
        "total_steps": 1000,
        "beta_schedule": "quad",
        "beta_start": 0.0015,
        "beta_end": 0.0155,
        "objective": "pred_eps",
        "var_type": "fixed_small",
        "clip_denoised": False,
    },
}


def random_state(described: Config, autoencoder: bool, device: str = "cpu") -> dict[str, Tensor]:
    """Tensors under the names that the family gives them."""
    architecture = described.autoencoder if autoencoder else described
    network = build_network(architecture)
    names = (AUTOENCODERS if autoencoder else FAMILIES)[architecture.family].names(network)
    own = network.state_dict()
    return {
        part: 0.2 * torch.randn(len(own[name]) // len(parts), *own[name].shape[1:], device=device)
        for name, parts in names.items()
        for part in parts
    }


def save_compvis(file: Path, content: dict) -> None:
    """A checkpoint of a config's networks, as Lightning saves one of CompVis's."""
    torch.manual_seed(0)
    config = parse_config(content, "config")
    network, first_stage = random_state(config, False), random_state(config, True)
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in network.items()}
    state |= {f"model_ema.diffusion_model{name.replace('.', '')}": 0.9 * tensor for name, tensor in network.items()}
    state |= {f"first_stage_model.{name}": tensor for name, tensor in first_stage.items()}
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    state |= {"betas": torch.ones(1000), "scale_factor": torch.tensor(0.3)}
    state["first_stage_model.loss.logvar"] = torch.zeros(1)
    torch.save({"epoch": 3, "global_step": 100, "state_dict": state}, file)


@pytest.fixture(scope="module")
def compvis_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("compvis") / "model.ckpt"
    save_compvis(file, COMPVIS_CONFIG)
    return file


def test_compvis_checkpoints_averaged_network_and_first_stage(compvis_file, tmp_path):
    state = torch.load(compvis_file)["state_dict"]
    model = load_model(compvis_file, COMPVIS_CONFIG)
    plain = {name.removeprefix("model.diffusion_model."): tensor for name, tensor in state.items()}
    bare = {name: 0.9 * tensor for name, tensor in plain.items() if f"model.diffusion_model.{name}" in state}
    torch.save(bare, tmp_path / "bare.pt")
    bare_config = {key: value for key, value in COMPVIS_CONFIG.items() if key != "autoencoder"}
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        assert torch.equal(model(x, t), load_network(tmp_path / "bare.pt", bare_config)(x, t))

    theirs = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[32, 64],
        layers_per_block=2,
    ).eval()
    first_stage = {name: tensor for name, tensor in state.items() if "loss" not in name}
    theirs.load_state_dict(convert_ldm_vae_checkpoint(first_stage, dict(theirs.config)))
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        latents = 0.3 * theirs.encode(images).latent_dist.mode()
        decoded = theirs.decode(latents / 0.3).sample
    for ours, expected in ((model.encode(images), latents), (model.decode(latents), decoded)):
        assert (ours - expected).abs().max() / expected.abs().max() < 1e-5


def test_compvis_checkpoints_raw_weights_on_request(compvis_file):
    state = torch.load(compvis_file)["state_dict"]
    for raw_weights, share in ((True, 1.0), (False, 0.9)):
        model = load_model(compvis_file, COMPVIS_CONFIG, raw_weights)
        wanted = share * state["model.diffusion_model.input_blocks.0.0.bias"]
        assert model.network.conv_in.bias.equal(wanted)
        assert ("Using the raw" in model.notes[0]) == raw_weights


@pytest.mark.parametrize("name", ["ldm_ffhq_256", "ldm_lsun_church_256"])
def test_a_published_compvis_checkpoint_needs_no_config(name):
    """Its autoencoder is as in the known configs of the same network; another one's would be asked for."""
    known = [read_config(path) for path in sorted((PROJECT / "configs").glob("*.yaml"))]
    config = read_config(PROJECT / "configs" / f"{name}.yaml")
    autoencoder = {"quant_conv.weight": torch.empty(0)}
    state = random_state(config, False, "meta")
    found = describe(Checkpoint(Path("model.ckpt"), state, autoencoder=autoencoder), {}, known)
    assert (found.autoencoder, found.image_size, found.image_channels) == (config.autoencoder, 256, 3)
    assert found.diffusion == config.diffusion
    assert parse_config(yaml.safe_load(found.as_yaml()), "again") == found
    with pytest.raises(InputError, match="hold an autoencoder, but do not say how it is built: give a config"):
        describe(Checkpoint(Path("model.ckpt"), state, autoencoder=autoencoder), {}, [])
    with pytest.raises(InputError, match="do not say image_size"):
        describe(Checkpoint(Path("model.ckpt"), state), {}, known)


@pytest.mark.slow
def test_a_run_of_a_compvis_checkpoint(compvis_file, tmp_path, input_dir):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(COMPVIS_CONFIG))
    args = ("-c", tmp_path / "config.yaml", "--weights", compvis_file, "--input_dir", input_dir)
    args = (*args, "--save_dir", tmp_path / "out", "--respace_steps", 3, "--downsample_factor", 2)
    done = sample_ilvr(*args)
    assert done.returncode == 0, done.stderr
    expected = low_frequencies(compvis_file, input_dir / "a.png", 2, COMPVIS_CONFIG)
    assert np.abs(read_images(tmp_path / "out")["a_0.png"] - expected).max() <= 1


def test_the_network_is_compiled_for_latents(compvis_file, tmp_path, input_dir, monkeypatch):
    """Which have other sizes and channels than images. (Compiling itself takes minutes.)"""
    shapes = []

    def compiled(network: torch.nn.Module, dynamic: bool):
        return lambda x, t: shapes.append(tuple(x.shape)) or network(x, t)

    monkeypatch.setattr(torch, "compile", compiled)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(COMPVIS_CONFIG))
    args = ("-c", tmp_path / "config.yaml", "--weights", compvis_file, "--input_dir", input_dir)
    args = (*args, "--save_dir", tmp_path / "out", "--respace_steps", 2, "--compile", "--micro_batch", 2)
    assert run_here(*args) == (0, "")
    assert set(shapes) == {(2, 4, 8, 8)}


@pytest.mark.parametrize("kind", ["folder", "unet of a folder", "file"])
def test_an_autoencoder_without_a_description_is_told_before_sampling(pipeline_folder, tmp_path, input_dir, kind):
    """The network alone may be loaded, but its samples are no images."""
    weights = tmp_path / "model.ckpt"
    if kind == "file":
        model = {"dialect": "adm", "params": COMPVIS_CONFIG["model"]["params"] | {"in_channels": 3, "out_channels": 3}}
        config = COMPVIS_CONFIG | {"image_size": 8, "model": model}
        save_compvis(weights, config)
    else:
        weights = pipeline_folder if kind == "folder" else pipeline_folder / "unet"
        config = read_diffusers_folder(pipeline_folder) | {"image_size": 8}
    del config["autoencoder"]
    assert load_model(weights, config)(torch.zeros(1, 3, 8, 8), torch.zeros(1)).shape == (1, 3, 8, 8)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    args = ("-c", tmp_path / "config.yaml", "--weights", weights, "--input_dir", input_dir)
    code, error = run_here(*args, "--save_dir", tmp_path / "out")
    assert code == 2 and "contain an autoencoder, which" in error
    assert not read_images(tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_channels": 1}, "image_channels is 1, but the autoencoder takes images of 3 channels"),
        ({"image_size": 18}, "image_size is 18, but the model only takes multiples of 4"),
        (
            {"autoencoder": {"dialect": "adm", "params": {}}},
            "autoencoder.dialect must be one of compvis, diffusers, not 'adm'",
        ),
        ({"autoencoder": {"dialect": "compvis", "params": {}}}, "autoencoder.params of dialect compvis: missing"),
        ({"autoencoder": {"dialect": "compvis"}}, "key autoencoder.params is missing"),
    ],
)
def test_configs_that_do_not_fit_are_refused(compvis_file, changes, message):
    with pytest.raises(InputError, match=message):
        load_model(compvis_file, COMPVIS_CONFIG | changes)


def test_files_that_do_not_fit_are_refused(compvis_file, tmp_path):
    state = torch.load(compvis_file)["state_dict"]
    torch.save({name: state[name] for name in state if not name.startswith("first_stage")}, tmp_path / "bare.pt")
    with pytest.raises(InputError, match="hold no autoencoder, which config describes"):
        load_model(tmp_path / "bare.pt", COMPVIS_CONFIG)

    model = {"dialect": "adm", "params": COMPVIS_CONFIG["model"]["params"] | {"in_channels": 3, "out_channels": 3}}
    save_compvis(tmp_path / "three.ckpt", COMPVIS_CONFIG | {"model": model})
    with pytest.raises(InputError, match="the autoencoder has latents of 4, but the model maps 3 to 3 channels"):
        load_model(tmp_path / "three.ckpt", COMPVIS_CONFIG | {"model": model})

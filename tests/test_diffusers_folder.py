"""What a diffusers folder says, against diffusers itself: its scheduler, its pipeline, and which of its files count."""

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from diffusions import DDIM, Process
from diffusions.schedule import respace
from models import load_model, load_network
from models.files.checkpoint import config_for, open_checkpoint
from models.files.scheduler_config import TRAINED_AS_DDPM, read_scheduler
from tests.families import apart
from utils.errors import InputError


def process_of(scheduler):
    """The process and the timesteps' type that a scheduler's own config makes."""
    return Process(**{k: v for k, v in scheduler.items() if k not in ("var_type", "respace_type")})


# all classes there are: from 2026 on any new one is refused until it is known what its networks learn
CLASSES = sorted(name for name in dir(diffusers) if name.endswith("Scheduler"))
CLASSES.remove("CMStochasticIterativeScheduler")  # see test_consistency.py


@pytest.mark.parametrize("name", CLASSES)
def test_a_scheduler_means_ddpms_training_or_is_refused_by_name(name):
    if name not in TRAINED_AS_DDPM:
        with pytest.raises(InputError, match=f"here: the scheduler '{name}' is not supported: its networks may learn"):
            read_scheduler({"_class_name": name}, "here")
        return
    try:
        theirs = getattr(diffusers, name)()
    except ImportError:  # of a package that it needs
        pytest.skip(f"{name} cannot be made here")
    content = dict(theirs.config) | {"_class_name": name}
    ours = read_scheduler(content, "here")
    assert torch.allclose(process_of(ours).alphas_cumprod.float(), theirs.alphas_cumprod.float(), rtol=1e-4)
    spacing = getattr(theirs.config, "timestep_spacing", "linspace")
    same = DDPMScheduler(timestep_spacing=spacing, steps_offset=getattr(theirs.config, "steps_offset", 0))
    same.set_timesteps(7)
    assert respace(ours["respace_type"], 1000, 7) == same.timesteps.flip(0).tolist()
    silent = read_scheduler({"_class_name": name}, "here")  # what the class takes for granted
    assert {key: silent[key] for key in ("beta_start", "beta_end", "respace_type")} == {
        key: ours[key] for key in ("beta_start", "beta_end", "respace_type")
    }


def test_the_classes_of_the_table_are_diffusers_own():
    assert set(TRAINED_AS_DDPM) <= set(CLASSES)


@pytest.mark.parametrize("total_steps", [1000, 4000, 37])
@pytest.mark.parametrize(
    ("spacing", "offset", "name"),
    [
        ("leading", 0, "diffusers-leading"),
        ("leading", 1, "diffusers-leading-1"),
        ("linspace", 0, "diffusers-linspace"),
        ("trailing", 0, "diffusers-trailing"),
    ],
)
def test_timesteps_are_those_that_diffusers_visits(total_steps, spacing, offset, name):
    theirs = DDPMScheduler(num_train_timesteps=total_steps, timestep_spacing=spacing, steps_offset=offset)
    for steps in (*range(1, 38), 50, 61, 96, 100, 250, 333, 999, 1000):
        if steps <= total_steps:
            theirs.set_timesteps(steps)
            visited = [t for t in theirs.timesteps.flip(0).tolist() if t >= 0]  # a rounding error makes one -1
            ours = respace(name, total_steps, steps)
            if visited[-1] < total_steps:  # beyond, with an offset and all steps, diffusers has no noise level
                assert ours == visited
            assert len(set(ours)) == steps
            assert ours[-1] < total_steps


SCHEDULERS = [
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    {"clip_sample_range": 0.5},
    {"thresholding": True, "sample_max_value": 2.0, "dynamic_thresholding_ratio": 0.9},
    {"beta_schedule": "sigmoid", "timestep_spacing": "linspace"},
    {"beta_schedule": "laplace"},
    {"trained_betas": torch.linspace(1e-4, 0.03, 1000).tolist()},
    {"timestep_spacing": "leading", "steps_offset": 1, "prediction_type": "sample", "clip_sample": False},
]


@pytest.mark.parametrize("settings", SCHEDULERS, ids=lambda settings: next(iter(settings)))
def test_a_walk_by_a_schedulers_settings_is_diffusers_own(tmp_path, settings):
    """Where it goes and what image it expects at each step, with the network's part played by a function."""
    theirs = DDPMScheduler(**settings)
    theirs.save_pretrained(tmp_path)
    ours = read_scheduler(json.loads((tmp_path / "scheduler_config.json").read_text()), "here")
    sampler = DDIM(process_of(ours), 5, ours["respace_type"])
    theirs.set_timesteps(5)
    assert [step.t for step in sampler.transitions] == theirs.timesteps.tolist()

    def network(x, t):
        return 1.5 * x.flip(-1) + t[:, None, None, None] / 1000

    x = wanted = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for step, t in zip(sampler.sample_loop(network, x), theirs.timesteps, strict=True):
        x0 = theirs.step(network(wanted, t.expand(2)), t, wanted).pred_original_sample
        assert apart(step.pred_x0, x0) < 1e-4
        wanted = step.sample


def test_pure_noise_tells_a_network_that_predicts_noise_nothing():
    process = Process(zero_terminal_snr=True)
    assert process.alphas_cumprod[-1] == 0
    with pytest.raises(ValueError, match="timestep 999 is pure noise"):
        DDIM(process, 5, "diffusers-trailing")
    assert DDIM(process, 5).transitions[0].alphas_cumprod > 0  # leading timesteps leave it out


def tiny(**changes):
    settings = {"sample_size": 16, "block_out_channels": (16,), "norm_num_groups": 8}
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    return UNet2DModel(**settings, **blocks, **changes)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    DDPMPipeline(tiny(), DDPMScheduler()).save_pretrained(folder)
    return folder


def copied(pipeline: Path, folder: Path, **files: object) -> Path:
    """A pipeline's folder with further files, by their paths with __ for /."""
    for path in pipeline.rglob("*.*"):
        target = folder / path.relative_to(pipeline)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"model_index": {"_class_name": "VQDiffusionPipeline", "vqvae": ["diffusers", "VQModel"]}},
            "VQDiffusionPipeline draws in the",
        ),
        ({"text_encoder__config": {}}, r"draws from text \(text_encoder/\)"),
        ({"transformer__config": {}}, r"has a transformer for a network \(transformer/\)"),
        ({"image_encoder__config": {}}, "draws from another picture"),
        ({"vae__config": {}}, "draws in the latents of an autoencoder"),
        ({"model_index": {"_class_name": "ScoreSdeVePipeline"}}, "class 'ScoreSdeVePipeline' is not supported"),
        ({"unet__config": {"_class_name": "UNet2DConditionModel"}}, "class 'UNet2DConditionModel' is not supported"),
    ],
)
def test_pipelines_that_draw_no_pixels_from_noise_alone_are_told(pipeline, tmp_path, files, message):
    folder = copied(pipeline, tmp_path, **files)
    for use in (lambda path: config_for(open_checkpoint(path)), load_network):
        with pytest.raises(InputError, match=message):
            use(folder)


def renamed(folder: Path, name: str) -> Path:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / name)
    return folder


@pytest.mark.parametrize("variant", ["fp16", "bf16", "ema", "non_ema"])
def test_variants_are_found(pipeline, tmp_path, variant):
    load_network(renamed(copied(pipeline, tmp_path), f"diffusion_pytorch_model.{variant}.safetensors"))


def test_other_names_are_told(pipeline, tmp_path):
    folder = renamed(copied(pipeline, tmp_path), "diffusion_pytorch_model.int8.safetensors")
    with pytest.raises(InputError, match=r"choose a file there: diffusion_pytorch_model\.int8\.safetensors"):
        load_network(folder)


def test_shards_of_a_variant_are_found(tmp_path):
    model = tiny().half()
    model.save_pretrained(tmp_path, variant="fp16", max_shard_size="50KB")
    assert (tmp_path / "diffusion_pytorch_model.safetensors.index.fp16.json").exists()
    assert load_network(tmp_path).conv_in.bias.equal(model.conv_in.bias.float())


def test_averaged_weights_come_first(pipeline, tmp_path):
    """unet_ema beside unet, as train_unconditional saves them, and the scheduler in the pipeline's folder above."""
    folder = copied(pipeline, tmp_path / "run") / "checkpoint-500"
    for name in ("unet", "unet_ema"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text((pipeline / "unet" / "config.json").read_text())
    state = load_file(pipeline / "unet" / "diffusion_pytorch_model.safetensors")
    save_file(state, folder / "unet_ema" / "diffusion_pytorch_model.safetensors")
    raw = {name: tensor + 1 for name, tensor in state.items()}
    save_file(raw, folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert load_model(folder).network.conv_in.bias.equal(state["conv_in.bias"])
    assert load_model(folder, raw_weights=True).network.conv_in.bias.equal(raw["conv_in.bias"])

    (tmp_path / "run" / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(InputError, match=r"checkpoint-500: hold no scheduler_config\.json, which says what diffusion"):
        load_model(folder)


def test_each_folder_of_a_training_leads_to_the_scheduler_above(pipeline, tmp_path):
    """`checkpoint-500/unet_ema`, `…/unet`, and the file in each."""
    run = copied(pipeline, tmp_path / "run")
    for name in ("unet", "unet_ema"):
        shutil.copytree(pipeline / "unet", run / "checkpoint-500" / name)
        for path in (
            run / "checkpoint-500" / name,
            run / "checkpoint-500" / name / "diffusion_pytorch_model.safetensors",
        ):
            assert load_model(path).process.alphas_cumprod.equal(load_model(pipeline).process.alphas_cumprod)


def test_what_a_folder_leaves_open_can_be_given(pipeline, tmp_path):
    run = copied(pipeline, tmp_path / "run")
    (run / "scheduler" / "scheduler_config.json").unlink()
    config = json.loads((run / "unet" / "config.json").read_text())
    size = config.pop("sample_size")
    (run / "unet" / "config.json").write_text(json.dumps(config | {"sample_size": None}))
    given = {"total_steps": 100, "beta_schedule": "linear", "objective": "pred_v", "var_type": "fixed_small"}
    checkpoint = open_checkpoint(run)
    with pytest.raises(InputError, match="or give image_size"):
        config_for(checkpoint, None, given)
    with pytest.raises(InputError, match="or give total_steps, beta_schedule, objective, var_type"):
        config_for(checkpoint, None, {"image_size": size})
    found = config_for(checkpoint, None, {**given, "image_size": size})
    assert found.image_size == size and {**found.diffusion} == given
    assert load_model(checkpoint, found).process.total_steps == 100

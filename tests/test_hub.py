"""Weights by hub id, served from a local folder laid out as the hub's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from models.files.checkpoint import find_weights
from models.files.hub import is_hub_id, needed_files
from tests.commands import PROJECT, read_images
from utils.errors import InputError

pytestmark = pytest.mark.slow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory) -> Path:
    """owner/tiny, of which one commit is here: main's, and that of the tag v1."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--owner--tiny"
    (repository / "refs").mkdir(parents=True)
    for ref in ("main", "v1"):
        (repository / "refs" / ref).write_text(COMMIT)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(16,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=8,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(repository / "snapshots" / COMMIT)
    return cache


def run(hub_cache: Path, code: str, *args: object) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_CACHE": str(hub_cache), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *(["-c", code] if code else ["sample_ilvr.py"]), *map(str, args)]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)


def test_the_command_takes_a_hub_id(hub_cache, tmp_path, input_dir):
    args = ("--input_dir", input_dir, "--save_dir", tmp_path / "out", "--respace_steps", 2)
    done = run(hub_cache, "", "--weights", "owner/tiny", *args)
    assert done.returncode == 0, done.stderr
    assert len(read_images(tmp_path / "out")) == 3
    assert COMMIT in (tmp_path / "out" / "run.yaml").read_text()


def test_revisions(hub_cache):
    code = "import sys\nfrom models import find_weights; [print(find_weights(id)) for id in sys.argv[1:]]"
    done = run(hub_cache, code, "owner/tiny", "owner/tiny@main", "owner/tiny@v1", f"owner/tiny@{COMMIT}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(hub_cache / "models--owner--tiny" / "snapshots" / COMMIT)] * 4


@pytest.mark.parametrize("hub_id", ["owner/other", "owner/tiny@v2"])
def test_neither_network_nor_cache(hub_cache, tmp_path, hub_id):
    done = run(hub_cache, "", "--weights", hub_id, "--save_dir", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"sample_ilvr: error: weights {hub_id}: no such file or folder here, none in the hub's cache, and the hub "
        "cannot be reached\n"
    )


def test_local_paths_come_first(hub_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "tiny").mkdir(parents=True)
    assert find_weights("owner/tiny") == Path("owner/tiny")
    with pytest.raises(InputError, match="owner/other: no such file or folder; "):
        find_weights("owner/other")  # a misspelt path is not sent to the hub
    with pytest.raises(InputError, match="weights/openpeeps46: no such file or folder; "):
        find_weights("weights/openpeeps46")  # nor one in the project


def test_the_hub_client_is_not_imported_without_need():
    code = "import sys; from models import find_weights; find_weights('weights/openpeeps64'); print(*sys.modules)"
    assert "huggingface_hub" not in run(Path(), code).stdout.split()


@pytest.mark.parametrize("text", ["google/ddpm-cat-256", "a/b@refs/pr/1", "a_b/c.d-e@main"])
def test_hub_ids(text):
    assert is_hub_id(text)


@pytest.mark.parametrize("text", ["model.pt", "a/b.pt", "a/b/c", "/a/b", "../b", "a/b@", "a/b.safetensors", "a/", ""])
def test_other_texts(text):
    assert not is_hub_id(text)


def test_only_what_is_needed_is_fetched():
    flat = ["README.md", "config.json", "diffusion_pytorch_model.bin", "model_index.json", "scheduler_config.json"]
    both = [*flat, "diffusion_pytorch_model.safetensors", "images/generated_image_0.png"]
    configs = {"config.json", "model_index.json", "scheduler_config.json"}
    assert set(needed_files(flat)) == {*configs, "diffusion_pytorch_model.bin"}
    assert set(needed_files(both)) == {*configs, "diffusion_pytorch_model.safetensors"}

    pipeline = ["unet/config.json", "scheduler/scheduler_config.json", "images/config.json", "unet/README.md"]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    shards = [f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    others = ["unet/diffusion_pytorch_model.bin", "images/diffusion_pytorch_model.safetensors"]
    found = needed_files([*pipeline, index, *shards, *others])
    assert set(found) == {"unet/config.json", "scheduler/scheduler_config.json", index, *shards}

    text = needed_files([*pipeline, index, *shards, "text_encoder/config.json"])  # it will be refused
    assert set(text) == {"unet/config.json", "scheduler/scheduler_config.json"}

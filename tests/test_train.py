"""Training, on a tiny network."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

from diffusions import DDIM, Process
from models import load_network
from tests.commands import ENVIRONMENT, PROJECT
from weights.batches import Batches
from weights.held_out import held_out_loss
from weights.train import main
from weights.weighting import P2, Balanced

pytestmark = pytest.mark.slow

CONFIG = {
    "image_size": 16,
    "image_channels": 3,
    "model": {
        "dialect": "diffusers",
        "params": {
            "sample_size": 16,
            "block_out_channels": [8, 16],
            "layers_per_block": 1,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
            "attention_head_dim": None,
            "norm_num_groups": 4,
        },
    },
    "diffusion": {"total_steps": 100, "beta_schedule": "linear", "objective": "pred_v", "var_type": "fixed_small"},
}


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate remembers a process's precision, that of the tests before too; and training takes the signals."""
    AcceleratorState._reset_state(reset_partial_state=True)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    """Arguments of a run of six steps on 20 generated images."""
    np.random.default_rng(0).integers(256, size=(20, 16, 16, 3), dtype=np.uint8).tofile(tmp_path / "train.bin")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return f"--data {tmp_path / 'train.bin'} --config {tmp_path / 'config.yaml'} --steps 6 --batch 4 --warmup 2".split()


@pytest.mark.parametrize("options", ["--weighting balanced", "--weighting p2 --muon_lr 0 --mixed_precision no"])
def test_a_stopped_run_goes_on_to_the_same_bits(recipe: list[str], tmp_path: Path, options: str) -> None:
    recipe += options.split()
    main([*recipe, "--out", str(tmp_path / "whole")])
    main([*recipe, "--out", str(tmp_path / "parts"), "--stop_at", "3"])
    halfway = (tmp_path / "parts/model/diffusion_pytorch_model.safetensors").read_bytes()
    main([*recipe, "--out", str(tmp_path / "parts")])

    whole, parts = (torch.load(tmp_path / run / "state.pt") for run in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 6
    assert whole.keys() == {"step", "seconds", "unet", "ema", "optimizers", "weighting"}  # as in files of old runs
    for network in ("unet", "ema"):
        for name, weight in whole[network].items():
            assert torch.equal(weight, parts[network][name]), name
    written = [
        (tmp_path / run / "model/diffusion_pytorch_model.safetensors").read_bytes() for run in ("whole", "parts")
    ]
    assert written[0] == written[1] != halfway
    assert (tmp_path / "whole/log.csv").read_text() == (tmp_path / "parts/log.csv").read_text()


def test_a_run_killed_and_then_interrupted_goes_on_to_the_same_bits(recipe: list[str], tmp_path: Path) -> None:
    recipe[recipe.index("--steps") + 1] = "200"
    command = [sys.executable, "-m", "weights.train", *recipe, "--save_every", "40", "--out"]

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen([*command, str(out)], cwd=PROJECT, env=ENVIRONMENT)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole).wait(300) == 0
    step = 0
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 0)):
        process = start(parts)
        while not (parts / "state.pt").exists() or torch.load(parts / "state.pt")["step"] == step:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.1)  # between two saves
        process.send_signal(number)
        assert process.wait(60) == code
        step = torch.load(parts / "state.pt")["step"]
    assert 40 < step < 200 and len((parts / "log.csv").read_text().splitlines()) == step  # it saved before it left
    assert start(parts).wait(300) == 0
    for name in ("model/diffusion_pytorch_model.safetensors", "log.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_the_loss_of_held_out_images_is_logged_with_each_save(recipe: list[str], tmp_path: Path) -> None:
    args = [*recipe, "--out", str(tmp_path / "run"), "--held_out", str(tmp_path / "train.bin"), "--save_every", "2"]
    assert main([*args, "--mixed_precision", "no"]) == 0
    rows = [line.split(",") for line in (tmp_path / "run/held_out.csv").read_text().splitlines()]
    assert [int(step) for step, _ in rows] == [2, 4, 6]
    assert 0.5 < float(rows[-1][1]) < float(rows[0][1]) < 2  # v has a variance of about 1


@pytest.mark.parametrize("count", [5, 2000])
def test_the_loss_of_a_network_that_says_nothing_is_the_variance_of_the_noise(count: int) -> None:
    images = torch.zeros(count, 16, 16, 3, dtype=torch.uint8)
    loss = held_out_loss(lambda x, t: torch.zeros_like(x), Process(), images)
    assert loss == pytest.approx(1, abs=0.01)
    torch.randn(3)
    assert held_out_loss(lambda x, t: torch.zeros_like(x), Process(), images) == loss


def test_the_model_it_writes_samples_and_starts_another_run(recipe: list[str], tmp_path: Path) -> None:
    main([*recipe, "--out", str(tmp_path / "first"), "--sheet_every", "6"])
    model = load_network(tmp_path / "first/model")
    ema = torch.load(tmp_path / "first/state.pt")["ema"]
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, ema[name], rtol=1e-3, atol=1e-6)
    assert (tmp_path / "first/sheet_0000006.png").exists()

    main([*recipe, "--out", str(tmp_path / "second"), "--init", str(tmp_path / "first/model"), "--stop_at", "1"])
    assert torch.load(tmp_path / "second/state.pt")["step"] == 1


def test_a_run_by_the_clock_ends_in_time(recipe: list[str], tmp_path: Path) -> None:
    at = recipe.index("--steps")
    main([*recipe[:at], "--minutes", "0.01", *recipe[at + 2 :], "--out", str(tmp_path / "run")])
    state = torch.load(tmp_path / "run/state.pt")
    assert state["step"] > 0 and 0.6 <= state["seconds"] < 60


def test_diffusers_reads_what_it_writes(recipe: list[str], tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    main([*recipe, "--out", str(tmp_path / "run"), "--stop_at", "1"])
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "run/model").eval()
    ours = load_network(tmp_path / "run/model")
    x, t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 90])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["pred_eps", "pred_x0", "pred_v"])
def test_a_network_that_says_the_target_denoises_exactly(objective: str) -> None:
    process = Process(objective=objective, clip_denoised=False)
    transition, following = process.transitions()[300:302]
    x0, noise = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.full([4], transition.t)
    noisy = process.q_sample(x0, t, noise)
    prediction = process.predict(lambda x, t: process.target(x0, t, noise), noisy, transition)
    torch.testing.assert_close(prediction.pred_x0, x0, rtol=1e-3, atol=1e-3)
    cleaner = DDIM(process).step(noisy, prediction, transition, torch.randn_like)
    t_prev = torch.full([4], following.t)
    torch.testing.assert_close(cleaner, process.q_sample(x0, t_prev, noise), rtol=1e-3, atol=1e-3)


def test_an_epoch_shows_each_image_once_to_one_process() -> None:
    images = torch.arange(24, dtype=torch.uint8)[:, None, None, None].expand(24, 2, 2, 3)

    def seen(step: int, rank: int) -> list[int]:
        x0 = Batches(images, size=4, total_steps=100, rank=rank, world=2)[step].x0
        return ((x0[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()

    epochs = [[image for step in range(e, e + 3) for rank in range(2) for image in seen(step, rank)] for e in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(24))
    assert epochs[0] != epochs[1]


def test_a_batch_holds_a_timestep_of_each_share_of_them() -> None:
    t = Batches(torch.zeros(8, 2, 2, 3, dtype=torch.uint8), size=8, total_steps=1000)[5].t
    assert (t // 125).tolist() == list(range(8))


def test_weights_of_timesteps() -> None:
    levels = Process().alphas_cumprod
    t = torch.arange(1000)
    plain, p2 = (P2(levels, gamma)(t, torch.ones(1000)) for gamma in (0.0, 1.0))
    torch.testing.assert_close(plain, torch.ones(1000))
    torch.testing.assert_close(p2 / p2[-1], ((1 - levels) / (1 - levels[-1])).float())  # 1/(1 + SNR) is 1 - ᾱ

    balanced = Balanced(1000, torch.device("cpu"), rate=1.0)
    losses = 0.01 + t / 1000
    contributions = balanced(t, losses) * losses
    torch.testing.assert_close(contributions, contributions.mean().expand(1000), rtol=0.8, atol=0)

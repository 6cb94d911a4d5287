"""Whole ILVR runs of the reference implementation, replayed with the random draws it recorded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from diffusions import DDPM, ILVR
from models import load_model

DATA = Path(__file__).parent / "data"
WEIGHTS = DATA / "ddpm_tiny.weights.safetensors"


def tiny_config() -> dict[str, Any]:
    with safe_open(WEIGHTS, "pt") as file:
        params = json.loads(file.metadata()["config"])
    return {
        "image_size": 32,
        "image_channels": 3,
        "model": {"dialect": "pesser", "params": params},
        "diffusion": {
            "total_steps": 1000,
            "beta_schedule": "linear",
            "objective": "pred_eps",
            "var_type": "fixed_small",
        },
    }


@pytest.mark.parametrize(
    ("name", "var_type", "interp_method", "factor"),
    [
        ("ilvr_ddpm_fixed_small_cubic4", "fixed_small", "cubic", 4),
        ("ilvr_ddpm_fixed_large_lanczos3_8", "fixed_large", "lanczos3", 8),
    ],
)
def test_every_step_of_the_recorded_run_is_reproduced(name, var_type, interp_method, factor):
    run = load_file(DATA / f"{name}.safetensors")
    draws = iter([noise for pair in zip(run["reverse_noise"], run["reference_noise"], strict=False) for noise in pair])
    model = load_model(WEIGHTS, tiny_config())
    sampler = DDPM(model.process, 10, var_type=var_type)
    guide = ILVR(run["reference"], factor, interp_method, pad_mode="constant")

    steps = list(sampler.sample_loop(model, run["init_noise"], guide, lambda like: next(draws)))
    assert [step.t for step in steps] == run["timesteps"].tolist()
    for step, transition, sample, pred_x0 in zip(
        steps, sampler.transitions, run["trajectory"], run["pred_x0"], strict=True
    ):
        torch.testing.assert_close(step.sample, sample, rtol=0, atol=1e-4)
        noise_to_signal = ((1 - transition.alphas_cumprod) / transition.alphas_cumprod) ** 0.5  # 61 at the first step
        tolerance = 1e-4 * max(1.0, noise_to_signal / 10)  # x̂0 multiplies the network's own rounding, 3e-6, by that
        torch.testing.assert_close(step.pred_x0, pred_x0, rtol=0, atol=tolerance)
    assert next(draws, None) is None  # neither fewer nor more draws than recorded

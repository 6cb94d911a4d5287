"""Processes of continuous noise levels, against Karras et al.'s own formulas."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffusions import DDIM, DDPM
from diffusions.continuous import PRECONDITIONINGS, ContinuousProcess
from models import load_model
from tests.families import apart
from utils.files import PROJECT

SIGMA_DATA = 0.5


def network(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(1.3 * x + 0.01 * t[:, None, None, None])


def edm_denoiser(sigma: Tensor) -> tuple[float | Tensor, Tensor, float | Tensor, Tensor]:
    """Karras et al. 2022, table 1: c_skip, c_out, c_in and c_noise."""
    total = sigma**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, sigma * SIGMA_DATA / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4


def vp_denoiser(sigma: Tensor) -> tuple[float | Tensor, Tensor, float | Tensor, Tensor]:
    sigma_inverse = ((0.1**2 + 2 * 19.9 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9
    return 1.0, -sigma, 1 / (sigma**2 + 1).sqrt(), 999 * sigma_inverse


def ve_denoiser(sigma: Tensor) -> tuple[float | Tensor, Tensor, float | Tensor, Tensor]:
    return 1.0, sigma, 1.0, (sigma / 2).log()


def openai_denoiser(sigma: Tensor) -> tuple[float | Tensor, Tensor, float | Tensor, Tensor]:
    return *edm_denoiser(sigma)[:3], 1000 * 0.25 * sigma.log()


def consistency_denoiser(sigma: Tensor) -> tuple[float | Tensor, Tensor, float | Tensor, Tensor]:
    """Song et al. 2023, appendix C, as openai/consistency_models computes it."""
    skip = SIGMA_DATA**2 / ((sigma - 0.002) ** 2 + SIGMA_DATA**2)
    return skip, (sigma - 0.002) * SIGMA_DATA / (sigma**2 + SIGMA_DATA**2).sqrt(), *openai_denoiser(sigma)[2:]


DENOISERS: dict[str, Callable[[Tensor], tuple]] = {
    "edm": edm_denoiser,
    "vp": vp_denoiser,
    "ve": ve_denoiser,
    "edm_openai": openai_denoiser,
    "consistency": consistency_denoiser,
}


def euler(denoiser: Callable[[Tensor], tuple], x: Tensor, steps: int, low: float = 0.002, high: float = 80.0) -> Tensor:
    """EDM's sampler without its second order, in float64: algorithm 1 of the paper, equation 5's noise levels."""
    ramp = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    sigmas = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    x = high * x.double()
    for now, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        skip, out, scale, noise = denoiser(now)
        denoised = skip * x + out * network((scale * x).float(), noise.float().expand(len(x))).double()
        x = x + (after - now) * (x - denoised) / now
    return x


@pytest.mark.parametrize("preconditioning", DENOISERS)
def test_ddim_without_noise_is_edms_euler_step(preconditioning):
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    process = ContinuousProcess(preconditioning)
    # EDM begins at σ·noise, a process that keeps its variance at √(1-ᾱ)·noise
    begin = noise * math.sqrt(1 - process.alphas_cumprod[-1].item())
    ours = DDIM(process, respace_steps=18, eta=0.0).sample(network, begin)
    theirs = euler(DENOISERS[preconditioning], noise, 18)
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_every_preconditioning_is_tested():
    assert DENOISERS.keys() == PRECONDITIONINGS.keys()


@pytest.mark.parametrize("steps", [1, 2, 18, 999, 1000])
def test_steps_fall_from_the_highest_noise_level_to_the_image(steps):
    transitions = ContinuousProcess().transitions(respace_steps=steps)
    timesteps = [transition.t for transition in transitions]
    assert len(set(timesteps)) == steps
    assert timesteps == sorted(timesteps, reverse=True)
    assert timesteps[0] == 999
    assert math.sqrt(1 / transitions[0].alphas_cumprod - 1) == pytest.approx(80)
    assert transitions[-1].alphas_cumprod_prev == 1
    for step, after in pairwise(transitions):
        assert step.alphas_cumprod < step.alphas_cumprod_prev == after.alphas_cumprod
    if steps > 1:
        assert math.sqrt(1 / transitions[-1].alphas_cumprod - 1) == pytest.approx(0.002)


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
def test_the_target_is_what_makes_the_prediction_the_clean_image(preconditioning):
    process = ContinuousProcess(preconditioning)
    x0, noise = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    t = torch.tensor([1, 400, 999])
    target, noisy = process.target(x0, t, noise), process.q_sample(x0, t, noise)
    transitions = {transition.t: transition for transition in process.transitions()}
    for i in range(3):
        transition = transitions[int(t[i])]
        assert transition.model_t == process.model_t(int(t[i]))
        prediction = process.predict(lambda x, told, i=i: target[i : i + 1], noisy[i : i + 1], transition)
        assert (prediction.pred_x0 - x0[i]).abs().max() < 1e-4


def test_predictions_are_clipped_only_if_asked():
    x = torch.full([1, 3, 4, 4], 3.0)
    for clip, largest in ((False, 2.9), (True, 1.0)):
        process = ContinuousProcess("ve", clip_denoised=clip)
        last = process.transitions(respace_steps=5)[-1]
        assert process.predict(network, x, last).pred_x0.max() == pytest.approx(largest, abs=0.11)


def test_ancestral_sampling_runs_too():
    process = ContinuousProcess()
    image = DDPM(process, respace_steps=10, var_type="fixed_small").sample(network, torch.randn(1, 3, 8, 8))
    assert image.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preconditioning": "edm2"}, "preconditioning must be one of edm, .*, not 'edm2'"),
        ({"sigma_min": 0.0}, "sigma_min, sigma_max, sigma_data and rho must be above 0"),
        ({"sigma_min": 90.0}, "sigma_min below sigma_max"),
        ({"sigma_max": math.inf}, "sigma_min below sigma_max"),
        ({"sigma_data": math.nan}, "must be above 0"),
        ({"rho": -7.0}, "must be above 0"),
        ({"total_steps": 0}, "total_steps must be at least 1, not 0"),
    ],
)
def test_impossible_processes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ContinuousProcess(**changes)


def test_impossible_steps_are_refused():
    process = ContinuousProcess(total_steps=100)
    with pytest.raises(ValueError, match="respace_steps must be in 1 … 100, not 101"):
        process.transitions(respace_steps=101)
    with pytest.raises(ValueError, match="respace_type must be uniform for continuous noise levels, not 'quad'"):
        process.transitions("quad", 10)


def test_trained_weights_see_the_same_image_in_continuous_noise():
    """The embedded model's linear betas are Song et al.'s VP, taken in steps of 1/1000."""
    model = load_model(PROJECT / "weights" / "openpeeps64")

    def eps(x: Tensor, t: Tensor) -> Tensor:
        level = torch.exp(-(0.5 * 19.9 * (t / 999) ** 2 + 0.1 * t / 999))[:, None, None, None]
        return level.sqrt() * model(x, t) + (1 - level).sqrt() * x  # the model says v

    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    steps = {step.t: step for step in model.process.transitions()}
    for t in (150, 500):
        with torch.no_grad():
            wanted = model.process.predict(model, x, steps[t]).pred_x0
            seen = ContinuousProcess("vp", clip_denoised=True).predict(eps, x, steps[t]).pred_x0
        assert apart(seen, wanted) < 0.02  # they differ by half a step in time; twenty steps would be 0.05 and 0.16

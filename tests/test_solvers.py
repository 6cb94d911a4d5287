"""The multistep solvers, the library's and the benchmark's, against diffusers' own, along whole trajectories."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler
from diffusers.schedulers import scheduling_dpmsolver_multistep

from benchmarks.research.solvers import DPMSolver, Heun, UniPC
from diffusions import Process, SDEDPMSolver
from tests.commands import read_images, run_here
from tests.test_samplers import SHAPE, Draws, normal, toy_model


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("respace_type", ["uniform", "uniform-trailing"])
def test_trajectories_are_those_of_diffusers(monkeypatch, stochastic, respace_type):
    draws = normal(20, *SHAPE, seed=1)
    theirs = iter(draws)
    monkeypatch.setattr(scheduling_dpmsolver_multistep, "randn_tensor", lambda *args, **kwargs: next(theirs))
    kind = SDEDPMSolver if stochastic else DPMSolver
    sampler = kind(Process(objective="pred_v"), 10, respace_type)
    scheduler = DPMSolverMultistepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="sample",
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        final_sigmas_type="zero",
    )
    scheduler.alphas_cumprod = (1 - scheduler.betas.double()).cumprod(0)  # their float32 product is 1e-5 off at its end
    scheduler.set_timesteps(timesteps=[transition.t for transition in sampler.transitions])
    x = normal(*SHAPE)
    for step in sampler.sample_loop(toy_model, x, randn_like=Draws(draws)):
        x = scheduler.step(step.pred_x0, torch.tensor(step.t), x).prev_sample
        torch.testing.assert_close(step.sample, x, rtol=0, atol=1e-5)


def test_a_walk_may_begin_with_pure_noise():
    """Its first step goes to the next level as if there had been no sample."""
    process = Process(objective="pred_v", zero_terminal_snr=True)
    sampler = SDEDPMSolver(process, 5, "uniform-trailing")
    first = sampler.transitions[0]
    assert first.alphas_cumprod == 0
    draws = normal(10, *SHAPE, seed=1)
    x = normal(*SHAPE)
    steps = list(sampler.sample_loop(toy_model, x, randn_like=Draws(draws)))
    level = first.alphas_cumprod_prev
    expected = level**0.5 * steps[0].pred_x0 + (1 - level) ** 0.5 * draws[0]
    torch.testing.assert_close(steps[0].sample, expected, rtol=0, atol=1e-6)
    assert all(step.sample.isfinite().all() for step in steps)


def test_the_command_draws_the_same_with_it_in_any_batch(tmp_path, tiny_model, input_dir):
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--n_samples", 5, "--respace_steps", 4)
    args = (*args, "--sampler", "dpmpp_2m_sde", "--downsample_factor", 4)
    for batch in (1, 3):
        assert run_here(*args, "--save_dir", tmp_path / f"{batch}", "--micro_batch", batch) == (0, "")
    one, three = (read_images(tmp_path / f"{batch}") for batch in (1, 3))
    assert len(one) == 5 and one.keys() == three.keys()
    assert max(abs(image - three[name]).max() for name, image in one.items()) <= 1


@pytest.mark.parametrize("respace_type", ["uniform", "uniform-trailing"])
def test_unipc_is_that_of_diffusers(respace_type):
    sampler = UniPC(Process(objective="pred_v"), 10, respace_type)
    scheduler = UniPCMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, prediction_type="sample", solver_order=2, solver_type="bh2"
    )
    scheduler.alphas_cumprod = (1 - scheduler.betas.double()).cumprod(0)
    scheduler.set_timesteps(10)
    timesteps = [transition.t for transition in sampler.transitions]
    levels = scheduler.alphas_cumprod[timesteps]
    scheduler.timesteps = torch.tensor(timesteps)
    scheduler.sigmas = torch.cat([((1 - levels) / levels).sqrt(), torch.zeros(1, dtype=torch.float64)])
    x = normal(*SHAPE)
    for step in sampler.sample_loop(toy_model, x):
        x = scheduler.step(step.pred_x0, torch.tensor(step.t), x).prev_sample
        torch.testing.assert_close(step.sample, x.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("calls", [9, 10])
def test_heun_is_that_of_diffusers(calls):
    sampler = Heun(Process(objective="pred_v"), calls)
    assert [transition.index for transition in sampler.transitions] == list(range(8, -1, -1))
    scheduler = HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, prediction_type="sample")
    scheduler.set_timesteps(5)
    levels = torch.tensor([sampler.transitions[i].alphas_cumprod for i in (0, 2, 4, 6, 8)], dtype=torch.float64)
    sigmas = ((1 - levels) / levels).sqrt().repeat_interleave(2)[1:]
    scheduler.sigmas = torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])
    scheduler.timesteps = torch.tensor([transition.t for transition in sampler.transitions])
    x = normal(*SHAPE)
    scaled = x.double() / levels[0].sqrt()
    for step, transition in zip(sampler.sample_loop(toy_model, x), sampler.transitions, strict=True):
        scaled = scheduler.step(step.pred_x0.double(), torch.tensor(step.t), scaled).prev_sample
        expected = transition.alphas_cumprod_prev**0.5 * scaled
        torch.testing.assert_close(step.sample.double(), expected, rtol=0, atol=1e-5)

"""The benchmark's multistep solvers against diffusers' own, along whole trajectories."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler
from diffusers.schedulers import scheduling_dpmsolver_multistep

from benchmarks.solvers import DPMSolver, Heun, UniPC
from diffusions import Process
from tests.test_samplers import SHAPE, Draws, normal, toy_model


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("respace_type", ["uniform", "uniform-trailing"])
def test_trajectories_are_those_of_diffusers(monkeypatch, stochastic, respace_type):
    draws = normal(20, *SHAPE, seed=1)
    theirs = iter(draws)
    monkeypatch.setattr(scheduling_dpmsolver_multistep, "randn_tensor", lambda *args, **kwargs: next(theirs))
    sampler = DPMSolver(Process(objective="pred_v"), 10, respace_type, stochastic)
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

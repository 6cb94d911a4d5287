"""The benchmark's multistep solvers against diffusers' own, along whole trajectories."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.schedulers import scheduling_dpmsolver_multistep

from benchmarks.solvers import DPMSolver
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

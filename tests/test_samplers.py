"""DDPM and DDIM against diffusers' schedulers, along whole trajectories, and what the refinement hook is promised."""

import io
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from torch import Tensor

from diffusions import (
    DDIM,
    DDPM,
    ILVR,
    SAMPLERS,
    ContinuousProcess,
    Guide,
    Overview,
    Process,
    Regions,
    Step,
    make_sampler,
)
from models import load_model
from tests.commands import PROJECT

OBJECTIVES = {"pred_eps": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}
SHAPE = (2, 3, 8, 8)

every_objective = pytest.mark.parametrize("objective", OBJECTIVES)
clipped_or_not = pytest.mark.parametrize("clip", [True, False])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def toy_model(x: Tensor, t: Tensor) -> Tensor:
    """A smooth function of the sample and the timestep, large enough that x̂0 needs clipping here and there."""
    return 1.5 * torch.sin(x.roll(1, -1) + t[:, None, None, None] / 300)


def toy_model_with_variance(x: Tensor, t: Tensor) -> Tensor:
    return torch.cat([toy_model(x, t), torch.sin(2 * x)], dim=1)


class Draws:
    """`randn_like` that hands out given tensors, or new ones, and counts."""

    def __init__(self, tensors: Tensor | None = None) -> None:
        self.tensors = tensors
        self.count = 0

    def __call__(self, like: Tensor) -> Tensor:
        self.count += 1
        return normal(*like.shape, seed=self.count) if self.tensors is None else self.tensors[self.count - 1]


@pytest.fixture
def diffusers_draws(monkeypatch) -> Tensor:
    """Normal noise, which diffusers' schedulers draw one after the other."""
    noise = normal(100, *SHAPE, seed=1)
    draws = iter(noise)
    for module in (scheduling_ddpm, scheduling_ddim):
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: next(draws))
    return noise


def their_trajectory(scheduler, model, **step_settings) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Timestep, sample and x̂0 of every step. ᾱ in float64: their float32 product is 1e-5 off at its end."""
    scheduler.alphas_cumprod = (1 - scheduler.betas.double()).cumprod(0)
    x = normal(*SHAPE)
    for t in scheduler.timesteps.tolist():
        out = scheduler.step(model(x, torch.full([len(x)], t)), t, x, **step_settings)
        x = out.prev_sample
        yield t, x, out.pred_original_sample


def check_same(steps: list[Step], theirs: Iterator[tuple[int, Tensor, Tensor]]) -> None:
    for step, (t, sample, pred_x0) in zip(steps, theirs, strict=True):
        assert step.t == t
        for actual, expected in ((step.sample, sample), (step.pred_x0, pred_x0)):
            tolerance = 1e-5 * max(1.0, float(expected.abs().max()))  # unclipped x̂0 reaches far beyond 1
            torch.testing.assert_close(actual, expected.float(), rtol=0, atol=tolerance)


@every_objective
@clipped_or_not
@pytest.mark.parametrize("var_type", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize(("schedule", "S"), [("linear", 20), ("linear", None), ("cosine", 20)])
def test_ddpm_trajectory_is_diffusers(objective, clip, var_type, schedule, S, diffusers_draws):
    T = 100
    ours = DDPM(Process(T, schedule, 1e-3, 0.1, objective, clip), S, var_type=var_type)
    theirs = DDPMScheduler(
        num_train_timesteps=T,
        beta_schedule={"linear": "linear", "cosine": "squaredcos_cap_v2"}[schedule],
        beta_start=1e-3,
        beta_end=0.1,
        variance_type=var_type,
        clip_sample=clip,
        prediction_type=OBJECTIVES[objective],
    )
    theirs.set_timesteps(timesteps=[transition.t for transition in ours.transitions])
    model = toy_model_with_variance if var_type == "learned_range" else toy_model

    steps = list(ours.sample_loop(model, normal(*SHAPE), randn_like=Draws(diffusers_draws)))
    check_same(steps, their_trajectory(theirs, model))


@every_objective
@clipped_or_not
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("S", [20, None])
def test_ddim_trajectory_is_diffusers(objective, clip, eta, S, diffusers_draws):
    T = 100
    settings = {"total_steps": T, "beta_start": 1e-3, "beta_end": 0.1, "objective": objective, "clip_denoised": clip}
    ours = DDIM(Process(**settings), S, eta=eta)
    theirs = DDIMScheduler(
        num_train_timesteps=T,
        beta_start=1e-3,
        beta_end=0.1,
        clip_sample=clip,
        prediction_type=OBJECTIVES[objective],
        set_alpha_to_one=True,
    )
    theirs.set_timesteps(S or T)

    steps = list(ours.sample_loop(toy_model, normal(*SHAPE), randn_like=Draws(diffusers_draws)))
    check_same(steps, their_trajectory(theirs, toy_model, eta=eta, use_clipped_model_output=True))


def test_ddim_at_eta_1_is_ddpm_of_the_posterior_variance():
    process = Process(total_steps=100, beta_end=0.1)
    ddim, ddpm = (
        sampler.sample(toy_model, normal(*SHAPE), randn_like=Draws())
        for sampler in (DDIM(process, 10, eta=1.0), DDPM(process, 10, var_type="fixed_small"))
    )
    torch.testing.assert_close(ddim, ddpm, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "sampler",
    [
        DDPM(Process(), respace_steps=5),
        DDIM(Process(), eta=0.5, respace_steps=5),
        make_sampler("ddim", Process(), eta=0.5, respace_steps=5, var_type="learned_range"),
    ],
)
def test_variance_channels_that_the_sampler_does_not_use_change_nothing(sampler):
    with_variance, without = (
        sampler.sample(model, normal(*SHAPE), randn_like=Draws()) for model in (toy_model_with_variance, toy_model)
    )
    assert torch.equal(with_variance, without)


@pytest.mark.parametrize("sampler", [DDPM, DDIM])
@pytest.mark.parametrize("respace_type", ["uniform", "uniform-trailing", "quad"])
def test_last_step_ends_at_the_clean_image_whatever_timestep_it_is_from(sampler, respace_type):
    *_, last = sampler(Process(), 3, respace_type).sample_loop(toy_model, normal(*SHAPE), randn_like=Draws())
    torch.testing.assert_close(last.sample, last.pred_x0, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "draws"),
    [
        (DDPM(Process(), respace_steps=5), 4),
        (DDPM(Process(), respace_steps=5, var_type="fixed_large"), 4),
        (
            DDPM(Process(), respace_steps=5, var_type="fixed_large", respace_type="uniform-trailing"),
            4,
        ),  # ends at t = 199
        (DDPM(Process(), respace_steps=1), 0),
        (DDIM(Process(), eta=1.0, respace_steps=5), 4),
        (DDIM(Process(), eta=0.0, respace_steps=5), 0),
    ],
)
@pytest.mark.parametrize("refined", [False, True])
def test_last_step_draws_nothing_and_eta_0_only_the_references_noise(sampler, draws, refined):
    randn_like = Draws()
    guide = ILVR(normal(*SHAPE), 2) if refined else None
    state = torch.get_rng_state()
    sampler.sample(toy_model, normal(*SHAPE), guide, randn_like)
    assert randn_like.count == draws + (len(sampler.transitions) - 1 if refined else 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("sampler", "reverse_draws"), [(DDPM(Process(), respace_steps=3), True), (DDIM(Process(), respace_steps=3), False)]
)
def test_each_step_asks_the_guide_for_x0_draws_the_reverse_noise_and_asks_for_the_sample(sampler, reverse_draws):
    events = []

    def model(x, t):
        events.append(("model", t.tolist()))
        return toy_model(x, t)

    def randn_like(x):
        events.append("draw")
        return torch.zeros_like(x)

    class Recording(Guide):
        def guide_x0(self, pred_x0, x, transition):
            events.append(("x0", transition.index))
            return pred_x0 - 100

        def guide_sample(self, sample, transition, randn_like):
            events.append(("sample", transition.index))
            randn_like(sample)
            return sample + 1000

    def step(index, t):
        reverse = ["draw"] if reverse_draws and index > 0 else []
        return [("model", [t, t]), ("x0", index), *reverse, ("sample", index), "draw"]

    steps = list(sampler.sample_loop(model, normal(*SHAPE), Recording(normal(*SHAPE), 2), randn_like))
    assert events == [*step(2, 666), *step(1, 333), *step(0, 0)]
    assert all(step.pred_x0.mean() < -50 for step in steps)  # what a hook returned took the place of what it was given
    torch.testing.assert_close(steps[-1].sample, steps[-1].pred_x0 + 1000)


def test_ilvr_replaces_the_low_frequencies_by_those_of_the_equally_noised_reference():
    reference, sample, noise = (normal(*SHAPE, seed=seed) for seed in range(3))
    process, guide = Process(), ILVR(reference, 4)
    transitions = process.transitions(respace_steps=10)
    for transition, following in pairwise(transitions):
        noised = process.q_sample(reference, torch.full([2], following.t), noise)
        refined = guide.guide_sample(sample, transition, lambda like: noise)
        torch.testing.assert_close(refined, guide.low_pass(noised) + sample - guide.low_pass(sample))
    refined = guide.guide_sample(sample, transitions[-1], Draws(torch.empty(0)))
    torch.testing.assert_close(refined, guide.low_pass(reference) + sample - guide.low_pass(sample))


@pytest.mark.parametrize("sampler", [DDPM, DDIM])
def test_factor_1_gives_the_reference(sampler):
    reference = normal(*SHAPE, seed=9)
    x0 = sampler(Process(), 4).sample(toy_model, normal(*SHAPE), ILVR(reference, 1))
    torch.testing.assert_close(x0, reference)


@pytest.mark.parametrize("b", [0, 1, 3, 4, 5, 9])
def test_range_t_refines_only_at_respaced_steps_from_b_on(b):
    guide, randn_like = ILVR(normal(*SHAPE), 2, range_t=b), Draws()
    sample = normal(*SHAPE, seed=1)
    changed = [
        transition.index
        for transition in Process().transitions(respace_steps=5)
        if not torch.equal(guide.guide_sample(sample, transition, randn_like), sample)
    ]
    assert changed == [index for index in (4, 3, 2, 1, 0) if index >= b]
    assert randn_like.count == len([index for index in changed if index > 0])  # nothing drawn for steps left alone


@pytest.mark.parametrize("schedule", [("linear", "linear"), ("quad", "scaled_linear"), ("cosine", "squaredcos_cap_v2")])
def test_q_sample_is_diffusers_add_noise(schedule):
    x0, noise, t = normal(4, 3, 8, 8), normal(4, 3, 8, 8, seed=1), torch.tensor([0, 1, 500, 999])
    theirs = DDPMScheduler(beta_schedule=schedule[1]).add_noise(x0, noise, t)
    ours = Process(beta_schedule=schedule[0]).q_sample(x0, t, noise)
    assert ours.dtype == x0.dtype
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("sampler", "settings", "message"),
    [
        (DDPM, {"var_type": "learned"}, "must be one of fixed_small, .*, not 'learned'"),
        (DDPM, {"respace_type": "random"}, "must be one of uniform, .*, not 'random'"),
        (DDPM, {"respace_steps": 1001}, "must be in 1 … 1000, not 1001"),
        (DDIM, {"eta": -0.1}, "eta must be in 0 … 1, not -0.1"),
        (DDIM, {"eta": 1.1}, "eta must be in 0 … 1, not 1.1"),
    ],
)
def test_impossible_settings_are_value_errors(sampler, settings, message):
    with pytest.raises(ValueError, match=message):
        sampler(Process(), **settings)


def test_an_unknown_objective_or_sampler_is_a_value_error():
    with pytest.raises(ValueError, match=r"must be one of pred_eps, .*, not 'pred_noise'"):
        Process(objective="pred_noise")
    with pytest.raises(ValueError, match=r"must be one of ddpm, .*, not 'euler'"):
        make_sampler("euler", Process())


def test_learned_range_without_variance_channels_is_a_value_error():
    with pytest.raises(ValueError, match="needs a model that learned its variance"):
        DDPM(Process(), 2, var_type="learned_range").sample(toy_model, normal(*SHAPE))


def test_a_negative_range_t_is_a_value_error():
    with pytest.raises(ValueError, match="range_t must be at least 0, not -1"):
        ILVR(normal(*SHAPE), 2, range_t=-1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_model_and_its_sampler_can_be_pickled(name):
    """As torch.save and multiprocessing's spawn do it."""
    model = load_model(PROJECT / "weights" / "openpeeps64")
    sampler = make_sampler(name, model.process, respace_steps=2)
    file = io.BytesIO()
    torch.save((model, sampler, Overview(model.process, 64, 8, 1), ContinuousProcess()), file)
    file.seek(0)
    model_again, sampler_again, *_ = torch.load(file, weights_only=False)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    walks = (walker.sample(network, noise, randn_like=torch.zeros_like)
             for walker, network in ((sampler, model), (sampler_again, model_again)))  # fmt: skip
    assert torch.equal(*walks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("guide", [ILVR, Regions])
def test_any_number_of_channels_and_any_floating_point_type(guide, dtype):
    reference = torch.rand(2, 5, 16, 12).to(dtype)
    for sampler in (DDPM(Process(), 3), DDIM(Process(), 3)):
        image = sampler.sample(lambda x, t: x / 8, torch.randn_like(reference), guide(reference, 4))
        assert image.shape == reference.shape and image.dtype == dtype and image.isfinite().all()


@pytest.mark.parametrize("wrong", [torch.rand(3, 16, 16), torch.rand(1, 1, 3, 16, 16), torch.ones(1, 3, 16, 16).int()])
def test_other_tensors_are_refused_in_a_sentence(wrong):
    kind = str(wrong.dtype).removeprefix("torch.")
    rest = re.escape(f"must be a floating-point tensor [B, C, H, W], not {kind} {list(wrong.shape)}")
    for guide in (ILVR, Regions):
        with pytest.raises(ValueError, match=f"^reference {rest}$"):
            guide(wrong)
    for sampler in (DDPM(Process(), 3), DDIM(Process(), 3)):
        with pytest.raises(ValueError, match=f"^x {rest}$"):
            sampler.sample(lambda x, t: x, wrong)
        with pytest.raises(ValueError, match=r"^x must have images of the reference's shape \[1, 16, 16\], not \[3, "):
            sampler.sample(lambda x, t: x, torch.rand(2, 3, 16, 16), ILVR(torch.rand(2, 1, 16, 16)))

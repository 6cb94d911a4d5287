"""The noise schedule against diffusers, and the timesteps of every respacing against its formula in fractions."""

from fractions import Fraction
from itertools import accumulate, pairwise
from math import floor

import pytest
import torch
from diffusers import DDPMScheduler

from diffusions.schedule import BETA_SCHEDULES, RESPACINGS, make_betas, respace

DIFFUSERS_SCHEDULES = {"linear": "linear", "quad": "scaled_linear", "cosine": "squaredcos_cap_v2"} | {
    name: name for name in ("sigmoid", "laplace")
}


@pytest.mark.parametrize("schedule", DIFFUSERS_SCHEDULES)
@pytest.mark.parametrize(("total", "start", "end"), [(1000, 1e-4, 0.02), (1000, 0.00085, 0.012), (50, 0.01, 0.3)])
def test_betas_are_diffusers(schedule, total, start, end):
    theirs = DDPMScheduler(total, start, end, DIFFUSERS_SCHEDULES[schedule]).betas
    ours = make_betas(schedule, total, start, end)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=0)


def test_const_betas_are_beta_end():
    assert make_betas("const", 7, 1e-4, 0.02).tolist() == [0.02] * 7


@pytest.mark.parametrize("schedule", BETA_SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7])
def test_betas_are_as_many_as_steps_and_inside_0_to_1(schedule, total):
    betas = make_betas(schedule, total, 1e-4, 0.02)
    assert betas.shape == (total,)
    assert 0 < betas.min() <= betas.max() < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exp", 10, 1e-4, 0.02), "must be one of linear, quad, const, cosine, .*, not 'exp'"),
        (("linear", 0, 1e-4, 0.02), "total_steps must be at least 1, not 0"),
        (("linear", 10, 0.0, 0.02), "between 0 and 1"),
        (("linear", 10, 1e-4, 1.0), "between 0 and 1"),
        (("const", 10, 1e-4, -0.1), "between 0 and 1"),
        (("linear", 10, 1e-4, float("nan")), "between 0 and 1"),
    ],
)
def test_impossible_schedules_are_value_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_betas(*arguments)


def by_formula(respace_type: str, T: int, S: int) -> list[int]:
    """The documented formulas, in exact fractions; quad moves a repeated value up to the next free one below T."""
    ratio, part = Fraction(T, S), Fraction(1, max(S - 1, 1))
    if respace_type in ("uniform", "uniform-leading"):
        return [floor(ratio * i) for i in range(S)]
    if respace_type == "uniform-trailing":
        return sorted(T - 1 - floor(ratio * i) for i in range(S))
    if respace_type == "uniform-linspace":
        part *= T - 1
        return [floor(part * i) for i in range(S)]
    part *= part * Fraction(8, 10) * T
    ahead = accumulate((floor(part * i**2) - i for i in range(S)), max)  # of one step at a time; never falls
    return [i + min(a, T - S) for i, a in enumerate(ahead)]


@pytest.mark.parametrize("respace_type", RESPACINGS)
@pytest.mark.parametrize("T", [1, 7, 1000])
def test_timesteps_are_exact_for_every_count(respace_type, T):
    for S in range(1, T + 1):
        timesteps = respace(respace_type, T, S)
        assert len(timesteps) == S
        assert timesteps[0] >= 0 and timesteps[-1] < T
        assert all(a < b for a, b in pairwise(timesteps))
        if not respace_type.startswith("diffusers-"):  # whose formulas are floating-point: see test_diffusers_folder
            assert timesteps == by_formula(respace_type, T, S)


@pytest.mark.parametrize("respace_type", RESPACINGS)
@pytest.mark.parametrize("T", [1, 7, 1000])
def test_no_count_is_every_timestep(respace_type, T):
    assert respace(respace_type, T) == respace(respace_type, T, None) == list(range(T))


@pytest.mark.parametrize("T", [7, 1000])
def test_trailing_mirrors_leading(T):
    for S in range(1, T + 1):
        assert respace("uniform-trailing", T, S) == [T - 1 - t for t in reversed(respace("uniform-leading", T, S))]


@pytest.mark.parametrize("respace_type", RESPACINGS)
@pytest.mark.parametrize("S", [0, -1, 8])
def test_a_count_outside_of_1_to_T_is_a_value_error(respace_type, S):
    with pytest.raises(ValueError, match=f"must be in 1 … 7, not {S}"):
        respace(respace_type, 7, S)


def test_an_unknown_respacing_is_a_value_error():
    with pytest.raises(ValueError, match=r"must be one of uniform, .*, not 'cubic'"):
        respace("cubic", 7, 3)

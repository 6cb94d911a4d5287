"""Starting from the noised reference: where it begins, how many steps are left, and what strength 1 means."""

import pytest
import torch

from diffusions import DDIM, DDPM, ILVR, Process, noised_start


def noise_like(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator)


def test_strength_1_is_todays_start():
    sampler, noise = DDPM(Process(), 10), torch.randn(2, 3, 8, 8)
    x = noised_start(sampler, torch.zeros_like(noise), noise, 10)
    assert x is noise
    whole = sampler.sample(lambda x, t: x / 2, noise, randn_like=noise_like(0))
    assert torch.equal(sampler.sample(lambda x, t: x / 2, x, randn_like=noise_like(0), walk_steps=10), whole)


@pytest.mark.parametrize("steps", [50, 25, 14, 1])
def test_the_network_is_called_for_the_last_steps_only(steps):
    sampler = DDPM(Process(), 50)
    x = noised_start(sampler, torch.zeros(1, 3, 8, 8), torch.randn(1, 3, 8, 8), steps)
    asked: list[int] = []

    def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t.item())
        return x

    made = list(sampler.sample_loop(model, x, walk_steps=steps))
    assert len(made) == steps
    assert asked == [transition.t for transition in sampler.transitions[-steps:]]
    assert made[0].sample.isfinite().all()


def test_the_start_has_the_level_of_the_first_step():
    sampler, estimate, noise = DDPM(Process(), 50), torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    x = noised_start(sampler, estimate, noise, 20)
    level = sampler.transitions[-20].alphas_cumprod
    torch.testing.assert_close(x, level**0.5 * estimate + (1 - level) ** 0.5 * noise)


def test_a_perfect_network_walks_from_the_estimate_to_the_reference():
    """A network that knows the image: the little strength leaves still ends there, and refinement holds it."""
    y0 = torch.rand(1, 3, 16, 16) * 2 - 1
    sampler = DDIM(Process(objective="pred_x0"), 20)
    guide = ILVR(y0, 4)
    x = noised_start(sampler, guide.low_frequencies, torch.randn_like(y0), 5)
    torch.testing.assert_close(sampler.sample(lambda x, t: y0, x, guide, walk_steps=5), y0)


@pytest.mark.parametrize("steps", [0, -1, 6])
def test_steps_that_are_not_there(steps):
    with pytest.raises(ValueError, match="steps must be in 1 … 5"):
        next(DDPM(Process(), 5).sample_loop(lambda x, t: x, torch.zeros(1, 3, 8, 8), walk_steps=steps))
    with pytest.raises(ValueError, match="steps must be in 1 … 5"):
        noised_start(DDPM(Process(), 5), torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), steps)

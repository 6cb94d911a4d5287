"""Starting from the noised reference: where it begins, how many steps are left, and what strength 1 means."""

import pytest
import torch

from diffusions import DDIM, DDPM, ILVR, start
from utils.settings import steps_left


def noise_like(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator)


def test_strength_1_is_todays_start():
    diffuser, noise = DDPM(respace_steps=10), torch.randn(2, 3, 8, 8)
    assert steps_left(1, 10) == 10
    x = start(diffuser, torch.zeros_like(noise), noise, 10)
    assert x is noise
    whole = diffuser.sample(lambda x, t: x / 2, noise, randn_like=noise_like(0))
    assert torch.equal(diffuser.sample(lambda x, t: x / 2, x, randn_like=noise_like(0), steps=10), whole)


@pytest.mark.parametrize(
    ("strength", "steps"), [(0.999, 50), (0.5, 25), (0.28, 14), (0.2, 10), (0.03, 2), (0.02, 1), (1e-9, 1)]
)
def test_the_network_is_called_for_the_last_steps_only(strength, steps):
    diffuser = DDPM(respace_steps=50)
    left = steps_left(strength, 50)
    x = start(diffuser, torch.zeros(1, 3, 8, 8), torch.randn(1, 3, 8, 8), left)
    asked: list[int] = []

    def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t.item())
        return x

    made = list(diffuser.sample_loop(model, x, steps=left))
    assert left == len(made) == steps
    assert asked == [transition.t for transition in diffuser.transitions[-steps:]]
    assert made[0].sample.isfinite().all()


def test_the_start_has_the_level_of_the_first_step():
    diffuser, estimate, noise = DDPM(respace_steps=50), torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    x = start(diffuser, estimate, noise, 20)
    level = diffuser.transitions[-20].alphas_cumprod
    torch.testing.assert_close(x, level**0.5 * estimate + (1 - level) ** 0.5 * noise)


def test_a_perfect_network_walks_from_the_estimate_to_the_reference():
    """A network that knows the image: the little strength leaves still ends there, and refinement holds it."""
    y0 = torch.rand(1, 3, 16, 16) * 2 - 1
    diffuser = DDIM(respace_steps=20, objective="pred_x0")
    refine = ILVR(y0, 4)
    x = start(diffuser, refine.low_pass(y0), torch.randn_like(y0), 5)
    torch.testing.assert_close(diffuser.sample(lambda x, t: y0, x, refine, steps=5), y0)


@pytest.mark.parametrize("steps", [0, -1, 6])
def test_steps_that_are_not_there(steps):
    with pytest.raises(ValueError, match="steps must lie in 1 … 5"):
        next(DDPM(respace_steps=5).sample_loop(lambda x, t: x, torch.zeros(1, 3, 8, 8), steps=steps))
    with pytest.raises(ValueError, match="steps must lie in 1 … 5"):
        start(DDPM(respace_steps=5), torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), steps)

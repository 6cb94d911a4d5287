"""A shrunk sample is one of a lower noise level, and that is what the network is told."""

import math

import pytest
import torch
import torch.nn.functional as F

from diffusions import DDPM, ContinuousProcess, Overview, Process
from diffusions.overview import area_matrix

MEAN = 0.6  # of the images of this test, which are all of one grey


def test_an_area_is_averaged():
    x = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    assert torch.allclose(area_matrix(12, 4) @ x @ area_matrix(20, 5).mT, F.avg_pool2d(x, (3, 4)))
    assert torch.allclose(area_matrix(3, 2), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], dtype=torch.float64))


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("side", [48, 64, 128])
@pytest.mark.parametrize("index", [3, 10, 19])
def test_the_network_is_told_the_noise_that_it_sees(side, index, rescale):
    process = Process(total_steps=400, objective="pred_x0", rescale_timesteps=rescale)
    overview = Overview(process, 32, 8, detail_steps=1)
    transition = overview.transitions("uniform", 20)[19 - index]
    signal, noise = math.sqrt(transition.alphas_cumprod), math.sqrt(1 - transition.alphas_cumprod)
    x = signal * MEAN + noise * torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    seen = []

    def network(x, t):
        seen.append((x, t))
        return torch.full_like(x, MEAN)

    prediction = overview.predict(network, x, transition)
    assert torch.allclose(prediction.pred_x0, torch.full_like(x, MEAN))
    ((shrunk, t),) = seen
    assert shrunk.shape == (4, 3, 32, 32)
    level = process.alphas_cumprod[round(t[0].item() * (0.4 if rescale else 1))].item()
    assert level > transition.alphas_cumprod
    # 12288 pixels; the network knows levels 1 % of each other's noise apart, and 48 → 32 leaves neighbours alike
    assert shrunk.std().item() == pytest.approx(math.sqrt(1 - level), rel=0.04)
    assert shrunk.mean().item() == pytest.approx(math.sqrt(level) * MEAN, abs=0.03)


def test_the_last_steps_and_small_images_are_seen_as_they_are():
    process = Process(total_steps=100)
    overview = Overview(process, 16, 8, detail_steps=2)
    shapes = []

    def network(x, t):
        shapes.append(tuple(x.shape[2:]))
        return torch.zeros_like(x)

    for shape in ((32, 32), (16, 16), (16, 24), (32, 48), (40, 24)):
        shapes.clear()
        DDPM(overview, 4).sample(network, torch.randn(1, 3, *shape))
        if min(shape) == 16:
            assert shapes == [shape] * 4
        else:
            shrunk = {32: (16, 16), 40: (24, 16)}[shape[0]] if shape != (32, 48) else (16, 24)
            assert shapes == [shrunk] * 2 + [shape] * 2


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(
    "process",
    [
        ContinuousProcess(total_steps=400, sigma_data=MEAN),
        Process(total_steps=100, objective="pred_v", zero_terminal_snr=True),
    ],
)
def test_processes_of_other_levels_are_looked_at_from_afar_too(process, steps):
    """A network that knows the image gets it, whatever it is told the noise in."""
    overview = Overview(process, 8, 4, detail_steps=0)
    clean = torch.full([2, 3, 8, 8], MEAN)

    def network(x, t):
        seen, t = x.double(), t.double()
        if isinstance(process, ContinuousProcess):  # EDM's: t is log σ / 4
            sigma = (4 * t[0]).exp()
            total = sigma**2 + MEAN**2
            noisy = seen * total.sqrt()
            return (clean - MEAN**2 / total * noisy) / (sigma * MEAN / total.sqrt())
        level = process.alphas_cumprod[int(t[0])]
        if level == 0:
            return -clean
        return (level.sqrt() * seen - clean) / (1 - level).sqrt()

    for transition in overview.transitions("uniform", steps):
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        prediction = overview.predict(network, x, transition)
        assert torch.allclose(prediction.pred_x0, torch.full_like(x, MEAN), atol=1e-4)


def test_variance_is_enlarged_with_the_image():
    overview = Overview(Process(total_steps=100), 8, 4, detail_steps=0)
    transition = overview.transitions("uniform", 10)[0]
    prediction = overview.predict(
        lambda x, t: torch.cat([x, torch.full_like(x, 0.25)], 1), torch.randn(1, 3, 16, 24), transition
    )
    assert torch.allclose(prediction.variance, torch.full([1, 3, 16, 24], 0.25), atol=1e-6)
    assert prediction.pred_x0.abs().max() <= 1

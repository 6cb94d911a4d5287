"""A sample's noise is its own."""

import torch

from diffusions.noise import SampleNoise


def test_streams_do_not_depend_on_the_batch():
    together = SampleNoise(3, range(6))
    first, second = together.randn(3, 8, 8), together.randn_like(torch.empty(6, 3, 8, 8))
    alone = SampleNoise(3, [4])
    assert torch.equal(alone.randn(3, 8, 8)[0], first[4])
    assert torch.equal(alone.randn(3, 8, 8)[0], second[4])


def test_streams_differ_by_sample_seed_and_draw():
    draws = [SampleNoise(seed, range(50)).randn(1, 4, 4).flatten(1) for seed in (0, 1, 2022, 2**40)]
    rows = torch.cat(draws)
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)
    noise = SampleNoise(0, [0])
    assert not torch.equal(noise.randn(16), noise.randn(16))


def test_noise_is_standard_normal_and_uncorrelated_between_neighbours():
    noise = SampleNoise(0, range(64)).randn(3, 32, 32).flatten(1)
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    correlation = torch.corrcoef(noise) - torch.eye(64)
    assert correlation.abs().max() < 5 / noise.shape[1] ** 0.5

"""The benchmarks' shares of the machine's rate: what they replay, and the interval of a median."""

import torch
from torch import nn

from benchmarks.limit import count_flops, own_convolutions
from benchmarks.workers import ratio_interval


def test_a_networks_own_convolutions_are_replayed_and_nothing_else():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, padding=1), nn.Flatten(), nn.Linear(128, 5)
    )
    x = torch.randn(2, 3, 8, 8)
    replay = own_convolutions(network, lambda: network(x))
    assert count_flops(replay) == 2 * 2 * 9 * (3 * 8 * 8**2 + 8 * 8 * 4**2)
    ran = []
    for module in network:
        module.register_forward_hook(lambda module, given, output: ran.append((module, output.shape)))
    replay()
    assert ran == [(network[0], (2, 8, 8, 8)), (network[2], (2, 8, 4, 4))]


def test_the_interval_of_a_median_is_that_of_the_sign_test():
    """Of 41 values, the 14th and the 28th enclose the median with 97.2 %, the 15th and the 27th with 94.0 %.

    Both are sums of the binomial distribution's: Conover, Practical Nonparametric Statistics, section 3.2.
    """
    middle, low, high = ratio_interval([float(i) for i in range(1, 42)], [1.0] * 41)
    assert middle == 21
    assert 14 <= low <= 15
    assert 27 <= high <= 28

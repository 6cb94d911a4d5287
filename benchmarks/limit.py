"""How much of the machine's own rate a network reaches, and where its time goes.

    python -m benchmarks.limit [--networks embedded celebahq edm] [--rounds 40] [--threads 2]

The machine's rate is measured in two ways: a product of two large matrices; and the network's own convolutions, the
same shapes and layouts one after the other, with nothing between them. Network, matrices and convolutions take turns,
call by call, so that what disturbs a round disturbs all of it. The tables show medians of the rounds' ratios with 95 %
intervals by bootstrap. With `--threads 1`, processor time is what is measured, which other work hardly affects.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import load_embedded, load_large
from benchmarks.samplers import timed
from benchmarks.workers import begin_rounds, cpu_precisions, machine, print_table, ratio_interval
from models import DTYPES, Network, make_ready, new_network
from models.files.config import Architecture

SIDE = 2048  # of the matrices
PROFILED = 5  # calls

# EDM's DDPM++ for FFHQ and AFHQv2 at 64×64, as its train.py makes it
DDPMPP = Architecture(
    family="edm",
    params={"model_type": "SongUNet", "img_resolution": 64, "channel_mult": [1, 2, 2, 2]}
    | {"in_channels": 3, "out_channels": 3},
)


def load_ddpmpp(precision: str) -> Network:
    """Make a network of EDM's DDPM++ architecture, 64×64, ready on the CPU."""
    torch.manual_seed(0)
    return make_ready(new_network(DDPMPP).eval(), "cpu", precision)


# name: the title, what loads it, the shape of a batch
NETWORKS: dict[str, tuple[str, Callable[[str], Network], tuple[int, ...]]] = {
    "embedded": ("embedded", lambda precision: load_embedded(precision).network, (8, 3, 64, 64)),
    "edm": ("EDM's DDPM++", load_ddpmpp, (4, 3, 64, 64)),
    "celebahq": ("CelebA-HQ's", load_large, (1, 3, 256, 256)),
}

# kind: the operators of torch whose own time it adds up
KINDS = {
    "convolution": ("mkldnn_convolution", "_slow_conv2d_forward", "convolution_overrideable", "_convolution"),
    "attention": ("_scaled_dot_product_flash_attention_for_cpu", "_softmax", "bmm"),
    "matrices": ("addmm", "mm", "linear"),
    "normalisation": ("native_group_norm", "group_norm"),
    "activation": ("silu_", "silu"),
    "addition": ("add_", "add", "mul_", "mul"),
    "concatenation": ("cat",),
    "copies": ("copy_", "clone", "contiguous", "fill_", "constant_pad_nd", "upsample_nearest2d", "avg_pool2d"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    args = begin_rounds(parser)
    rates, shares = [], []
    for name in args.networks:
        for precision in cpu_precisions():
            title, load, shape = NETWORKS[name]
            network, dtype = load(precision), DTYPES[precision]
            call = partial(network, torch.randn(shape), torch.full(shape[:1], 500))
            cells = [f"{title}, {shape[0]}×{shape[2]}×{shape[3]}, {str(dtype).removeprefix('torch.')}"]
            rates.append(cells + measure_rates(call, own_convolutions(network, call), dtype, args.rounds))
            shares.append(cells + [f"{share:.1%}" for share in time_shares(call).values()])

    print(f"{machine()}, {args.threads} threads, {args.rounds} rounds, medians (95 % intervals)")
    header = ["network", "GFLOP", "of them convolutions'", "s per call", "matrices, GFLOP/s", "of matrices' rate"]
    header += ["convolutions alone, of matrices' rate", "their time in a call", "of their rate"]
    print_table("The share of the machine's rate", header, rates)
    print_table("Where the time of a call goes", ["network", *KINDS, "rest"], shares)


def own_convolutions(network: nn.Module, call: Callable[[], object]) -> Callable[[], None]:
    """Return what runs the convolutions of one call and nothing else: of the same shapes, layouts and order.

    Convolutions of equal inputs share one, so that not all activations of a call are held.
    """
    inputs: dict[tuple[object, ...], Tensor] = {}
    convolutions: list[tuple[nn.Module, Tensor]] = []

    def record(module: nn.Module, given: tuple[Tensor]) -> None:
        x = given[0]
        convolutions.append((module, inputs.setdefault((x.shape, x.stride()), x)))

    hooks = [m.register_forward_pre_hook(record) for m in network.modules() if isinstance(m, nn.Conv2d)]
    call()
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for module, x in convolutions:
            module(x)

    return run


def measure_rates(
    call: Callable[[], object], convolutions: Callable[[], None], dtype: torch.dtype, rounds: int
) -> list[str]:
    """Time the network's call, its convolutions and a product of matrices in turn: the cells of the first table."""
    a, b = torch.randn(2, SIDE, SIDE).to(dtype)
    works = {"call": call, "convolutions": convolutions, "product": lambda: a @ b}
    flops = {name: count_flops(work) for name, work in works.items()}  # and warms them up
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(timed(work))

    def of(one: str, other: str) -> str:
        """Show the rate of one as a share of the other's."""
        scale = flops[one] / flops[other]
        middle, low, high = (scale * share for share in ratio_interval(seconds[other], seconds[one]))
        return f"{middle:.0%} ({low:.0%} … {high:.0%})"

    middle, low, high = ratio_interval(seconds["convolutions"], seconds["call"])
    return [
        f"{flops['call'] / 1e9:.0f}",
        f"{flops['convolutions'] / flops['call']:.0%}",
        f"{median(seconds['call']):.3f}",
        f"{flops['product'] / median(seconds['product']) / 1e9:.0f}",
        of("call", "product"),
        of("convolutions", "product"),
        f"{middle:.0%} ({low:.0%} … {high:.0%})",
        of("call", "convolutions"),
    ]


def count_flops(work: Callable[[], object]) -> int:
    """Count the FLOPs of some work, by torch."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def time_shares(call: Callable[[], object]) -> dict[str, float]:
    """Profile a few calls: the share of each kind of operation, and of the rest."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(PROFILED):
            call()
    return sum_kinds((event.key.removeprefix("aten::"), event.self_cpu_time_total) for event in profiler.key_averages())


def sum_kinds(times: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Add up operators' times by kind, as shares of all."""
    kinds = {operator: kind for kind, operators in KINDS.items() for operator in operators}
    totals = dict.fromkeys([*KINDS, "rest"], 0.0)
    for operator, time in times:
        totals[kinds.get(operator, "rest")] += time
    return {kind: time / sum(totals.values()) for kind, time in totals.items()}


if __name__ == "__main__":
    main()

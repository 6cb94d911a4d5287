"""Fewer passes over memory in a residual block: four ways that were tried, against the block as it is.

    python -m benchmarks.research.fusion [--rounds 40] [--threads 2]

The embedded network's whole call with each way and as it is, in turn, call by call: the median of the rounds' ratios
with its 95 % interval by bootstrap, below 1 where the way is faster; how long the first call takes, which compiles; and
the largest difference of an output, as a share of the largest value. With `--threads 1`, processor time is what is
measured, which other work hardly affects.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.networks import load_embedded
from benchmarks.samplers import timed
from benchmarks.workers import begin_rounds, cpu_precisions, machine, print_table, ratio_interval
from models import DTYPES, Network
from models.networks.layers import ResBlock, resample

Activate = Callable[[nn.GroupNorm, Tensor, Tensor | None], Tensor]


def plain(x: Tensor, shift: Tensor | None, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Shift [B, C, 1, 1], normalise, activate: written plainly, for torch to compile as it can."""
    return F.silu(F.group_norm(x if shift is None else x + shift, groups, weight, bias, eps))


def by_sums(x: Tensor, shift: Tensor | None, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Do so in two passes in the order of channels last: the channels' sums, then one multiply-add and SiLU."""
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2).float()  # [B, HW, C]
    mean, square = pixels.mean(1), pixels.square().mean(1)
    offset = torch.zeros_like(mean) if shift is None else shift.flatten(1).float()
    square, mean = square + 2 * offset * mean + offset.square(), mean + offset
    of_group, square = (part.unflatten(1, (groups, -1)).mean(2, keepdim=True) for part in (mean, square))
    rstd = (square - of_group.square() + eps).rsqrt()
    scale = (rstd * weight.float().unflatten(0, (groups, -1))).flatten(1)
    bias = bias.float() + (offset.unflatten(1, (groups, -1)) - of_group).flatten(1) * scale
    activated = F.silu(pixels * scale[:, None] + bias[:, None]).to(x.dtype)
    return activated.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def by_image(norm: nn.GroupNorm, x: Tensor, shift: Tensor | None) -> Tensor:
    """Do so image by image, which the processor's second cache can hold, uncompiled."""
    if shift is not None:
        x = x.add_(shift)
    activated = torch.empty_like(x)
    for image, result in zip(x.split(1), activated.split(1), strict=True):
        torch.ops.aten.silu.out(norm(image), out=result)
    return activated


def compiled(function: Callable[..., Tensor]) -> Activate:
    """Compile a function for all blocks, which it must not know: torch would compile it for each."""
    shared = torch.compile(function, dynamic=True)
    return lambda norm, x, shift: shared(x, shift, norm.weight, norm.bias, norm.num_groups, norm.eps)


def activating(activate: Activate, block: ResBlock, x: Tensor, emb: Tensor) -> Tensor:
    """Run a residual block that shifts, normalises and activates by `activate`."""
    h = activate(block.norm_1, x, None)
    if block.direction is not None:
        h, x = (resample(part, block.direction, block.style.smooth_resample) for part in (h, x))
    assert block.emb is not None
    h = activate(block.norm_2, block.conv_1(h), block.emb(emb)[:, :, None, None])
    return block.style.add(block.conv_2(h), block.skip(x))


def shift_as_bias(block: ResBlock, x: Tensor, emb: Tensor) -> Tensor:
    """Run a residual block whose first convolution adds the embedding's shift: one timestep for all images."""
    h = F.silu(block.norm_1(x), inplace=True)
    if block.direction is not None:
        h, x = (resample(part, block.direction, block.style.smooth_resample) for part in (h, x))
    assert block.emb is not None and block.conv_1.bias is not None
    h = F.conv2d(h, block.conv_1.weight, block.conv_1.bias + block.emb(emb[:1])[0], padding=1)
    return block.style.add(block.conv_2(F.silu(block.norm_2(h), inplace=True)), block.skip(x))


WAYS: dict[str, Callable[..., Tensor]] = {
    "norm and SiLU compiled as they are": partial(activating, compiled(plain)),
    "the same by the channels' sums": partial(activating, compiled(by_sums)),
    "image by image": partial(activating, by_image),
    "the shift as the convolution's bias": shift_as_bias,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args = begin_rounds(parser)
    torch._dynamo.config.recompile_limit = 64  # types, layouts, with a shift and without; beyond, it would not compile
    print(f"{machine()}, {args.threads} threads, {args.rounds} rounds, medians (95 % intervals)")
    for precision in cpu_precisions():
        title = f"The embedded network, 8×64×64, {str(DTYPES[precision]).removeprefix('torch.')}"
        print_table(title, ["", "time × as it is", "first call, s", "differs by"], compare(precision, args.rounds))


def compare(precision: str, rounds: int) -> list[list[str]]:
    """Time the network with all ways in turn: a row for each."""
    x, t = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.full([8], 500)
    networks = {"": load_embedded(precision).network, **{way: changed(precision, way) for way in WAYS}}
    first = {way: timed(partial(network, x, t)) for way, network in networks.items()}
    outputs = {way: network(x, t).float() for way, network in networks.items()}
    seconds: dict[str, list[float]] = {way: [] for way in networks}
    for _ in range(rounds):
        for way, network in networks.items():
            seconds[way].append(timed(partial(network, x, t)))

    def row(way: str) -> list[str]:
        middle, low, high = ratio_interval(seconds[way], seconds[""])
        apart = (outputs[way] - outputs[""]).abs().max() / outputs[""].abs().max()
        return [way, f"{middle:.3f} ({low:.3f} … {high:.3f})", f"{first[way]:.1f}", f"{apart:.0e}"]

    return [row(way) for way in WAYS]


def changed(precision: str, way: str) -> Network:
    """Return the embedded network with all its residual blocks run one way."""
    network = load_embedded(precision).network
    for module in network.modules():
        if isinstance(module, ResBlock):
            module.forward = partial(WAYS[way], module)  # type: ignore[method-assign]
    return network


if __name__ == "__main__":
    main()

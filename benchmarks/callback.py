"""What ILVR costs in a pipeline of diffusers: a step of its callback beside a call of Stable Diffusion 1.5's network.

The network has random weights, and draws one image of 512×512 with guidance, so two in a batch, on the CPU. It takes
5 GB of memory. Needs diffusers.

python -m benchmarks.callback
"""

import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from diffusions.pipelines import ILVRCallback

LATENTS = 1, 4, 64, 64
NETWORK = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}  # the others are diffusers' defaults


def seconds(function: Callable[[], object], times: int) -> float:
    """Return how long a call takes at best, after one to warm up."""
    function()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


@torch.no_grad()
def main() -> None:
    network: Any = UNet2DConditionModel(**NETWORK)
    network.eval()
    x, words = torch.randn(2, *LATENTS[1:]), torch.randn(2, 77, 768)
    call = seconds(lambda: network(x, 500, words), 2)
    print(f"{sum(each.numel() for each in network.parameters()) / 1e6:.0f} M parameters: {call:.2f} s a call")

    scheduler: Any = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler.set_timesteps(50)
    pipe, latents = SimpleNamespace(scheduler=scheduler), {"latents": torch.randn(LATENTS)}
    for low_pass in ("resize", "projection"):
        guide = ILVRCallback(torch.randn(LATENTS), 4, low_pass=low_pass)
        step = seconds(partial(guide, pipe, 20, scheduler.timesteps[20], latents), 100)
        print(f"low_pass {low_pass}: {1000 * step:.2f} ms a step, {step / call:.3%} of a call")


if __name__ == "__main__":
    main()

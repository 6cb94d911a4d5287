"""A network made ready for sampling: where, in which layout, how precisely and how compiled it runs."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusions.process import Denoiser
from models.network import Network
from utils.errors import InputError

M = TypeVar("M", bound=nn.Module)

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def make_ready(network: M, device: torch.device | str, precision: str = "no") -> M:
    """Move a network or an autoencoder to a device, in the layout that suits it there, its weights cast once for all.

    Casting the weights once spares what autocast does at every call. Channels last is the layout that convolutions are
    made for; `benchmarks/speed.py` measures both together, on CPUs. On other devices torch's group normalisation
    returns the plain layout, whatever it was given. So with weights in channels last each convolution turns its input
    round, and each normalisation turns it back: 66 and 67 times in one call of the CelebA-HQ network, against 6 times
    in all with plain weights. That is counted in the graph, not measured: what convolutions turn round inside is not
    seen.

    Normalisation and attention accumulate in float32 inside, whatever the weights are, and the samplers' mathematics
    never leaves it.

    Raises:
        InputError: fp16 on a CPU, which has no units for it and would take seven times as long as float32.
    """
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise InputError("mixed_precision fp16 needs a GPU; on a CPU choose bf16 or no")
    of_convolutions = torch.channels_last if torch.device(device).type == "cpu" else torch.contiguous_format
    for parameter in network.parameters():
        layout = of_convolutions if parameter.ndim == 4 else torch.preserve_format
        # A copy in any case: a single parameter left in the checkpoint's mapping would keep all of it in memory.
        parameter.data = parameter.data.to(device, DTYPES[precision], memory_format=layout, copy=True)
    return network


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _says(torch.cpu, "_is_avx512_bf16_supported") is True


def emulates_bf16(device: torch.device) -> bool:
    """Whether the device has no bfloat16 arithmetic: seven times float32's time on a CPU with AVX2 (64×64, batch 8)."""
    if device.type == "cuda":
        return not has_fast_bf16(device)
    return device.type == "cpu" and _says(torch.ops.mkldnn, "_is_mkldnn_bf16_supported") is False


def _says(namespace: object, name: str) -> bool | None:
    """What a function says that torch keeps to itself; None if this version of it has none."""
    function = getattr(namespace, name, None)
    return function() if function else None


def advise(device: torch.device, precision: str) -> str | None:
    """What a run should be told of its precision on this device, if anything."""
    if precision == "no" and has_fast_bf16(device):
        return "mixed_precision bf16 is faster on this machine, and its images hardly differ."
    if precision == "bf16" and emulates_bf16(device):
        return "This machine has no bfloat16 arithmetic: mixed_precision no is several times faster than bf16."
    return None


class Compiled:
    """A network compiled by torch.compile for one shape, called like the network.

    A smaller batch, such as a run's last, is filled up with zeros: compiling once more would take longer.

    Args:
        batch_shape: [B, C, H, W]. Compiling happens here, not in the first call.
        told: a timestep that the network will be told; whole numbers and others are compiled for differently.
    """

    def __init__(self, network: Network, batch_shape: tuple[int, ...], device: torch.device, told: float = 0) -> None:
        self.batch = batch_shape[0]
        self.network: Denoiser = torch.compile(network, dynamic=False)
        with torch.no_grad():
            self(torch.zeros(batch_shape, device=device), torch.full([self.batch], told, device=device))

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x [B' ≤ B, C, H, W], t [B'] → [B', C or 2C, H, W]."""
        count, missing = len(x), self.batch - len(x)
        if missing:
            x, t = F.pad(x, (0, 0) * 3 + (0, missing)), F.pad(t, (0, missing))
        return self.network(x, t)[:count]

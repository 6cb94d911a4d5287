"""A network made ready for sampling: for which class, where, how precisely and how compiled it runs."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusions.process import Denoiser
from models.networks.network import Network
from utils.errors import InputError

M = TypeVar("M", bound=nn.Module)

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class ClassConditional(Network):
    """A class-conditional network that draws one class: called with x and t, like an unconditional one."""

    num_classes = 0

    def __init__(self, network: Network, class_id: int) -> None:
        super().__init__()
        self.network = network
        self.class_id = class_id
        self.in_channels = network.in_channels
        self.out_channels = network.out_channels
        self.size_multiple = network.size_multiple

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Call the network for its class: x [B, C, H, W], t [B] to [B, C or 2C, H, W]."""
        return self.network(x, t, torch.full([len(t)], self.class_id, device=t.device))


def choose_class(network: Network, class_id: int | None) -> Network:
    """Return the network for one class, or the network itself if it is unconditional.

    Raises:
        InputError: a class-conditional network and no class, or a class that the network does not have.
    """
    num_classes = network.num_classes
    if class_id is None:
        if num_classes:
            raise InputError(f"the model is class-conditional: choose class_id 0 … {num_classes - 1}")
        return network
    if not num_classes:
        raise InputError(f"class_id {class_id}: the model is unconditional, it has no classes")
    if not 0 <= class_id < num_classes:
        raise InputError(f"class_id must be 0 … {num_classes - 1}, not {class_id}")
    return ClassConditional(network, class_id)


def make_ready(network: M, device: torch.device | str, precision: str = "no") -> M:
    """Move a network or an autoencoder to a device, its weights cast and laid out as is fastest there.

    Casting the weights once spares what autocast does at every call. Channels last is the layout that convolutions are
    made for; `benchmarks/speed.py` measures both together, on CPUs. On other devices torch's group normalisation
    returns the plain layout, whatever it was given. With weights in channels last each convolution would convert its
    input, and each normalisation convert it back: 66 and 67 times in one call of the CelebA-HQ network, against 6
    times in all with plain weights (counted in the graph, not measured).

    Normalisation and attention accumulate in float32 inside, whatever the weights are, and the samplers' mathematics
    never leaves it.

    Raises:
        InputError: fp16 on a CPU, which has no units for it and would take seven times as long as float32.
    """
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise InputError("mixed_precision fp16 needs a GPU; on a CPU choose bf16 or no")
    conv_layout = torch.channels_last if torch.device(device).type == "cpu" else torch.contiguous_format
    for parameter in network.parameters():
        layout = conv_layout if parameter.ndim == 4 else torch.preserve_format
        # A copy in any case: a single parameter left in the checkpoint's mapping would keep all of it in memory.
        parameter.data = parameter.data.to(device, DTYPES[precision], memory_format=layout, copy=True)
    return network


def emulates_bf16(device: torch.device) -> bool:
    """Return whether bfloat16 is emulated: it takes seven times as long as float32 on a CPU with AVX2."""
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and not getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)()


def advise(device: torch.device, precision: str) -> str | None:
    """Return advice on the precision for this device, or None."""
    if device.type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # private to torch: a version without it counts as a machine without it
        is_fast = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    if precision == "no" and is_fast:
        return "mixed_precision bf16 is faster on this machine, and its images hardly differ."
    if precision == "bf16" and emulates_bf16(device):
        return "This machine has no bfloat16 arithmetic: mixed_precision no is several times faster than bf16."
    return None


class Compiled:
    """A network compiled by torch.compile for one shape, called like the network.

    A smaller batch, like the last of a run, is filled up with zeros: compiling once more would take longer.

    Args:
        batch_shape: [B, C, H, W]. Compiling happens here, not in the first call.
        model_t: a timestep value as passed to the network; integers and other numbers are compiled differently.
    """

    def __init__(
        self, network: Network, batch_shape: tuple[int, ...], device: torch.device, model_t: float = 0
    ) -> None:
        self.batch = batch_shape[0]
        self.network: Denoiser = torch.compile(network, dynamic=False)
        with torch.no_grad():
            self(torch.zeros(batch_shape, device=device), torch.full([self.batch], model_t, device=device))

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Call the network: x [B' ≤ B, C, H, W], t [B'] to [B', C or 2C, H, W]."""
        count, missing = len(x), self.batch - len(x)
        if missing:
            x, t = F.pad(x, (0, 0) * 3 + (0, missing)), F.pad(t, (0, missing))
        return self.network(x, t)[:count]

"""A network made ready for sampling: for which class, where, how precisely and how compiled it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusions.process import Denoiser
from models.networks.network import NO_CLASS, Network
from utils.errors import InputError

M = TypeVar("M", bound=nn.Module)

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class ClassConditional:
    """A class-conditional network that draws chosen classes: called with x and t, like an unconditional one.

    Guidance is classifier-free (Ho & Salimans, arXiv:2207.12598): (1 - s)·uncond + s·cond, both from one call of twice
    the batch. The variance that a network predicts beside is that of cond.

    Attributes:
        network: called with x, t and class_id, int64 [B].
        class_id: int64 [B], of each image; or [1], of all.
        guidance_scale: s; 1 is none, and no call for no class.
    """

    network: Callable[..., Tensor]
    class_id: Tensor
    guidance_scale: float = 1.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Call the network for its classes: x [B, C, H, W], t [B] to [B, C or 2C, H, W]."""
        class_id, scale = self.class_id.to(x.device).expand(len(x)), self.guidance_scale
        if scale == 1:
            return self.network(x, t, class_id)
        both_ids = torch.cat([class_id, class_id.new_full([len(x)], NO_CLASS)])
        both = self.network(x.repeat(2, 1, 1, 1), t.repeat(2), both_ids)
        cond, uncond = both.to(x.dtype).chunk(2)
        guided = (1 - scale) * uncond + scale * cond
        return torch.cat([guided[:, : x.shape[1]], cond[:, x.shape[1] :]], dim=1)


def choose_class(network: Network, class_id: int | Sequence[int] | None, guidance_scale: float = 1.0) -> Denoiser:
    """Return the network for one class or several, called with x and t; the network itself if there is no class.

    Args:
        network: class-conditional or not.
        class_id: one for all images, or one for each of a batch; None for none.
        guidance_scale: s, see `ClassConditional`.
    """
    ids = () if class_id is None else (class_id,) if isinstance(class_id, int) else tuple(class_id)
    check_class(network, ids, guidance_scale)
    return ClassConditional(network, torch.tensor(ids), guidance_scale) if ids else network


def check_class(network: Network, class_id: Sequence[int], guidance_scale: float = 1.0) -> None:
    """Raise InputError if the network cannot be asked for these classes, for none, or for guidance."""
    num_classes = network.num_classes
    if class_id and not num_classes:
        raise InputError(f"class_id {class_id[0]}: the model is unconditional, it has no classes")
    for each in class_id:
        if not 0 <= each < num_classes:
            raise InputError(f"class_id must be 0 … {num_classes - 1}, not {each}")
    if num_classes and not class_id and not network.null_class:
        raise InputError(f"the model is class-conditional: choose class_id 0 … {num_classes - 1}")
    if guidance_scale != 1 and not class_id:
        raise InputError(f"guidance_scale {guidance_scale:g}: guidance needs a class_id, and a model with classes")
    if guidance_scale != 1 and not network.null_class:
        fault = "the model cannot be asked for no class, since its training dropped no labels"
        raise InputError(f"guidance_scale {guidance_scale:g}: {fault}; if it did, say p_uncond in its config")


def make_ready(network: M, device: torch.device | str, precision: str = "no") -> M:
    """Move a network or an autoencoder to a device, its weights cast and laid out as is fastest there.

    Casting the weights once spares what autocast does at every call. Channels last is the layout that convolutions are
    made for; `benchmarks/speed.py` measures both together, on CPUs. On other devices torch's group normalisation
    returns the plain layout, and each convolution would convert its input back: 66 times in one call of the CelebA-HQ
    network (counted in the graph, not measured).

    Normalisation and attention accumulate in float32 inside, whatever the weights are.

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
        is_fast = not emulates_bf16(device)
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
        takes_class: whether it will be called with a class_id.
    """

    def __init__(
        self,
        network: Network,
        batch_shape: tuple[int, ...],
        device: torch.device,
        model_t: float = 0,
        takes_class: bool = False,
    ) -> None:
        self.batch = batch_shape[0]
        self.network: Callable[..., Tensor] = torch.compile(network, dynamic=False)
        values = [model_t, 0] if takes_class else [model_t]
        given = [torch.full([self.batch], value, device=device) for value in values]
        with torch.no_grad():
            self(torch.zeros(batch_shape, device=device), *given)

    def __call__(self, x: Tensor, *given: Tensor) -> Tensor:
        """Call the network: x [B' ≤ B, C, H, W], t [B'] and maybe class_id [B'] to [B', C or 2C, H, W]."""
        count, missing = len(x), self.batch - len(x)
        if missing:
            x, given = F.pad(x, (0, 0) * 3 + (0, missing)), tuple(F.pad(each, (0, missing)) for each in given)
        return self.network(x, *given)[:count]

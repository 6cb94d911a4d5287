"""One class of a class-conditional network, called like an unconditional network."""

import torch
from torch import Tensor

from models.network import Network
from utils.errors import InputError


class ClassConditional(Network):
    """A network that draws one class: called with x and t, as an unconditional one."""

    num_classes = 0

    def __init__(self, network: Network, class_id: int) -> None:
        super().__init__()
        self.network = network
        self.class_id = class_id
        self.in_channels = network.in_channels
        self.out_channels = network.out_channels
        self.size_multiple = network.size_multiple

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x [B, C, H, W], t [B] → [B, C or 2C, H, W]."""
        return self.network(x, t, torch.full([len(t)], self.class_id, device=t.device))


def choose_class(network: Network, class_id: int | None) -> Network:
    """The network for one class, or the network itself if it is unconditional.

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

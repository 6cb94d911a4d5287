"""One class of a class-conditional network, called like an unconditional network."""

import torch
from torch import Tensor, nn

from models.unet import UNet
from utils.errors import InputError


class ClassConditional(nn.Module):
    """A UNet that draws one class: `model(x, t)` as of an unconditional one."""

    def __init__(self, unet: UNet, class_id: int) -> None:
        super().__init__()
        self.unet = unet
        self.class_id = class_id

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x [B, C, H, W], t int64 [B] → [B, C or 2C, H, W]."""
        return self.unet(x, t, torch.full_like(t, self.class_id))


def choose_class(unet: UNet, class_id: int | None) -> UNet | ClassConditional:
    """The network for one class, or the network itself if it is unconditional.

    Raises:
        InputError: a class-conditional network and no class, or a class that the network does not have.
    """
    num_classes = unet.class_embed.num_embeddings if unet.class_embed is not None else 0
    if class_id is None:
        if num_classes:
            raise InputError(f"the model is class-conditional: choose a class 0 … {num_classes - 1} with --class_id")
        return unet
    if not num_classes:
        raise InputError(f"--class_id {class_id}: the model is unconditional, it has no classes")
    if not 0 <= class_id < num_classes:
        raise InputError(f"--class_id must be 0 … {num_classes - 1}, not {class_id}")
    return ClassConditional(unet, class_id)

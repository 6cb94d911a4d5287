"""What the code above a network may know of it: how it is called, and a few facts."""

from torch import nn

NO_CLASS = -1  # in place of a class id


class Network(nn.Module):
    """A network: called with x [B, C, H, W] and t [B], it returns [B, out_channels, H, W].

    A class-conditional one takes class_id, int64 [B], too; if it has a null class, NO_CLASS among them.

    Attributes:
        in_channels: C, of the image.
        out_channels: C, or 2C with learned variance.
        size_multiple: H and W must be multiples of it.
        num_classes: of a class-conditional network, else 0.
        null_class: whether training dropped labels, so that a class-conditional network can be asked for no class.
    """

    in_channels: int
    out_channels: int
    size_multiple: int
    num_classes: int
    null_class = False

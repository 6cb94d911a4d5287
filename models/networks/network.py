"""What the code above a network may know of it: how it is called, and a few facts."""

from torch import nn


class Network(nn.Module):
    """A network: called with x [B, C, H, W] and t [B], it returns [B, out_channels, H, W].

    A class-conditional one takes class_id, int64 [B], too.

    Attributes:
        in_channels: C, of the image.
        out_channels: C, or 2C with learned variance.
        size_multiple: H and W must be multiples of it.
        num_classes: of a class-conditional network, else 0.
    """

    in_channels: int
    out_channels: int
    size_multiple: int
    num_classes: int

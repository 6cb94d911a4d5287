"""Halving and doubling a resolution."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resample = Literal["conv", "residual", "plain"]
Direction = Literal["down", "up"]


class ConvResample(nn.Module):
    """Halve the resolution with a strided 3×3 convolution, or double it and convolve.

    Args:
        asymmetric_padding: pad below and on the right only when halving (Ho et al.'s TensorFlow code) rather
            than on all sides.
    """

    def __init__(self, channels: int, direction: Direction, asymmetric_padding: bool) -> None:
        super().__init__()
        self.direction = direction
        self.asymmetric_padding = asymmetric_padding and direction == "down"
        stride, padding = (2 if direction == "down" else 1), (0 if self.asymmetric_padding else 1)
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H/2, W/2] or [B, C, 2H, 2W]."""
        if self.direction == "up":
            x = resample(x, "up")
        elif self.asymmetric_padding:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class PlainResample(nn.Module):
    """Halve or double the resolution without parameters."""

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        self.direction: Direction = direction

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H/2, W/2] or [B, C, 2H, 2W]."""
        return resample(x, self.direction)


def resample(x: Tensor, direction: Direction, smooth: bool = False) -> Tensor:
    """Halve or double the resolution.

    Args:
        x: [B, C, H, W].
        smooth: filter with [1, 3, 3, 1] along each axis (Song et al. 2021, after StyleGAN2). If not, take the mean of
            each 2×2 square, or each pixel four times: what most of these networks were trained with.

    Returns:
        [B, C, H/2, W/2] or [B, C, 2H, 2W].
    """
    if not smooth:
        return F.avg_pool2d(x, 2) if direction == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")
    if direction == "down":
        return smooth_half(x, padding=1)
    return F.conv_transpose2d(x, 4 * _smooth_kernel(x), stride=2, padding=1, groups=x.shape[1])


def smooth_half(x: Tensor, padding: int) -> Tensor:
    """Halve the resolution with the smooth filter. [B, C, H, W] → [B, C, H/2 + padding - 1, W/2 + padding - 1]."""
    return F.conv2d(x, _smooth_kernel(x), stride=2, padding=padding, groups=x.shape[1])


def _smooth_kernel(x: Tensor) -> Tensor:
    """[C, 1, 4, 4], the filter of each channel of `x`."""
    weights = x.new_tensor([1, 3, 3, 1]) / 8
    return torch.outer(weights, weights).expand(x.shape[1], 1, 4, 4)

"""Multi-scale structural similarity (Wang, Simoncelli & Bovik, Asilomar 2003), for pictures down to 44 pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001)  # the paper's first scales; its other two would need 176 pixels
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # of a dynamic range of 1


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Measure how similar pictures are in structure: 1 if they are the same, near 0 if nothing agrees.

    Args:
        a, b: [B, C, H, W] in [-1, 1], H and W at least 44.

    Returns:
        [B]
    """
    a, b = (a + 1) / 2, (b + 1) / 2
    exponents = torch.tensor(WEIGHTS) / sum(WEIGHTS)
    similarity = torch.ones(len(a))
    for scale, exponent in enumerate(exponents):
        if scale > 0:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        mean_a, mean_b = _window_mean(a), _window_mean(b)
        var_a, var_b = _window_mean(a * a) - mean_a**2, _window_mean(b * b) - mean_b**2
        covariance = _window_mean(a * b) - mean_a * mean_b
        agreement = (2 * covariance + C2) / (var_a + var_b + C2)  # of contrast and structure
        if scale == len(WEIGHTS) - 1:  # luminance counts at the coarsest scale only
            agreement = agreement * (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
        similarity = similarity * agreement.mean((1, 2, 3)).clamp(min=0) ** exponent
    return similarity


def _window_mean(x: Tensor) -> Tensor:
    """Average under a Gaussian window, where it fits. [B, C, H, W] → [B, C, H-10, W-10]."""
    weights = torch.exp(-((torch.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, WINDOW)
    x = F.conv2d(x, weights[..., None], groups=x.shape[1])
    return F.conv2d(x, weights[:, :, None], groups=x.shape[1])

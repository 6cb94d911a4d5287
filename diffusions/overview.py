"""For images larger than a network's own: most steps look at the whole image, shrunk to the network's size.

A window of a large image shows the network a part where it expects a whole, and while noise hides the content, the
network draws a whole into it. So the layout is settled at the network's own size. Shrinking is a mean over pixels: it
keeps the signal and removes noise, so the shrunk sample has a lower noise level (Hoogeboom et al., ICML 2023,
arXiv:2301.11093, shift the schedule by the same reasoning). The network is called at that level, and its x̂0 is
enlarged. The last steps look at the image itself and add finer detail.
"""

import math

import torch
from torch import Tensor

from diffusions.process import Denoiser, Prediction, Process
from diffusions.schedule import Transition, half_log_snr
from utils.resize_right import apply_matrices, resize

MIN_LEVEL = 1e-12  # ᾱ; below it, no image is left


class Overview(Process):
    """A process whose early predictions come from the shrunk sample.

    Args:
        process: what the network was trained on.
        size: height and width of the training images, in pixels.
        size_multiple: the network takes heights and widths that are multiples of this.
        detail_steps: how many of the last steps predict as `process` does.
    """

    def __init__(self, process: Process, size: int, size_multiple: int, detail_steps: int) -> None:
        self.process = process
        self.total_steps, self.alphas_cumprod = process.total_steps, process.alphas_cumprod
        self.objective_name = process.objective_name
        self.size = size
        self.size_multiple = size_multiple
        self.detail_steps = detail_steps
        levels = process.alphas_cumprod.tolist()
        self.levels = [Transition(t, t, level, level, process.model_t(t)) for t, level in enumerate(levels)]

    def transitions(self, respace_type: str = "uniform", respace_steps: int | None = None) -> tuple[Transition, ...]:
        """See `Process.transitions`."""
        return self.process.transitions(respace_type, respace_steps)

    def model_t(self, t: int) -> float:
        """See `Process.model_t`."""
        return self.process.model_t(t)

    def predict(self, model: Denoiser, x: Tensor, transition: Transition) -> Prediction:
        """Ask the network for the clean image, from the shrunk sample in all but the last steps.

        Args:
            model: the network.
            x: [B, C, H, W], the sample at `transition`.

        Returns:
            x̂0 [B, C, H, W], clipped if the process clips.
        """
        shrink = min(x.shape[2:]) / self.size
        if shrink <= 1 or transition.index < self.detail_steps:
            return self.process.predict(model, x, transition)
        rows, columns = (area_matrix(length, self._shrunk(length / shrink)) for length in x.shape[2:])
        noise_left = math.prod(matrix.square().sum(1).mean().item() for matrix in (rows, columns))
        signal, noise = transition.alphas_cumprod, (1 - transition.alphas_cumprod) * noise_left
        log_snr = _finite_log_snr(signal / (signal + noise))
        level = min(self.levels, key=lambda level: abs(_finite_log_snr(level.alphas_cumprod) - log_snr))
        shrunk = apply_matrices(x, rows.to(x), columns.to(x)) / math.sqrt(signal + noise)
        pred_x0, variance = (
            resize(seen, out_shape=x.shape[2:], pad_mode="symmetric")
            for seen in self.process.predict(model, shrunk, level)
        )
        return Prediction(self.clip(pred_x0), variance)

    def clip(self, pred_x0: Tensor) -> Tensor:
        """See `Process.clip`."""
        return self.process.clip(pred_x0)

    def _shrunk(self, length: float) -> int:
        """Round a length to the nearest one that the network takes."""
        return max(1, round(length / self.size_multiple)) * self.size_multiple


def area_matrix(size: int, shrunk: int) -> Tensor:
    """Make the matrix that shrinks an axis: each new pixel is the mean of those it covers. [shrunk, size] float64."""
    width = size / shrunk
    old, new = torch.arange(size, dtype=torch.float64), torch.arange(shrunk, dtype=torch.float64)[:, None] * width
    return (torch.minimum(new + width, old + 1) - torch.maximum(new, old)).clamp(min=0) / width


def _finite_log_snr(level: float) -> float:
    """Return half the log-SNR of ᾱ; finite for pure noise too, so that its distance to others is defined."""
    return half_log_snr(max(level, MIN_LEVEL))

"""The same ILVR sampling twice: with this project, and with what one would put together from other packages.

The other uses diffusers' UNet2DModel and DDPMScheduler with resize-right's resize, filtering the reference and the
sample as the method's authors do. Both begin with the same noise, in the same precision.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.held_out import load_held_out
from benchmarks.memory import peak_bytes
from diffusions import DDPM, ILVR, SampleNoise
from diffusions.process import Denoiser
from models import DTYPES, Compiled, load_network, make_ready, new_network
from models.files.checkpoint import config_for, open_checkpoint
from utils.batching import keep_freed_memory
from utils.resize_right import resize

FACTOR = 8


class Timed:
    """A network that adds up the time of its calls."""

    def __init__(self, model: Denoiser) -> None:
        self.model = model
        self.seconds = 0.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        synchronise()
        start = clock()
        output = self.model(x, t)
        synchronise()
        self.seconds += clock() - start
        return output


class Sampler:
    """What is measured for both: `call` is the network, `sample` the whole loop."""

    call: Denoiser

    def __init__(self, size: int, batch: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        generator = torch.Generator().manual_seed(0)
        self.noise = torch.randn(batch, 3, size, size, generator=generator).to(self.device)
        self.reference = resize(load_held_out()[:batch], out_shape=(size, size)).to(self.device)

    def sample(self, model: Denoiser, steps: int) -> Tensor:
        raise NotImplementedError

    def output(self) -> Tensor:
        """Return the network's output for the noise, to check that all contenders run the same one."""
        return self.call(self.noise, self._timesteps(500)).float().cpu()

    def images(self, steps: int) -> Tensor:
        """Return the loop's images as a file holds them, except for rounding: [B, 3, H, W] in [-1, 1]."""
        return self.sample(self.call, steps).clamp(-1, 1).cpu()

    def flops(self) -> int:
        """Count the FLOPs of one forward pass, by torch."""
        with FlopCounterMode(display=False) as counter:
            self.output()
        return counter.get_total_flops()

    def forward(self) -> float:
        """Time the bare network, in seconds."""
        return timed(lambda: self.call(self.noise, self._timesteps(500)))

    def loop(self, steps: int) -> tuple[float, float]:
        """Time the whole loop: seconds per step, and its time over the network's."""
        network = Timed(self.call)
        seconds = timed(lambda: self.sample(network, steps))
        over_forward = seconds / network.seconds
        if self.device.type == "cuda":  # once more without waiting for each call
            seconds = timed(lambda: self.sample(self.call, steps))
        return seconds / steps, over_forward

    def wall(self, steps: int) -> float:
        """Return seconds of wall clock per step."""
        start = time.perf_counter()
        self.sample(self.call, steps)
        synchronise()
        return (time.perf_counter() - start) / steps

    def peak(self) -> int:
        """Return the peak memory in bytes, of the accelerator or of this process."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else peak_bytes()

    def _timesteps(self, t: int) -> Tensor:
        return torch.full([len(self.noise)], t, dtype=torch.int64, device=self.device)


class Ours(Sampler):
    """This project.

    Args:
        weights: a diffusers folder; or a YAML config, for a network of random weights.
        plain: the network as it is loaded, for comparison.
    """

    def __init__(
        self, weights: Path, size: int, batch: int, precision: str, compiled: bool = False, plain: bool = False
    ) -> None:
        if not plain:
            keep_freed_memory()
        super().__init__(size, batch)
        config = config_for(open_checkpoint(weights)) if weights.is_dir() else config_for(None, weights)
        self.process, self.var_type = config.make_process(), config.diffusion["var_type"]
        torch.manual_seed(0)  # random weights, too, are the same in all processes
        loaded = load_network(weights) if weights.is_dir() else new_network(config).eval()
        network = loaded.to(self.device) if plain else make_ready(loaded, self.device, precision)
        self.call = Compiled(network, (batch, 3, size, size), self.device) if compiled else network

    def sample(self, model: Denoiser, steps: int) -> Tensor:
        sampler = DDPM(self.process, steps, var_type=self.var_type)
        randoms = SampleNoise(0, range(len(self.noise)), self.device)
        return sampler.sample(model, self.noise, ILVR(self.reference, FACTOR), randoms.randn_like)

    def synchronisations(self, steps: int) -> int:
        """Count how often the host waits for the accelerator within a loop, by torch's sync debug mode."""
        self.output()  # what is set up once may wait
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            self.sample(self.call, steps)
        torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(wait.message) for wait in waits)


class Theirs(Sampler):
    """diffusers and resize-right."""

    def __init__(self, weights: Path, size: int, batch: int, precision: str) -> None:
        from diffusers import DDPMScheduler, UNet2DModel

        super().__init__(size, batch)
        self.scheduler = DDPMScheduler.from_pretrained(weights)
        unet = UNet2DModel.from_pretrained(weights, torch_dtype=DTYPES[precision]).eval().to(self.device)
        self.call = lambda x, t: unet(x.to(unet.dtype), t).sample.float()

    def sample(self, model: Denoiser, steps: int) -> Tensor:
        from resize_right import resize as resize_right

        def low_pass(x: Tensor) -> Tensor:
            return resize_right(resize_right(x, 1 / FACTOR), FACTOR)

        self.scheduler.set_timesteps(steps, self.device)
        x, timesteps = self.noise, self.scheduler.timesteps
        for t, t_prev in zip(timesteps, [*timesteps[1:], None], strict=True):
            x = self.scheduler.step(model(x, t), t, x).prev_sample
            y = self.reference
            if t_prev is not None:
                y = self.scheduler.add_noise(y, torch.randn_like(y), t_prev[None])
            x = x + low_pass(y) - low_pass(x)
        return x


class Products:
    """The rate at which the machine multiplies matrices, in FLOP/s: what a network can come near to."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def rate(self, dtype: torch.dtype, convolution: bool) -> float:
        """Measure torch.mm, or a 3×3 convolution, which is a matrix product too.

        Both, because on a CPU they use different libraries, MKL and oneDNN, and MKL is slow on AMD processors.
        """
        side = 8192 if self.device.type == "cuda" else 2048
        if convolution:
            x, w = torch.randn(1, 256, side // 16, side // 32), torch.randn(256, 256, 3, 3)
            x, w = (v.to(self.device, dtype, memory_format=torch.channels_last) for v in (x, w))
            flops, product = 2 * x[0, 0].numel() * w.numel(), lambda: torch.conv2d(x, w, padding=1)
        else:
            a, b = torch.randn(2, side, side).to(self.device, dtype)
            flops, product = 2 * side**3, lambda: a @ b
        product()
        return flops / min(timed(product) for _ in range(5))


def synchronise() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], object]) -> float:
    """Time some work, in seconds."""
    synchronise()
    start = clock()
    work()
    synchronise()
    return clock() - start


def clock() -> float:
    """Return seconds: with a single thread, of processor time, which other work on the machine hardly affects."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()

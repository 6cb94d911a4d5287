"""Train a model of a config on images of render.mjs, on CPU or GPU, and write it as a diffusers folder.

    python -m weights.openpeeps64.train --data data/train.bin --out results/train --steps 100000 --batch 256
    accelerate launch -m weights.openpeeps64.train ...                                       # on several devices

Run the same command again to resume a stopped run: it ends in the same bits as an uninterrupted one, if the device's
kernels are deterministic. With --minutes rather than --steps, for shared machines, the learning rate falls by the
clock, and runs differ. --out receives state.pt, log.csv (step, images, loss, learning rate), sheets of samples, and
the model: the mean of the weights along the run (EMA), float16.
"""

import argparse
import copy
import csv
import math
import os
import signal
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from models import Model, Network, load_network, new_network, save_diffusers
from models.files.checkpoint import config_for
from models.files.config import Config
from utils.images import make_grid
from weights.openpeeps64.batches import Batches, read_images
from weights.openpeeps64.muon import Muon
from weights.openpeeps64.unconditional import draw
from weights.openpeeps64.weighting import P2, Balanced, Weighting

ADAM_BETAS = (0.9, 0.99)
MAX_GRAD_NORM = 1.0
MUON_MOMENTUM = 0.95


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="images of render.mjs")
    add("--out", type=Path, required=True, help="folder of the run")
    add("--config", default="configs/openpeeps64.yaml", help="the YAML that sampling reads")
    add("--init", type=Path, help="diffusers folder to start from; without it, from random weights")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="optimiser steps, over which the learning rate falls to zero")
    length.add_argument("--minutes", type=float, help="time of training, over which it does")
    add("--stop_at", type=int, help="save at this step and leave the rest to a later call")
    add("--batch", type=int, default=32, help="images per step, on all devices together")
    add("--lr", type=float, default=4e-4, help="AdamW's learning rate")
    add("--muon_lr", type=float, default=1.5e-3, help="Muon's, for the hidden layers' weights; 0: AdamW for all")
    add("--warmup", type=int, default=100, help="steps over which the learning rates rise")
    add("--weighting", choices=["p2", "balanced"], default="balanced", help="of the timesteps' losses")
    add("--p2_gamma", type=float, default=0.5, help="with --weighting p2; 0 weighs all equally")
    add("--ema", type=float, default=0.998, help="decay of the mean of the weights")
    add("--seed", type=int, default=0)
    add("--mixed_precision", choices=["no", "bf16"], default="bf16")
    add("--compile", action="store_true", help="torch.compile the network")
    add("--save_every", type=int, default=200, help="steps")
    add("--sheet_every", type=int, default=1000, help="steps")
    return parser.parse_args(argv)


class Trainer:
    """A network in training with all that changes with it: its mean, its optimisers, the step."""

    def __init__(self, args: argparse.Namespace, config: Config, accelerator: Accelerator) -> None:
        device = accelerator.device
        torch.manual_seed(args.seed)
        self.args = args
        self.accelerator = accelerator
        self.process = config.make_process()
        self.unet = (load_network(args.init, config) if args.init else new_network(config)).to(device).train()
        self.ema = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.optimizers = make_optimizers(self.unet, args.lr, args.muon_lr)
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.weighting: Weighting = (
            P2(self.process.alphas_cumprod.to(device), args.p2_gamma)
            if args.weighting == "p2"
            else Balanced(config.total_steps, device)
        )
        network = torch.compile(self.unet) if args.compile else self.unet
        self.network = accelerator.prepare_model(network)
        self.step = 0
        self.seconds = 0.0

    def train_step(self, x0: Tensor, t: Tensor, noise: Tensor) -> float:
        """Take one step of Ho et al. 2020, algorithm 1, with weights and any objective.

        Args:
            x0, noise: [B, C, H, W], this process's; t: int64 [B].

        Returns:
            The mean loss of all processes' images, unweighted.
        """
        noisy = self.process.q_sample(x0, t, noise)
        with self.accelerator.autocast():
            output = self.network(noisy.contiguous(memory_format=torch.channels_last), t)
        losses = (output.float() - self.process.target(x0, t, noise)).square().mean(dim=(1, 2, 3))
        everywhere = self.accelerator.gather((t, losses.detach()))
        weights = self.weighting(*everywhere).chunk(self.accelerator.num_processes)[self.accelerator.process_index]
        self.unet.zero_grad()
        self.accelerator.backward((weights * losses).mean())
        nn.utils.clip_grad_norm_(self.unet.parameters(), MAX_GRAD_NORM)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * self.lr_share
            optimizer.step()
        self.step += 1
        self._follow()
        return everywhere[1].mean().item()

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 … 1."""
        return min(1, self.step / self.args.steps if self.args.steps else self.seconds / (60 * self.args.minutes))

    @property
    def lr_share(self) -> float:
        """The learning rate's share of its peak: a linear rise, and half a cosine down to zero."""
        return min(1, (self.step + 1) / self.args.warmup) * (1 + math.cos(math.pi * self.progress)) / 2

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the mean towards the weights: fast at first, to forget where the run began, later slowly."""
        decay = min(self.args.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.unet.parameters()), 1 - decay)

    def state_dict(self) -> dict:
        """Return everything that the next step depends on."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "unet": self.unet.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "weighting": self.weighting.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` returned."""
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.unet.load_state_dict(state["unet"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, its in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its)
        self.weighting.load_state_dict(state["weighting"])


def make_optimizers(unet: Network, lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """Use Muon for the weights of the hidden layers, AdamW for biases, norms, the time embedding and both ends."""
    ends = ("conv_in", "conv_out", "time_embed", "class_embed")
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in unet.named_parameters():
        (hidden if muon_lr and parameter.ndim > 1 and not name.startswith(ends) else rest).append(parameter)
    adam = torch.optim.AdamW(rest, lr, ADAM_BETAS, weight_decay=0)
    return [adam, Muon(hidden, lr=muon_lr, momentum=MUON_MOMENTUM, weight_decay=0)] if hidden else [adam]


def save_sheet(path: Path, trainer: Trainer, config: Config) -> None:
    """Draw 32 samples with the mean weights, at most 50 steps each, always from the same noise."""
    model = Model(trainer.ema, trainer.process, config.image_size, config.image_channels)
    with trainer.accelerator.autocast():
        pictures = draw(model, min(50, config.total_steps), range(32), device=trainer.accelerator.device)
    Image.fromarray(make_grid([list(pictures[i : i + 8]) for i in range(0, len(pictures), 8)])).save(path)


def save(trainer: Trainer, config: Config) -> None:
    """Save the state to resume from, replaced atomically, and the model as it would be published."""
    out: Path = trainer.args.out
    torch.save(trainer.state_dict(), out / "state.pt.new")
    os.replace(out / "state.pt.new", out / "state.pt")
    save_diffusers(trainer.ema, config, out / "model")


def train(trainer: Trainer, batches: Batches, config: Config) -> None:
    """Step until the end, `--stop_at`, or a signal to stop."""
    args, main = trainer.args, trainer.accelerator.is_main_process
    begun = time.monotonic() - trainer.seconds
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    args.out.mkdir(parents=True, exist_ok=True)
    with (
        open(args.out / "log.csv", "a", newline="", encoding="utf-8") as log,
        tqdm(total=args.steps, initial=trainer.step, disable=not main, unit="step", mininterval=5) as bar,
    ):
        while not agreed_stop(trainer, time.monotonic() - begun, bool(stopped)):
            lr_share = trainer.lr_share
            loss = trainer.train_step(*batches[trainer.step])
            bar.update()
            if not main:
                continue
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            csv.writer(log).writerow([trainer.step, trainer.step * args.batch, f"{loss:.6f}", f"{lr_share:.5f}"])
            if trainer.step % args.save_every == 0:
                log.flush()
                save(trainer, config)
            if trainer.step % args.sheet_every == 0:
                save_sheet(args.out / f"sheet_{trainer.step:07d}.png", trainer, config)
    if main:
        save(trainer, config)


def agreed_stop(trainer: Trainer, seconds: float, stopped: bool) -> bool:
    """Set the trainer's clock and decide whether to stop; the main process decides for all."""
    if trainer.accelerator.num_processes > 1:
        seconds, stopped = broadcast_object_list([seconds, stopped])
    trainer.seconds = seconds
    return stopped or trainer.progress == 1 or trainer.step == trainer.args.stop_at


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    config = config_for(None, args.config)
    accelerator = Accelerator(mixed_precision=args.mixed_precision, cpu=not torch.cuda.is_available())
    trainer = Trainer(args, config, accelerator)
    if (args.out / "state.pt").exists():
        trainer.load_state_dict(torch.load(args.out / "state.pt", map_location=accelerator.device, weights_only=True))
    images = read_images(args.data, config.image_size, config.image_channels).to(accelerator.device)
    world = accelerator.num_processes
    batches = Batches(images, args.batch // world, config.total_steps, args.seed, accelerator.process_index, world)
    train(trainer, batches, config)


if __name__ == "__main__":
    main()

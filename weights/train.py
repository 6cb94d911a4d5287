"""Train a model on your own pictures, on CPU or GPU, and write it as a diffusers folder.

    python -m weights.train --data MY_PICTURES --out my_model          # ten minutes from the portraits' weights
    python sample_ilvr.py --weights my_model/model
    accelerate launch -m weights.train ...                             # on several devices

Run the same command again to resume a stopped run: it ends in the same bits as an uninterrupted one, if the device's
kernels are deterministic. With --minutes rather than --steps, for shared machines, the learning rate falls by the
clock, and runs differ. --out receives state.pt, log.csv (step, images, loss, learning rate), held_out.csv (step, loss),
sheets of samples, and the model: the mean of the weights along the run (EMA), float16.
"""

import argparse
import copy
import csv
import math
import os
import signal
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from models import Model, Network, config_for, load_network, new_network, open_checkpoint, save_diffusers
from models.files.config import Config
from utils.batching import keep_freed_memory
from utils.errors import InputError
from utils.images import make_grid
from weights.batches import Batch, Batches
from weights.data import read_images
from weights.held_out import held_out_loss, losses
from weights.muon import Muon
from weights.unconditional import draw
from weights.weighting import P2, Balanced, Weighting

EMBEDDED = "weights/openpeeps64"  # the portraits
ADAM_BETAS = (0.9, 0.99)
MAX_GRAD_NORM = 1.0
MUON_MOMENTUM = 0.95


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of pictures, or raw bytes, uint8 [N, size, size, channels]")
    add("--crops", type=int, default=0, help="random squares to cut out of each picture; 0: its middle square")
    add("--held_out", type=Path, help="other such pictures: their loss is logged whenever the model is saved")
    add("--out", type=Path, required=True, help="folder of the run")
    add("--init", help="weights to start from; without it and --config, those of the portraits")
    add("--config", help="the YAML of the network; without --init, it begins with random weights")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimiser steps, over which the learning rate falls to zero")
    length.add_argument("--minutes", type=float, default=10, help="time of training, over which it does")
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
    args = parser.parse_args(argv)
    duration = args.minutes if args.steps is None else args.steps
    if min(duration, args.batch, args.warmup, args.save_every, args.sheet_every, args.crops + 1) <= 0:
        parser.error("the numbers of images, steps and minutes must be above 0")
    return args


class Trainer:
    """A network in training with all that changes with it: its mean, its optimisers, the step."""

    def __init__(self, args: argparse.Namespace, config: Config, network: Network, accelerator: Accelerator) -> None:
        device = accelerator.device
        self.args = args
        self.accelerator = accelerator
        self.process = config.make_process()
        self.unet = network.to(device).train()
        self.ema = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.optimizers = make_optimizers(self.unet, args.lr, args.muon_lr)
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.weighting: Weighting = (
            P2(self.process.alphas_cumprod.to(device), args.p2_gamma)
            if args.weighting == "p2"
            else Balanced(config.total_steps, device)
        )
        self.network = accelerator.prepare_model(torch.compile(self.unet) if args.compile else self.unet)
        self.step = 0
        self.seconds = 0.0

    def train_step(self, batch: Batch) -> float:
        """Take one step of Ho et al. 2020, algorithm 1, with weights and any objective, on this process's batch.

        Returns:
            The mean loss of all processes' images, unweighted.
        """
        with self.accelerator.autocast():
            each = losses(self.network, self.process, batch)
        everywhere = self.accelerator.gather((batch.t, each.detach()))
        weights = self.weighting(*everywhere).chunk(self.accelerator.num_processes)[self.accelerator.process_index]
        self.unet.zero_grad()
        self.accelerator.backward((weights * each).mean())
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


def save(trainer: Trainer, config: Config, held_out: Tensor | None) -> None:
    """Save the state to resume from, replaced atomically, and the model as it would be published; log its loss."""
    out: Path = trainer.args.out
    torch.save(trainer.state_dict(), out / "state.pt.new")
    os.replace(out / "state.pt.new", out / "state.pt")
    save_diffusers(trainer.ema, config, out / "model")
    if held_out is not None:
        with trainer.accelerator.autocast(), open(out / "held_out.csv", "a", encoding="utf-8") as log:
            log.write(f"{trainer.step},{held_out_loss(trainer.ema, trainer.process, held_out):.6f}\n")


def train(trainer: Trainer, batches: Batches, config: Config, held_out: Tensor | None) -> None:
    """Step until the end, `--stop_at`, or a signal to stop."""
    args, main = trainer.args, trainer.accelerator.is_main_process
    begun, first = time.monotonic() - trainer.seconds, trainer.step
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stopped.append(number))
    with (
        open(args.out / "log.csv", "a", newline="", encoding="utf-8") as log,
        tqdm(total=args.steps, initial=trainer.step, disable=not main, unit="step", mininterval=5) as bar,
    ):
        while True:
            stop = agreed_stop(trainer, time.monotonic() - begun, bool(stopped))
            if main and (stop or (trainer.step > first and trainer.step % args.save_every == 0)):
                log.flush()
                save(trainer, config, held_out)
            if stop:
                break
            lr_share = trainer.lr_share
            loss = trainer.train_step(batches[trainer.step])
            bar.update()
            if not main:
                continue
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            csv.writer(log).writerow([trainer.step, trainer.step * args.batch, f"{loss:.6f}", f"{lr_share:.5f}"])
            if trainer.step % args.sheet_every == 0:
                save_sheet(args.out / f"sheet_{trainer.step:07d}.png", trainer, config)


def agreed_stop(trainer: Trainer, seconds: float, stopped: bool) -> bool:
    """Set the trainer's clock and decide whether to stop; the main process decides for all."""
    if trainer.accelerator.num_processes > 1:
        seconds, stopped = broadcast_object_list([seconds, stopped])
    trainer.seconds = seconds
    return stopped or trainer.progress == 1 or trainer.step == trainer.args.stop_at


def start(args: argparse.Namespace) -> tuple[Config, Network]:
    """Return the network to train, on the CPU, and its config.

    Raises:
        InputError: they cannot be read, or not be written as a diffusers folder.
    """
    checkpoint = open_checkpoint(args.init or EMBEDDED) if args.init or not args.config else None
    config = config_for(checkpoint, args.config)
    draws_pixels = not config.autoencoder and config.params.get("out_channels", 3) == config.image_channels
    if config.family != "diffusers" or not draws_pixels:
        raise InputError(f"{config.source}: only a UNet of diffusers, of pixels and fixed variance, can be trained")
    return config, load_network(checkpoint, config) if checkpoint else new_network(config)


def run(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    config, network = start(args)
    form = config.image_size, config.image_channels, args.crops, args.seed
    images = read_images(args.data, *form)
    held_out = read_images(args.held_out, *form, "--held_out") if args.held_out else None
    if len(images) < args.batch:
        found = f"{len(images)} images are fewer than a --batch of {args.batch}"
        raise InputError(f"--data {args.data}: {found}; lower it, or cut more out of each picture with --crops")
    keep_freed_memory()
    accelerator = Accelerator(mixed_precision=args.mixed_precision, cpu=not torch.cuda.is_available())
    device, world = accelerator.device, accelerator.num_processes
    trainer = Trainer(args, config, network, accelerator)
    args.out.mkdir(parents=True, exist_ok=True)
    state, log = args.out / "state.pt", args.out / "log.csv"
    if state.exists():
        trainer.load_state_dict(torch.load(state, map_location=device, weights_only=True))
        accelerator.print(f"{args.out}: going on from step {trainer.step}")
    if accelerator.is_main_process and log.exists():  # after a kill, with steps that will be taken again
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[: trainer.step]))
    batches = Batches(
        images.to(device), args.batch // world, config.total_steps, args.seed, accelerator.process_index, world
    )
    train(trainer, batches, config, None if held_out is None else held_out.to(device))
    accelerator.print(f"\nTo draw with it: python sample_ilvr.py --weights {args.out / 'model'}")


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says, and return the exit code."""
    try:
        run(parse_args(argv))
    except (InputError, OSError) as error:
        print(f"train: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Draw unconditional samples and tell how far they are from held-out images.

    python -m weights.openpeeps64.judge --data data --out results/judge

prints the sliced Wasserstein distances (x 1000) at 64, 32 and 16 pixels beside their floor, that of as many training
images, and writes the samples, samples.npy (uint8 [N, H, W, C]), and a sheet of the first 64 of them, unpicked.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks.sliced_wasserstein import sliced_wasserstein
from diffusions import DDPM
from models import load_model
from utils.config import config_for
from weights.openpeeps64.batches import read_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", default="weights/openpeeps64", help="diffusers folder")
    add("--data", type=Path, required=True, help="folder of train.bin and held_out.bin")
    add("--out", type=Path, required=True)
    add("--n", type=int, default=1000, help="images")
    add("--steps", type=int, default=100, help="of DDPM sampling")
    add("--batch", type=int, default=50)
    add("--seed", type=int, default=0)
    add("--bf16", action="store_true", help="the network in bfloat16 autocast")
    add("--compile", action="store_true", help="torch.compile the network")
    return parser.parse_args()


def draw_samples(model: Callable[[Tensor, Tensor], Tensor], diffuser: DDPM, shape: list[int], seed: int) -> Tensor:
    """One batch, uint8 [B, H, W, C]; shape is [B, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)

    def randn_like(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    x0 = diffuser.sample(model, torch.randn(shape, generator=generator), randn_like=randn_like)
    return ((x0.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)


def tiled(images: Tensor, columns: int = 8) -> Image.Image:
    """uint8 [N, H, W, C] as one picture, row after row."""
    rows = images.unflatten(0, (-1, columns))
    return Image.fromarray(rows.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1).squeeze(2).numpy())


def distances(a: Tensor, b: Tensor) -> str:
    """Of two sets, uint8 [N, H, W, C], as a line of a table."""
    one, other = (images.permute(0, 3, 1, 2).float() / 127.5 - 1 for images in (a, b))
    return ", ".join(f"{distance:.1f}" for distance in sliced_wasserstein(one, other))


def main() -> None:
    args = parse_args()
    config = config_for(args.weights)
    model = load_model(args.weights)
    network: Callable[[Tensor, Tensor], Tensor] = torch.compile(model) if args.compile else model
    diffuser = DDPM(**{**config.diffusion, "respace_steps": args.steps})

    batches = []
    for start in tqdm(range(0, args.n, args.batch), unit="batch"):
        shape = [min(args.batch, args.n - start), config.image_channels, config.image_size, config.image_size]
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            batches.append(draw_samples(network, diffuser, shape, args.seed + start))
    samples = torch.cat(batches)
    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "samples.npy", samples.numpy())
    tiled(samples[:64]).save(args.out / "samples.png")

    train, held_out = (
        read_images(args.data / name, config.image_size, config.image_channels)[: args.n]
        for name in ("train.bin", "held_out.bin")
    )
    print(f"sliced Wasserstein distance x 1000 to {args.n} held-out images at 64, 32, 16 pixels")
    print(f"samples: {distances(samples, held_out)}")
    print(f"training images (floor): {distances(train, held_out)}")


if __name__ == "__main__":
    main()

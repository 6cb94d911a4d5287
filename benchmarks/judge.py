"""Draw unconditional samples and measure their distance to held-out images.

    python -m benchmarks.judge --data data --out results/judge

prints the sliced Wasserstein distances (x 1000) at 64, 32 and 16 pixels, and their floor, the distance of as many
training images. It writes samples.npy (uint8 [N, H, W, 3]) and a sheet of the first 64 samples, not selected.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks.sliced_wasserstein import sliced_wasserstein
from models import load_model, make_ready
from utils.images import from_pixels, make_grid
from weights.data import read_images
from weights.unconditional import draw


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
    add("--mixed_precision", choices=["no", "bf16"], default="no", help="of the network")
    return parser.parse_args()


def distances(a: Tensor, b: Tensor) -> str:
    """Format the distances of two sets, uint8 [N, H, W, C], as a line of a table."""
    return ", ".join(f"{distance:.1f}" for distance in sliced_wasserstein(from_pixels(a), from_pixels(b)))


def main() -> None:
    args = parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(args.weights)
    make_ready(model.network, device, args.mixed_precision)
    numbers = [range(start, min(start + args.batch, args.n)) for start in range(0, args.n, args.batch)]
    drawn = [draw(model, args.steps, batch, args.seed, device) for batch in tqdm(numbers, unit="batch")]
    samples = np.concatenate(drawn)
    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "samples.npy", samples)
    Image.fromarray(make_grid([list(samples[i : i + 8]) for i in range(0, 64, 8)])).save(args.out / "samples.png")

    train, held_out = (
        read_images(args.data / name, model.image_size, model.channels)[: args.n]
        for name in ("train.bin", "held_out.bin")
    )
    print(f"sliced Wasserstein distance x 1000 to {args.n} held-out images at 64, 32, 16 pixels")
    print(f"samples: {distances(torch.from_numpy(samples), held_out)}")
    print(f"training images (floor): {distances(train, held_out)}")


if __name__ == "__main__":
    main()

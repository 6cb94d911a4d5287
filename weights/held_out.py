"""The loss on images that training has not seen, always for the same noise and timesteps.

    python -m weights.held_out --data data/held_out.bin results/train/model weights/openpeeps64

prints it for each model, × 1000. The weights are compared in float32; train.py logs it in its own precision.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from diffusions import Process
from models import Network, load_model
from weights.batches import Batch, Batches
from weights.data import read_images

BATCH, DRAWS = 32, 512  # images at a time, and in all


def losses(network: Network, process: Process, batch: Batch) -> Tensor:
    """Return each image's mean squared error of what the network is to say, [B]."""
    output = network(process.q_sample(*batch), batch.t)
    return (output.float() - process.target(*batch)).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def held_out_loss(network: Network, process: Process, images: Tensor) -> float:
    """Return the mean loss of about DRAWS images, uint8 [N, H, W, C], some of them several times if they are fewer."""
    size = min(BATCH, len(images))
    batches = Batches(images, size, process.total_steps)
    return torch.cat([losses(network, process, batches[step]) for step in range(DRAWS // size)]).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="as for train.py")
    parser.add_argument("models", nargs="+", help="diffusers folders")
    args = parser.parse_args()
    for folder in args.models:
        model = load_model(folder)
        images = read_images(args.data, model.image_size, model.channels)
        print(f"{folder}\t{1000 * held_out_loss(model.network, model.process, images):.3f}", flush=True)


if __name__ == "__main__":
    main()

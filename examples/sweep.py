"""Show as a figure what N and the range do: rows of N, columns of ranges, all from the same noise.

python -m examples.sweep [OUT.png]
"""

import sys
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from diffusions import DDPM, ILVR
from models import load_model
from utils.images import read_reference, to_pixels

matplotlib.use("Agg")
FACTORS, RANGES, STEPS = (2, 4, 8, 16), (0, 2, 4), 10

model = load_model("weights/openpeeps64")
sampler = DDPM(model.process, respace_steps=STEPS)
reference = read_reference(Path("assets/references/photo-astronaut.jpg"), model.image_size)[None]  # [1, 3, 64, 64]

figure = Figure(figsize=(2 * len(RANGES), 2 * len(FACTORS)), layout="constrained")
for row, factor in zip(figure.subplots(len(FACTORS), len(RANGES)), FACTORS, strict=True):
    for ax, range_t in zip(row, RANGES, strict=True):
        torch.manual_seed(0)
        guide = ILVR(reference, downsample_factor=factor, range_t=range_t)
        image = sampler.sample(model, torch.randn(reference.shape), guide).clamp(-1, 1)
        ax.imshow(to_pixels(image[0]))
        ax.set(title=f"N = {factor}, range {range_t}", xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "sweep.png")

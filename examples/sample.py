"""Draw four unconditional portraits, and four that follow a reference.

python -m examples.sample [OUT.png]
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from diffusions import DDPM, ILVR
from models import load_model
from utils.images import read_reference, to_pixels

torch.manual_seed(0)
model = load_model("weights/openpeeps64")
sampler = DDPM(model.process, respace_steps=20)
noise = torch.randn(4, *model.latent_shape)  # [B, C, H, W]

unconditional = sampler.sample(model, noise)
reference = read_reference(Path("assets/references/openpeeps-433.png"), model.image_size).expand(4, -1, -1, -1)
guided = sampler.sample(model, noise, ILVR(reference, downsample_factor=8))

rows = [torch.cat(list(images.clamp(-1, 1)), dim=2) for images in (unconditional, reference, guided)]
Image.fromarray(to_pixels(torch.cat(rows, dim=1))).save(sys.argv[1] if len(sys.argv) > 1 else "samples.png")

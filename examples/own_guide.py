"""Write a guide of your own: the reference binds in its left half only.

A guide overrides one of two hooks: `guide_x0` changes the predicted image before a step, `guide_sample` the sample
after it. `Guide` itself keeps the reference, φ_N (`low_pass`) and φ_N(reference) (`low_frequencies`).

    python -m examples.own_guide [OUT.png]
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from diffusions import DDPM, Guide
from diffusions.schedule import Transition
from models import load_model
from utils.images import read_reference, to_pixels


class LeftHalf(Guide):
    """Correct x̂0 by the low frequencies that it lacks, in the left half only."""

    def guide_x0(self, pred_x0: Tensor, x: Tensor, transition: Transition) -> Tensor:
        """Change the prediction before the step, [B, C, H, W] → [B, C, H, W]."""
        if transition.index < self.range_t:
            return pred_x0
        correction = self.bind(self.reference - pred_x0, transition)
        correction[..., correction.shape[-1] // 2 :] = 0
        return pred_x0 + correction


torch.manual_seed(0)
model = load_model("weights/openpeeps64")
path = Path("assets/references/openpeeps-433.png")
reference = read_reference(path, model.image_size).expand(4, -1, -1, -1)  # [4, 3, 64, 64] in [-1, 1]
guide = LeftHalf(reference, downsample_factor=4, range_t=4)
images = DDPM(model.process, respace_steps=20).sample(model, torch.randn(reference.shape), guide)

row = torch.cat([reference[0], *images.clamp(-1, 1)], dim=2)
Image.fromarray(to_pixels(row)).save(sys.argv[1] if len(sys.argv) > 1 else "own_guide.png")

"""A folder of a consistency model, against diffusers."""

import numpy as np
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

from diffusions import ContinuousProcess
from diffusions.schedule import Transition
from models import load_model

SMALL = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 32,
    "resnet_time_scale_shift": "scale_shift",
    "downsample_type": "resnet",
    "upsample_type": "resnet",
}


def test_the_denoised_image_is_that_of_diffusers(tmp_path):
    torch.manual_seed(0)
    unet, scheduler = UNet2DModel(**SMALL).eval(), CMStochasticIterativeScheduler()
    ConsistencyModelPipeline(unet, scheduler).save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert isinstance(model.process, ContinuousProcess)
    for sigma in (0.21, 3.7, 80.0):
        x = sigma * torch.randn(2, 3, 16, 16)
        skip, out = scheduler.get_scalings_for_boundary_condition(sigma)
        level = 1 / (1 + sigma**2)
        told = torch.from_numpy(scheduler.sigma_to_t(np.float32([sigma])))
        with torch.no_grad():
            answer = unet(x / (sigma**2 + 0.5**2) ** 0.5, told).sample
            ours = model.process.predict(model, level**0.5 * x, Transition(0, 0, level, 1.0, 0.0)).pred_x0
        theirs = (out * answer + skip * x).clamp(-1, 1)  # the scheduler clips by default
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()
        assert theirs.abs().mean() < 0.999

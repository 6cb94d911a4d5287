"""A small latent diffusion model of diffusers, with random parameters."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LDMPipeline, UNet2DModel, VQModel

KINDS: dict[Any, dict[str, int]] = {VQModel: {"num_vq_embeddings": 60}, AutoencoderKL: {"latent_channels": 3}}


def save_pipeline(folder: Path, kind: Any) -> Any:
    """Save a latent diffusion pipeline of random parameters that all matter, and return it."""
    torch.manual_seed(0)
    autoencoder = kind(
        block_out_channels=(16, 16, 24),
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        norm_num_groups=8,
        scaling_factor=0.7,
        **KINDS[kind],
    )
    unet: Any = UNet2DModel(
        sample_size=8,
        block_out_channels=(16, 24),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    )
    for parameter in (*autoencoder.parameters(), *unet.parameters()):
        parameter.data += 0.1 * torch.randn_like(parameter)
    if kind is VQModel:
        autoencoder.quantize.embedding.weight.data.normal_()
    scheduler = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False)
    pipeline: Any = LDMPipeline(autoencoder.eval(), unet.eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline

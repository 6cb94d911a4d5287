"""Give Stable Diffusion a prompt, and layout and colours of a reference. Needs `pip install diffusers transformers`.

python -m examples.pipeline PROMPT PICTURE OUT.png [FOLDER OR HUB ID]
"""

import sys

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from diffusions.pipelines import ILVRCallback

prompt, picture, out, *given = sys.argv[1:]
weights = given[0] if given else "stable-diffusion-v1-5/stable-diffusion-v1-5"
device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
pipe = StableDiffusionPipeline.from_pretrained(weights, torch_dtype=dtype).to(device)
size = pipe.unet.config.sample_size * pipe.vae_scale_factor

pixels = pipe.image_processor.preprocess(Image.open(picture).convert("RGB"), size, size).to(device, dtype)
with torch.no_grad():
    latents = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor  # [1, 4, size/8, size/8]
guide = ILVRCallback(latents, downsample_factor=4, range_t=10, pipe=pipe)  # the last 10 of 50 steps are free
pipe(prompt, height=size, width=size, callback_on_step_end=guide).images[0].save(out)

"""Draw a reference, and see at once what a model makes of it. It needs one more package: pip install gradio

python examples/draw.py
"""

import functools
import random
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image, ImageOps

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from diffusions import DDPM, GUIDES, SampleNoise  # noqa: E402
from models import Model, load_model  # noqa: E402
from models.networks.ready import advise, make_ready  # noqa: E402
from utils.images import from_pixels, to_pixels  # noqa: E402

STEPS, COUNT, PAD, CPU = 10, 4, 440, torch.device("cpu")
MODELS = {  # a first drawing, and how best to follow one: refine, the last steps that are free
    "landforms": ("atlas64", "assets/maps/islands.png", "sample", 1),
    "portraits": ("openpeeps64", "assets/references/scribble-blue-hair.png", "regions", 2),
}
COLOURS = ["#86b399", "#c9b8a4", "#f2f2f4", "#c8dcef", "#2c2c34", "#e8b796", "#c0392b", "#f2c14e"]


@functools.cache
def model_named(name: str) -> Model:
    """Load a model once, in bfloat16 where that is faster."""
    model = load_model(PROJECT / "weights" / MODELS[name][0])
    make_ready(model.network, CPU, "bf16" if advise(CPU, "no") else "no")
    return model


def draw(pad: dict[str, Any], name: str, factor: float, free: int, refine: str, seed: float) -> list[Image.Image]:
    """Draw samples that follow the pad's picture where it is not transparent."""
    model = model_named(name)
    picture = ImageOps.fit(pad["composite"].convert("RGBA"), (model.image_size, model.image_size))
    pixels = torch.from_numpy(np.array(picture)).expand(COUNT, -1, -1, -1)  # [B, H, W, 4]
    mask = pixels[..., 3:].movedim(-1, 1) / 255
    guide = GUIDES[refine](from_pixels(pixels[..., :3]), factor, range_t=free, mask=mask)
    noise = SampleNoise(int(seed), range(COUNT))
    x = noise.randn(*model.latent_shape)
    images = DDPM(model.process, respace_steps=STEPS).sample(model, x, guide, noise.randn_like).clamp(-1, 1)
    return [Image.fromarray(pixels).resize((PAD // 2, PAD // 2)) for pixels in to_pixels(images)]


def begin(name: str) -> tuple[str, str, int]:
    """Return a model's first drawing, and how to follow it."""
    _, drawing, refine, free = MODELS[name]
    return str(PROJECT / drawing), refine, free


with gr.Blocks(title="ILVR: draw it live") as page:
    with gr.Row():
        brush = gr.Brush(default_size=40, colors=COLOURS, default_color=COLOURS[0], color_mode="fixed")
        with gr.Column(scale=0, min_width=PAD + 40):  # as wide from the start: the pad measures itself once
            pad = gr.ImageEditor(
                begin("landforms")[0],
                label="Draw, or drop a picture",
                type="pil",
                image_mode="RGBA",
                canvas_size=(PAD, PAD),
                fixed_canvas=True,
                brush=brush,
                eraser=gr.Eraser(default_size=40),
                layers=False,
                height=PAD + 80,
            )
        samples = gr.Gallery(label="What the model makes of it", columns=2, height=PAD + 80, object_fit="contain")
    with gr.Row():
        name = gr.Radio(list(MODELS), value="landforms", label="model")
        factor = gr.Slider(1, 32, value=4, step=1, label="N")
        free = gr.Slider(0, STEPS, value=begin("landforms")[2], step=1, label="free steps")
        refine = gr.Radio(list(GUIDES), value="sample", label="refine")
        with gr.Column(min_width=100):
            seed = gr.Number(2022, label="seed", precision=0)
            roll = gr.Button("roll")
    inputs = [pad, name, factor, free, refine, seed]
    changes = [page.load, pad.input, *(each.change for each in inputs)]
    gr.on(changes, draw, inputs, samples, trigger_mode="always_last", show_progress="hidden", api_name="draw")
    roll.click(lambda: random.randrange(2**31), outputs=seed)
    name.change(begin, name, [pad, refine, free])

if __name__ == "__main__":
    page.launch()

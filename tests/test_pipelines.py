"""ILVR as a callback in diffusers' own pipelines: tiny and random networks, but the real loops and schedulers."""

import sys

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diffusions.pipelines import ILVRCallback
from tests.commands import PROJECT, run_command
from tests.test_resize_right import reference_resize

SIZE = 16  # of the latents
STEPS = 4
VP = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # Stable Diffusion's
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
SCHEDULERS = {
    "DDPM": ("DDPMScheduler", VP),
    "DDIM": ("DDIMScheduler", VP),
    "PNDM": ("PNDMScheduler", VP | {"skip_prk_steps": True}),
    "Euler": ("EulerDiscreteScheduler", VP),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", VP),
    "Heun": ("HeunDiscreteScheduler", VP),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", VP),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", VP),
    "UniPC": ("UniPCMultistepScheduler", VP),
    "DEIS": ("DEISMultistepScheduler", VP),
    "KDPM2": ("KDPM2DiscreteScheduler", VP),
    "KDPM2 ancestral": ("KDPM2AncestralDiscreteScheduler", VP),
    "LCM": ("LCMScheduler", VP),
    "EDM Euler": ("EDMEulerScheduler", {}),
    "flow Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow Heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "flow DPM++ 2M": ("DPMSolverMultistepScheduler", FLOW),
    "flow UniPC": ("UniPCMultistepScheduler", FLOW),
    "flow DEIS": ("DEISMultistepScheduler", FLOW),
}
VARIANCE_PRESERVING = [name for name in SCHEDULERS if "flow" not in name and name != "EDM Euler"]
FLOW_MATCHING = [name for name in SCHEDULERS if "flow" in name]
NETWORK = {"sample_size": SIZE, "norm_num_groups": 2, "block_out_channels": (4, 8), "layers_per_block": 1}
NETWORK |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": 2}
NETWORK |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 16}


def scheduler(name: str):
    kind, options = SCHEDULERS[name]
    return getattr(diffusers, kind)(**options)


def make_vae(**options):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=2, **blocks, **options)


@pytest.fixture(scope="module")
def stable_diffusion():
    torch.manual_seed(0)
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    vocabulary = {word: number for number, word in enumerate([*marks.values(), *letters])}
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), max_position_embeddings=16, bos_token_id=0, eos_token_id=1, **sizes
    )
    tokenizer = CLIPTokenizer(
        vocab=vocabulary, merges=[], model_max_length=16, unk_token="<|endoftext|>", pad_token="<|endoftext|>", **marks
    )
    pipe = diffusers.StableDiffusionPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(**NETWORK),
        scheduler=scheduler("DDIM"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)

    def call(callback=None, prompt="a red cat", **options):
        return pipe_call(pipe, callback, prompt=prompt, **options)

    call.pipe = pipe
    return call


@pytest.fixture(scope="module")
def stable_diffusion_xl():
    torch.manual_seed(0)
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    unet = diffusers.UNet2DConditionModel(**NETWORK, **added, projection_class_embeddings_input_dim=6 * 4 + 16)
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=make_vae(), text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, unet=unet,
        scheduler=scheduler("DDIM"), add_watermarker=False,
    )  # fmt: skip
    return embedded(pipe)


@pytest.fixture(scope="module")
def stable_diffusion_3():
    torch.manual_seed(0)
    heads = {"num_layers": 1, "attention_head_dim": 4, "num_attention_heads": 4, "caption_projection_dim": 16}
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIZE, patch_size=2, in_channels=4, joint_attention_dim=16, pooled_projection_dim=16, out_channels=4,
        pos_embed_max_size=SIZE, **heads,
    )  # fmt: skip
    parts = dict.fromkeys(f"{kind}{number}" for kind in ("text_encoder", "tokenizer") for number in ("", "_2", "_3"))
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=transformer, vae=make_vae(shift_factor=0.1), scheduler=scheduler("flow Euler"), **parts
    )
    return embedded(pipe)


def embedded(pipe):
    """A pipeline's call with the embeddings of `count` prompts rather than with prompts."""
    pipe.set_progress_bar_config(disable=True)

    def call(callback=None, count: int = 1, **options):
        words, pooled = noise(count, 8, 16, seed=1), noise(count, 16, seed=2)
        given = {"prompt_embeds": words, "negative_prompt_embeds": -words}
        given |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": -pooled}
        return pipe_call(pipe, callback, **given, **options)

    return call


def pipe_call(pipe, callback, schedule: str | None = None, seed: int = 0, **options) -> Tensor | np.ndarray:
    """Call a pipeline from a seed, with a scheduler by its name; return latents, unless asked for another output."""
    if schedule:
        pipe.scheduler = scheduler(schedule)
    side = SIZE * pipe.vae_scale_factor
    settings = {"height": side, "width": side, "num_inference_steps": STEPS, "output_type": "latent"} | options
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(1)  # for schedulers that draw from torch's own generator
    return pipe(callback_on_step_end=callback, generator=generator, **settings).images


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_binds(latents: Tensor, reference: Tensor, factor: int, atol: float = 1e-4) -> None:
    """D(latents) = D(reference), D being resize-right's."""
    low, wanted = (
        reference_resize(images.float(), scale_factors=1 / factor, pad_mode="symmetric")
        for images in (latents, reference.expand_as(latents))
    )
    torch.testing.assert_close(low, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(
    ("pipeline", "schedule"),
    [
        *(("stable_diffusion", name) for name in [*VARIANCE_PRESERVING, "EDM Euler"]),
        *(("stable_diffusion_xl", name) for name in ("DDPM", "Euler", "Heun", "DPM++ 2M", "UniPC")),
        *(("stable_diffusion_3", name) for name in FLOW_MATCHING),
    ],
)
def test_the_reference_binds_in_every_pipeline_with_every_scheduler(request, pipeline, schedule, factor):
    call, reference = request.getfixturevalue(pipeline), noise(1, 4, SIZE, SIZE, seed=3)
    latents = call(ILVRCallback(reference, factor, low_pass="projection"), schedule=schedule)
    assert_binds(latents, reference, factor)
    free = call(schedule=schedule)
    with pytest.raises(AssertionError):  # by itself it does not
        assert_binds(free, reference, factor)


@pytest.mark.parametrize("low_pass", ["resize", "projection"])
@pytest.mark.parametrize(
    ("pipeline", "schedule"),
    [
        ("stable_diffusion", "DDPM"),
        ("stable_diffusion", "PNDM"),
        ("stable_diffusion_xl", "Euler ancestral"),
        ("stable_diffusion_3", "flow Euler"),
    ],
)
def test_weight_0_leaves_the_image_as_it_is_to_the_byte(request, pipeline, schedule, low_pass):
    call = request.getfixturevalue(pipeline)
    reference = noise(1, 4, SIZE, SIZE, seed=3)
    options = {"low_pass": low_pass, "generator": torch.Generator()}
    images = [
        call(callback, schedule=schedule, output_type="np")
        for callback in (None, ILVRCallback(reference, 2, weight=0, **options), ILVRCallback(reference, 2, **options))
    ]
    assert images[0].tobytes() == images[1].tobytes() != images[2].tobytes()


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING)
@pytest.mark.parametrize("img2img", [False, True])
def test_the_network_sees_the_reference_at_its_own_noise_level(stable_diffusion, monkeypatch, schedule, img2img):
    """With N = 1 the latents are the reference's. One of 1e4 everywhere shows √ᾱ_t in what the network is given."""
    value, seen = 1e4, []
    pipe = stable_diffusion.pipe
    forward = type(pipe.unet).forward

    def watched(self, sample, timestep, *args, **options):
        seen.append((sample.mean().item() / value, float(timestep)))
        return forward(self, sample, timestep, *args, **options)

    monkeypatch.setattr(type(pipe.unet), "forward", watched)
    callback = ILVRCallback(torch.full((1, 4, SIZE, SIZE), value), 1)
    if img2img:  # leaves out the first steps
        pipe = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = scheduler(schedule)
        start = {"image": noise(1, 4, SIZE, SIZE), "strength": 0.8, "num_inference_steps": 5, "output_type": "latent"}
        latents = pipe("a cat", callback_on_step_end=callback, **start).images
    else:
        latents = stable_diffusion(callback, schedule=schedule)
    torch.testing.assert_close(latents, torch.full_like(latents, value))

    levels = diffusers.DDPMScheduler(**VP).alphas_cumprod.sqrt().numpy()
    checked = seen[1:]
    if schedule in ("Heun", "KDPM2", "KDPM2 ancestral"):  # every second call looks ahead, and is not guided
        assert abs(seen[1][0]) < 0.01
        checked = seen[2::2]
    assert len(checked) >= 2
    for mean, timestep in checked:
        assert mean == pytest.approx(np.interp(timestep, np.arange(1000), levels), abs=2e-3)


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("references", [1, 2])
def test_batches_of_prompts_with_and_without_guidance(stable_diffusion, guidance_scale, references):
    reference = noise(references, 4, SIZE, SIZE, seed=3)
    prompts = ["a red cat", "two dogs"]
    callback = ILVRCallback(reference, 4, low_pass="projection")
    latents = stable_diffusion(callback, prompts, schedule="DDIM", guidance_scale=guidance_scale)
    assert_binds(latents, reference, 4)
    assert (latents[0] - latents[1]).abs().max() > 0.1


def test_guidance_of_the_pipeline_still_works(stable_diffusion):
    callback = ILVRCallback(noise(1, 4, SIZE, SIZE, seed=3), 4, generator=torch.Generator())
    images = []
    for scale in (1.0, 7.5):
        callback.generator.manual_seed(0)
        images.append(stable_diffusion(callback, schedule="DDIM", guidance_scale=scale))
    assert (images[0] - images[1]).abs().max() > 1e-3


def test_a_generator_repeats_the_image(stable_diffusion):
    reference = noise(1, 4, SIZE, SIZE, seed=3)
    images = [
        stable_diffusion(ILVRCallback(reference, 2, generator=torch.Generator().manual_seed(seed)), schedule="DDIM")
        for seed in (0, 0, 1)
    ]
    assert images[0].equal(images[1]) and not images[0].equal(images[2])


def test_range_leaves_the_last_steps_free(stable_diffusion):
    """With all steps free nothing changes, and with one free the last latents are the pipeline's own."""
    reference, steps = torch.zeros(1, 4, SIZE, SIZE), []

    def recorded(callback):
        def record(pipe, step, timestep, given):
            made = callback(pipe, step, timestep, given)
            steps.append(not made["latents"].equal(given["latents"]))
            return made

        return record

    for range_t in (0, 1, STEPS):
        stable_diffusion(recorded(ILVRCallback(reference, 2, range_t=range_t)), schedule="Euler")
    assert steps == [True] * 4 + [True] * 3 + [False] + [False] * 4


def test_the_mask_says_where_it_binds(stable_diffusion):
    reference, mask = noise(1, 4, SIZE, SIZE, seed=3), torch.zeros(1, 1, SIZE, SIZE)
    mask[..., : SIZE // 2] = 1
    left, right = slice(None, SIZE // 2), slice(SIZE // 2, None)
    before = []

    def keep(pipe, step, timestep, given):
        before.append(given["latents"])
        return ILVRCallback(reference, 1, mask=mask)(pipe, step, timestep, given)

    latents = stable_diffusion(keep, schedule="DDIM")
    torch.testing.assert_close(latents[..., left], reference[..., left], rtol=0, atol=1e-5)
    assert latents[..., right].equal(before[-1][..., right])
    pipe, last = stable_diffusion.pipe, stable_diffusion.pipe.scheduler.timesteps[-1]
    halved = ILVRCallback(reference, 1, weight=0.5, mask=mask)
    half = halved(pipe, STEPS - 1, last, {"latents": before[-1]})["latents"]
    torch.testing.assert_close(half[..., left], ((before[-1] + reference) / 2)[..., left])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(stable_diffusion, dtype):
    pipe, reference = stable_diffusion.pipe, noise(1, 4, SIZE, SIZE, seed=3)
    try:
        pipe.to(dtype)
        latents = stable_diffusion(ILVRCallback(reference.to(dtype), 4, low_pass="projection"), schedule="Euler")
    finally:
        pipe.to(torch.float32)
    assert latents.dtype == dtype
    assert_binds(latents, reference, 4, atol=8 * torch.finfo(dtype).eps)  # latents of up to 4, rounded, and y_0 too


@pytest.mark.slow
def test_no_diffusers_is_imported():
    code = "import sys, diffusions.pipelines; sys.exit('diffusers' in sys.modules)"
    assert run_command(sys.executable, "-c", code).returncode == 0


def test_a_pipeline_without_callbacks():
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, num_layers=1, sample_size=SIZE, norm_num_groups=2
    )
    pipe = diffusers.DiTPipeline(network, make_vae(), scheduler("DDIM"))
    reference = torch.zeros(1, 4, SIZE, SIZE)
    with pytest.raises(ValueError, match="DiTPipeline takes no callback_on_step_end: ILVR cannot act in it"):
        ILVRCallback(reference, pipe=pipe)
    with pytest.raises(TypeError, match="callback_on_step_end"):
        pipe([0], callback_on_step_end=ILVRCallback(reference))


def test_a_reference_of_another_shape(stable_diffusion):
    assert ILVRCallback(torch.zeros(1, 4, 8, 8), pipe=stable_diffusion.pipe)
    for shape in ((1, 4, 8, 8), (3, 4, SIZE, SIZE), (1, 3, SIZE, SIZE)):
        message = rf"reference_latents are of shape \[{', '.join(map(str, shape))}\], but the pipeline's latents "
        with pytest.raises(ValueError, match=message + r"\[1, 4, 16, 16\]"):
            stable_diffusion(ILVRCallback(torch.zeros(shape)), schedule="DDIM")
    pipe, packed = stable_diffusion.pipe, {"latents": torch.zeros(1, SIZE * SIZE // 4, 16)}  # as Flux has them
    with pytest.raises(ValueError, match=r"but the pipeline's latents \[1, 64, 16\]"):
        ILVRCallback(torch.zeros(1, 4, SIZE, SIZE))(pipe, 0, pipe.scheduler.timesteps[0], packed)


def test_a_scheduler_that_cannot_noise(stable_diffusion, monkeypatch):
    monkeypatch.delattr(diffusers.DDIMScheduler, "add_noise")
    message = "DDIMScheduler has neither add_noise nor scale_noise, which ILVR needs"
    with pytest.raises(ValueError, match=message):
        stable_diffusion(ILVRCallback(torch.zeros(1, 4, SIZE, SIZE)), schedule="DDIM")


def test_latents_that_are_not_passed(stable_diffusion):
    with pytest.raises(ValueError, match='needs "latents" among callback_on_step_end_tensor_inputs'):
        stable_diffusion(
            ILVRCallback(torch.zeros(1, 4, SIZE, SIZE)), callback_on_step_end_tensor_inputs=["prompt_embeds"]
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1.5}, r"weight must be in 0 … 1, not 1.5"),
        ({"range_t": -1}, r"range_t must be at least 0, not -1"),
        ({"downsample_factor": 17}, r"downsample_factor must be in 1 … 16, not 17"),
        ({"low_pass": "none"}, r"low_pass must be one of"),
        ({"mask": torch.zeros(1, 4, SIZE, SIZE)}, r"mask must be a tensor of shape \[1, 1, 16, 16\]"),
        ({"mask": torch.zeros(2, 1, SIZE, SIZE)}, r"mask must be a tensor of shape \[1, 1, 16, 16\]"),
        ({"mask": torch.full((1, 1, SIZE, SIZE), 2.0)}, r"mask must be .* with values in 0 … 1"),
        ({"mask": torch.full((1, 1, SIZE, SIZE), torch.nan)}, r"mask must be .* with values in 0 … 1"),
    ],
)
def test_arguments_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        ILVRCallback(torch.zeros(1, 4, SIZE, SIZE), **options)


def test_the_readmes_own_code(stable_diffusion):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8").partition("## In a pipeline of diffusers")[2]
    example = readme.partition("```python\n")[2].partition("```")[0].replace("512", str(2 * SIZE))
    picture = Image.open(PROJECT / "assets" / "references" / "photo-astronaut.jpg")
    names = {"pipe": stable_diffusion.pipe, "picture": picture}
    exec(example, names)
    assert names["image"].size == (2 * SIZE, 2 * SIZE)


@pytest.mark.slow
def test_the_example(stable_diffusion, tmp_path):
    stable_diffusion.pipe.save_pretrained(tmp_path / "tiny")
    picture = PROJECT / "assets" / "references" / "photo-astronaut.jpg"
    done = run_command(
        sys.executable, "-m", "examples.pipeline", "a red cat", picture, tmp_path / "out.png", tmp_path / "tiny"
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (2 * SIZE, 2 * SIZE)

"""Files of other things than networks that draw images from noise alone, told by their parameters' names."""

from collections.abc import Callable, Collection, Mapping, Sequence

Shapes = Mapping[str, Sequence[int]]


def _any_part(*parts: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(part in name for name in shapes for part in parts)


def _begins(names: Collection[str], *beginnings: str) -> bool:
    return any(name.startswith(beginnings) for name in names)


def _lucidrains(tells: Callable[[Shapes], bool]) -> Callable[[Shapes], bool]:
    return lambda shapes: (
        {"init_conv.weight", "final_conv.weight", "time_mlp.1.weight"} <= set(shapes) and tells(shapes)
    )


# what such a file is, and how its names tell
FOREIGN: Mapping[str, Callable[[Shapes], bool]] = {
    "a LoRA, an addition to another network": _any_part("lora_", ".lora."),
    "a ControlNet, an addition to another network": _any_part("controlnet_cond_embedding", "zero_convs."),
    "a text-to-image network, which draws from a description": _any_part(
        ".transformer_blocks.", ".attn2.", "cond_stage_model.", "encoder_kv.", "encoder_hid_proj"
    ),
    "a transformer; only convolutional networks are built": _any_part(
        "adaLN_modulation", "transformer_blocks.", "patch_embed", "x_embedder"
    ),
    "a classifier, which judges images and draws none": lambda shapes: (
        _begins(shapes, "input_blocks.") and not _begins(shapes, "output_blocks.")
    ),
    "an upsampler, which needs a smaller image at every step": lambda shapes: (
        _begins(shapes, "output_blocks.") and tuple(shapes.get("input_blocks.0.0.weight", (0, 0)))[1] == 6
    ),
    "an autoencoder, and its diffusion network is another file": lambda shapes: (
        _begins(shapes, "encoder.") and _begins(shapes, "decoder.")
    ),
    "an NCSN++ that is told the noise level by random frequencies (VE), which only EDM's pickles are read of": (
        lambda shapes: "all_modules.0.W" in shapes
    ),
    "denoising-diffusion-pytorch before version 1.8 of June 2023; only those since 2.0 of May 2024 are read": (
        _lucidrains(_any_part(".fn."))
    ),
    "denoising-diffusion-pytorch before version 1.9 of October 2023; only those since 2.0 of May 2024 are read": (
        _lucidrains(lambda shapes: not _any_part(".mem_kv")(shapes))
    ),
    "denoising-diffusion-pytorch before version 2.0 of May 2024; only those since then are read": (
        _lucidrains(_any_part(".block1.norm.weight"))
    ),
    "a network with self_condition, which also wants its own last prediction": _lucidrains(
        lambda shapes: shapes["init_conv.weight"][1] == 2 * shapes["final_conv.weight"][0]
    ),
    "a network with learned or random sinusoids of the timestep, which are not built": _lucidrains(
        _any_part("time_mlp.0.weights")
    ),
}


def foreign_kind(shapes: Shapes) -> str | None:
    """What a file is that no family knows, or that only looks like one of theirs; None where nothing tells.

    Args:
        shapes: of its tensors, by their names.
    """
    return next((kind for kind, tells in FOREIGN.items() if tells(shapes)), None)

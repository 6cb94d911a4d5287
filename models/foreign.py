"""Files of other things than networks that draw images from noise alone, told by their parameters' names."""

from collections.abc import Callable, Collection, Mapping, Sequence

Shapes = Mapping[str, Sequence[int]]


def _any_part(*parts: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(part in name for name in shapes for part in parts)


def _begins(names: Collection[str], *beginnings: str) -> bool:
    return any(name.startswith(beginnings) for name in names)


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
}


def foreign_kind(shapes: Shapes) -> str | None:
    """What a file is that no family knows, or that only looks like one of theirs; None where nothing tells.

    Args:
        shapes: of its tensors, by their names.
    """
    return next((kind for kind, tells in FOREIGN.items() if tells(shapes)), None)

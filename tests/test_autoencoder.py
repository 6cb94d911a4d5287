"""The autoencoder of latent diffusion, against diffusers' own and under both its names."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.conversion import build_network
from models.families import compvis, diffusers_autoencoder
from models.families.family import Family
from models.files.config import read_config
from models.networks.autoencoder import PIXELS_AT_ONCE, Autoencoder, nearest_entries
from utils.errors import InputError
from utils.files import PROJECT

CODER = {"z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "num_res_blocks": 2, "dropout": 0.0}


def build(family: Family, params: Mapping[str, Any]) -> Autoencoder:
    params = {name: value for name, value in params.items() if name[0] != "_" and name not in family.ignored_params}
    return Autoencoder(**family.network_params(**params)).eval()


def random_theirs(kind: type, seed: int) -> VQModel | AutoencoderKL:
    """A small autoencoder, none of whose choices is the same for all seeds, with parameters that all matter."""
    draw = random.Random(seed)
    levels = draw.choice([1, 2, 3])
    params: dict[str, Any] = {
        "in_channels": (channels := draw.choice([1, 3])),
        "out_channels": channels,
        "block_out_channels": [draw.choice([16, 24, 32]) for _ in range(levels)],
        "layers_per_block": draw.choice([1, 2]),
        "down_block_types": draw.choices(["DownEncoderBlock2D", "AttnDownEncoderBlock2D"], k=levels),
        "up_block_types": draw.choices(["UpDecoderBlock2D", "AttnUpDecoderBlock2D"], k=levels),
        "latent_channels": draw.choice([3, 4]),
        "norm_num_groups": draw.choice([4, 8]),
        "act_fn": draw.choice(["silu", "swish"]),
        "mid_block_add_attention": draw.choice([True, True, False]),
        "scaling_factor": draw.choice([0.18215, 1.0]),
    }
    if kind is VQModel:
        params |= {"num_vq_embeddings": 50, "vq_embed_dim": draw.choice([None, 2])}
    torch.manual_seed(seed)
    theirs = kind(**params).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    if kind is VQModel:
        theirs.quantize.embedding.weight.data.normal_()
    return theirs


def load_theirs(theirs: VQModel | AutoencoderKL) -> Autoencoder:
    family = diffusers_autoencoder.FAMILY
    ours, state = build(family, theirs.config), theirs.state_dict()
    names = family.names(ours)
    assert sorted(name for parts in names.values() for name in parts) == sorted(state)
    ours.load_state_dict({name: torch.cat([state[part] for part in parts]) for name, parts in names.items()})
    return ours


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() / theirs.abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", [VQModel, AutoencoderKL])
def test_random_networks_agree_with_diffusers(kind, seed):
    theirs = random_theirs(kind, seed)
    ours, scale = load_theirs(theirs), theirs.config.scaling_factor
    images = torch.rand(2, theirs.config.in_channels, 16, 24) * 2 - 1
    with torch.no_grad():
        encoded = theirs.encode(images)
        latents = encoded.latents if kind is VQModel else encoded.latent_dist.mode()
        decoded = theirs.decode(latents).sample
    assert_close(ours.encode(images), latents * scale)
    assert_close(ours.decode(latents * scale), decoded)
    assert ours.encode(images).shape == (2, ours.latent_channels, 16 // ours.factor, 24 // ours.factor)


@pytest.mark.parametrize(
    "coder",
    [{"ch": 32, "ch_mult": [1, 2, 2], "attn_resolutions": []}, {"ch": 64, "ch_mult": [1, 1], "attn_resolutions": []}],
)
def test_latent_diffusions_names_are_those_that_diffusers_translates(coder):
    """From our parameters to CompVis's names, and from those by diffusers' own converter into its AutoencoderKL."""
    family = compvis.FAMILY
    torch.manual_seed(0)
    ours = build(family, {"embed_dim": 4, "monitor": "val/rec_loss", "ddconfig": CODER | coder | {"double_z": True}})
    state = {}
    for name, parts in family.names(ours).items():
        for part, tensor in zip(parts, ours.state_dict()[name].chunk(len(parts)), strict=True):
            convolution = ".attn_1." in part and tensor.ndim == 2
            state[f"first_stage_model.{part}"] = tensor[:, :, None, None] if convolution else tensor
    levels = len(coder["ch_mult"])
    theirs = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=[coder["ch"] * mult for mult in coder["ch_mult"]],
        layers_per_block=2,
    ).eval()
    theirs.load_state_dict(convert_ldm_vae_checkpoint(state, dict(theirs.config)))
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        latents = theirs.encode(images).latent_dist.mode()
        decoded = theirs.decode(latents).sample
    assert_close(ours.encode(images), latents)
    assert_close(ours.decode(latents), decoded)


@pytest.mark.parametrize(("name", "count"), [("ldm_ffhq_256", 55_322_782), ("ldm_lsun_church_256", 83_653_863)])
def test_full_size_networks_have_the_published_number_of_parameters(name, count):
    """That of the church is also Stable Diffusion's."""
    config = read_config(PROJECT / "configs" / f"{name}.yaml")
    assert sum(parameter.numel() for parameter in build_network(config.autoencoder).parameters()) == count


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor made meanwhile, in elements."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_a_batch_takes_no_more_memory_than_an_image():
    ours = load_theirs(random_theirs(VQModel, 0))
    images = torch.rand(3, ours.image_channels, 16, 16)
    latents = ours.encode(images)
    for function, batch in ((ours.encode, images), (ours.decode, latents)):
        with LargestTensor() as one:
            function(batch[:1])
        with LargestTensor() as three:
            function(batch)
        assert 0 < three.elements == one.elements


def test_the_nearest_entry_replaces_each_pixel_whatever_its_number():
    """Against the definition, in float64; the distances of all pixels are never in memory together."""
    torch.manual_seed(0)
    latents, entries = torch.randn(3, 4, 31, 33), torch.randn(70, 4)
    with LargestTensor() as largest:
        found = nearest_entries(latents, entries)
    assert largest.elements <= PIXELS_AT_ONCE * len(entries)
    differences = latents.movedim(1, -1)[..., None, :].double() - entries.double()
    assert torch.equal(found, entries[differences.square().sum(-1).argmin(-1)].movedim(-1, 1))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (diffusers_autoencoder, {"norm_type": "spatial"}, "norm_type 'spatial' of VQModel is not supported"),
        (diffusers_autoencoder, {"down_block_types": ["DownBlock2D"]}, "down_block_types 'DownBlock2D' of VQModel"),
        (diffusers_autoencoder, {"up_block_types": []}, "must have the same length"),
        (
            diffusers_autoencoder,
            {"num_vq_embeddings": None, "shift_factor": 0.1},
            "shift_factor 0.1 of AutoencoderKL",
        ),
        (diffusers_autoencoder, {"out_channels": 1}, "must be the same"),
        (diffusers_autoencoder, {"layers_per_block": 10**9}, "more than 1000 blocks"),
        (compvis, {"ddconfig": CODER | {"double_z": False}}, "double_z"),
        (
            compvis,
            {"ddconfig": CODER | {"double_z": True, "ch": 32, "out_ch": 1, "attn_resolutions": []}},
            "must be the same",
        ),
    ],
)
def test_what_the_autoencoder_has_no_part_for_is_refused_by_name(family, changes, message):
    params = {"num_vq_embeddings": 8} if family is diffusers_autoencoder else {"embed_dim": 4}
    with pytest.raises((InputError, ValueError), match=message):
        build(family.FAMILY, params | changes)

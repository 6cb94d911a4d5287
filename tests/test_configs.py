"""Every config of configs/ fits the checkpoint it is for."""

import json
from pathlib import Path

import pytest
import torch

from models.conversion import build_network, convert
from models.files.config import read_config
from utils.files import PROJECT

DATA = Path(__file__).parent / "data"

# the parameter names and shapes of the published file; None where we have no list of them
LISTINGS = {
    "pesser_celebahq_256": "pesser_celebahq_256",
    "pesser_lsun_church_256": "pesser_celebahq_256",
    "pesser_lsun_bedroom_256": "pesser_celebahq_256",
    "pesser_lsun_cat_256": "pesser_celebahq_256",
    "pesser_cifar10_32": "pesser_cifar10_32",
    "ilvr_ffhq_256": "adm_p2_ffhq_256",
    "ilvr_afhq_dog_256": "adm_p2_ffhq_256",
    "p2_ffhq_256": "adm_p2_ffhq_256",
    "p2_celebahq_256": "adm_p2_ffhq_256",
    "p2_afhq_dog_256": "adm_p2_ffhq_256",
    "p2_cub_256": "adm_p2_ffhq_256",
    "p2_flowers_256": "adm_p2_ffhq_256",
    "p2_metfaces_256": "adm_p2_ffhq_256",
    "cycle_afhq_cat_256": "adm_p2_ffhq_256",
    "cycle_afhq_wild_256": "adm_p2_ffhq_256",
    "repaint_celebahq_256": "adm_imagenet_256_uncond",
    "repaint_places2_256": "adm_imagenet_256_uncond",
    "disco_comic_faces_256": "adm_imagenet_256_uncond",
    "sdedit_celebahq_256": "pesser_celebahq_256",
    "sdedit_lsun_bedroom_256": "pesser_celebahq_256",
    "sdedit_lsun_church_256": "pesser_celebahq_256",
    "adm_imagenet_256": "adm_imagenet_256_uncond",
    "adm_lsun_bedroom_256": "adm_imagenet_256_uncond",
    "adm_lsun_cat_256": "adm_imagenet_256_uncond",
    "adm_lsun_horse_256": "adm_imagenet_256_uncond",
    "adm_imagenet_256_class": "adm_imagenet_256_class",
    "google_ddpm_celebahq_256": "diffusers_ddpm_celebahq_256",
    "google_ddpm_church_256": "diffusers_ddpm_celebahq_256",
    "google_ddpm_bedroom_256": "diffusers_ddpm_celebahq_256",
    "google_ddpm_cat_256": "diffusers_ddpm_celebahq_256",
    "google_ddpm_ema_celebahq_256": "diffusers_ddpm_celebahq_256",
    "google_ddpm_ema_church_256": "diffusers_ddpm_celebahq_256",
    "google_ddpm_ema_bedroom_256": "diffusers_ddpm_celebahq_256",
    "google_ddpm_ema_cat_256": "diffusers_ddpm_celebahq_256",
}
# of the others, the millions of parameters that the papers tell (ADM: Dhariwal & Nichol 2021, table 12; Ho et al. 2020)
# or that the training code prints (LDM)
MILLIONS = {
    "adm_imagenet_64_class": 296,
    "adm_imagenet_128_class": 422,
    "adm_imagenet_512_class": 559,
    "google_ddpm_cifar10_32": 35.7,
    "edm_imagenet_64_class": 296,
    "edm_lsun_bedroom_256": 526,  # of the same networks as openai/diffusers-cd_bedroom256_l2 and -cd_cat256_l2
    "edm_lsun_cat_256": 526,
    "pytorch_ddpm_cifar10_32": 35.7,
    "score_sde_ddpm_cifar10_32": 35.2,  # on the way up, one attention where Ho et al. have three
    "score_sde_ddpmpp_cifar10_32": 62,
    "score_sde_ddpmpp_deep_cifar10_32": 107,
    "ddim_celeba_64": 78.7,
    "disco_imagenet_512": 558.0,
    "disco_feiart_512": 558.0,
    "disco_isometric_512": 558.0,
    "disco_portrait_512": 139.6,
    "disco_ukiyoe_256": 138.3,
    "disco_pixel_art_256": 113.7,
    "disco_watercolour_256": 113.7,
    "disco_pulp_scifi_256": 113.7,
    "improved_lsun_bedroom_256": 113.7,
    "improved_cifar10_32": 52.5,  # the names of these three files round to 50M, 100M and 270M
    "improved_imagenet_64": 121,
    "improved_imagenet_64_class": 273,
    "ldm_celebahq_256": 274.1,
    "ldm_ffhq_256": 274.1,
    "ldm_lsun_bedroom_256": 274.1,
    "ldm_lsun_church_256": 295.0,
}
CONFIGS = sorted(path.stem for path in (PROJECT / "configs").glob("*.yaml"))
EMBEDDED = {"atlas64", "openpeeps64"}


def config(name):
    return read_config(PROJECT / "configs" / f"{name}.yaml")


def test_no_config_is_left_out():
    assert set(CONFIGS) - EMBEDDED == LISTINGS.keys() | MILLIONS.keys()


def test_the_table_of_weights_has_each_config():
    table = (PROJECT / "weights" / "README.md").read_text()
    for name in CONFIGS:
        weights = config(name).weights.removeprefix("weights/")
        assert weights in table
        assert f"-c configs/{name}.yaml" in table or f"--weights {weights}" in table or name in EMBEDDED


@pytest.mark.parametrize("name", LISTINGS)
def test_names_and_shapes(name):
    listing = json.loads((DATA / f"{LISTINGS[name]}.json").read_text())
    state = {key: torch.empty(shape, device="meta") for key, shape in listing.items()}
    settings = config(name)
    unet = build_network(settings)
    converted = convert(state, unet, settings, name)
    assert {key: tensor.shape for key, tensor in converted.items()} == {
        key: tensor.shape for key, tensor in unet.state_dict().items()
    }


@pytest.mark.parametrize("name", MILLIONS)
def test_number_of_parameters(name):
    parameters = sum(parameter.numel() for parameter in build_network(config(name)).parameters())
    assert parameters / 1e6 == pytest.approx(MILLIONS[name], abs=0.5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_network_fits_its_images_and_diffusion(name):
    settings = config(name)
    unet = build_network(settings)
    channels = 2 if settings.diffusion["var_type"] == "learned_range" else 1
    latent_channels, factor = settings.image_channels, 1
    if settings.autoencoder:
        autoencoder = build_network(settings.autoencoder)
        assert autoencoder.image_channels == settings.image_channels
        latent_channels, factor = autoencoder.latent_channels, autoencoder.factor
        assert settings.params["image_size"] == settings.image_size // factor
    assert unet.out_channels == channels * latent_channels
    assert settings.image_size % (unet.size_multiple * factor) == 0
    assert settings.make_process().alphas_cumprod[-1] < 0.01


def test_diffusers_own_words():
    """The config.json that is published with google/ddpm-celebahq-256 and our YAML make the same network."""
    published = json.loads((DATA / "diffusers_ddpm_celebahq_256.config.json").read_text())
    published = {key: value for key, value in published.items() if not key.startswith("_")}
    ours = config("google_ddpm_celebahq_256").params
    assert ours.items() <= published.items()

"""The translation benchmark: that its measures see what they should, its references are whole, and it runs."""

import csv

import numpy as np
import pytest
import torch

from benchmarks import measures
from benchmarks.foreign import CREDITS, PICTURES, SHEET, STYLES, load_foreign
from benchmarks.held_out import load_held_out
from benchmarks.measures import measure_detail, resample
from benchmarks.patch_distance import PATCH, SAMPLE_PATCHES, PatchDistance, patches
from benchmarks.research import translation
from benchmarks.research.disturbances import DISTURBANCES
from benchmarks.sheet import read_sheet, write_sheet


@pytest.fixture(scope="module")
def portraits():
    return load_held_out()


@pytest.fixture(scope="module")
def distance(portraits):
    return PatchDistance(portraits[:200], portraits[200:212])


def test_a_patch_is_as_far_as_the_nearest_real_one():
    images = torch.rand(5, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distance = PatchDistance(images[:3], images[3:])
    found = distance(images[3:]) * distance.unit
    real, sampled = patches(images[:3], 300, 0), patches(images[3:], SAMPLE_PATCHES, 1)
    nearest = torch.cdist(sampled.double(), real.double()).amin(1).unflatten(0, (2, -1)).mean(1)
    torch.testing.assert_close(found, nearest.float(), rtol=1e-4, atol=1e-4)
    assert distance(images[3:]).mean() == pytest.approx(1)


def test_patches_are_of_the_image():
    image = torch.arange(2 * 3 * 12 * 15.0).reshape(2, 3, 12, 15)
    found = patches(image, 7, seed=0).unflatten(0, (2, 7)).unflatten(2, (PATCH, PATCH, 3))
    for i in range(2):
        for patch in found[i]:
            top, left = divmod(int(patch[0, 0, 0]) - 540 * i, 15)
            assert torch.equal(patch, image[i, :, top : top + PATCH, left : left + PATCH].movedim(0, -1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blur", "fade", "halo", "noise"])
def test_what_is_wrong_with_an_image_lengthens_its_patch_distance(portraits, distance, name):
    real = portraits[200:212]
    distances = [distance(real).mean(), *(distance(disturb(real)).mean() for disturb in DISTURBANCES[name].values())]
    assert distances == sorted(distances)
    assert distances[-1] > 1.15 * distances[0]


def test_detail_tells_faded_lines(portraits):
    real, weights = portraits[200:212], resample(12, seed=0)
    faded = DISTURBANCES["fade"][0.5](real)
    assert measure_detail(real, weights, real)["detail"][0] == pytest.approx(1, abs=0.01)
    assert measure_detail(faded, weights, real)["detail"][0] < 0.7


def test_foreign_styles_are_far_from_the_models(distance):
    foreign = load_foreign()
    assert foreign.shape == (9 * STYLES, 3, 64, 64)
    styles = distance(foreign[: 2 * STYLES]).unflatten(0, (2, STYLES)).mean(0)
    assert (styles > 1).all() and styles.mean() > 1.3


def test_every_foreign_picture_has_its_author_and_a_free_licence():
    with CREDITS.open(newline="", encoding="utf-8") as file:
        credits = {row["name"]: row for row in csv.DictReader(file)}
    assert len(credits) == STYLES + len({picture.credit for picture in PICTURES})
    assert {picture.credit.name for picture in PICTURES} < credits.keys()
    for row in credits.values():
        assert all(row.values())
        assert row["licence"] in ("CC0 1.0", "CC BY 4.0", "public domain")


def test_a_sheet_gives_back_its_pictures(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 2, 2, 3), np.uint8)
    pictures = colours.repeat(32, axis=2).repeat(32, axis=3)
    write_sheet(pictures, tmp_path / "sheet.webp")
    found = ((read_sheet(tmp_path / "sheet.webp") + 1) * 127.5).round().to(torch.uint8)
    assert np.array_equal(found.movedim(1, -1).numpy(), pictures.reshape(6, 64, 64, 3))
    assert SHEET.stat().st_size < 300_000


@pytest.mark.slow
def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "RESAMPLES", 3)
    monkeypatch.setattr("sys.argv", ["translation", "--quick", "--save_dir", str(tmp_path)])
    translation.main()
    with (tmp_path / "translation.csv").open(newline="") as file:
        rows = {(row["name"], row["refine"], row["range_t"], row["candidates"]): row for row in csv.DictReader(file)}
    assert len(rows) == sum(map(len, DISTURBANCES.values())) + 1 + len(translation.quick_settings())
    refined, regions = rows["samples", "sample", "0", "1"], rows["samples", "regions", "0", "1"]
    assert float(refined["fidelity_8"]) < float(rows["samples", "sample", "1", "1"]["fidelity_8"])
    assert float(refined["fidelity_8"]) < float(regions["fidelity_8"])
    assert (tmp_path / "translation-front.png").stat().st_size > 10_000


def test_every_setting_is_of_its_own():
    settings = translation.all_settings()
    assert len(set(settings)) == len(settings)
    assert settings[0] == translation.Setting()  # the paper's, which the others are compared with

"""The quality benchmark: that its measures measure, and that it runs from end to end."""

import csv
from dataclasses import replace

import pytest
import torch

from benchmarks import measures, quality
from benchmarks.held_out import load_held_out
from benchmarks.measures import interval, measure_diversity, measure_fidelity, measure_realism, resample
from benchmarks.ms_ssim import ms_ssim
from benchmarks.realism import Realism, weighted_w1
from diffusions import Process


@pytest.fixture(scope="module")
def portraits():
    return load_held_out()


def test_ms_ssim(portraits):
    torch.manual_seed(0)
    a = portraits[:4]
    noisy = (a + 0.3 * torch.randn_like(a)).clamp(-1, 1)
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(4))
    torch.testing.assert_close(ms_ssim(a, noisy), ms_ssim(noisy, a))
    assert (ms_ssim(a, noisy) < 0.95).all()
    assert (ms_ssim(a, a.flip(0)) < ms_ssim(a, noisy)).all()


def test_w1_of_equal_counts_is_the_distance_of_the_sorted():
    torch.manual_seed(0)
    a, b = torch.randn(500), 1 + torch.randn(500)
    mass = torch.cat([torch.full([1, 500], 1 / 500), torch.full([1, 500], -1 / 500)], dim=1)
    torch.testing.assert_close(weighted_w1(a, b, mass)[0], (a.sort()[0] - b.sort()[0]).abs().mean())


def test_a_weight_of_two_is_the_sample_twice():
    torch.manual_seed(0)
    a, b = torch.randn(3), torch.randn(4)
    doubled, fourths = torch.tensor([[1.0, 2.0, 1.0]]) / 4, torch.full([1, 4], -1 / 4)
    expected = (a[[0, 1, 1, 2]].sort()[0] - b.sort()[0]).abs().mean()
    torch.testing.assert_close(weighted_w1(a, b, torch.cat([doubled, fourths], dim=1))[0], expected)


def test_realism_tells_real_images_from_blurred_ones(portraits):
    realism, weights = Realism(portraits[:32]), resample(8, seed=0)[:5]
    real = measure_realism(portraits[32:48], weights, realism)
    blurred = measure_realism(torch.nn.functional.avg_pool2d(portraits[32:48], 3, 1, 1), weights, realism)
    assert set(real) == {"realism", "realism_64", "realism_32", "realism_16"}
    assert real["realism"].shape == (5,)
    assert blurred["realism_64"][0] > 2 * real["realism_64"][0]


def test_fidelity_and_diversity_of_known_samples(portraits):
    references = portraits[:3].repeat(2, 1, 1, 1) * 0.5
    samples = references.clone()
    samples[:3] += 10 / 127.5  # the first variation is 10 grey levels brighter
    weights = resample(3, seed=0)
    fidelity = measure_fidelity(samples, references, 8, weights)
    diversity = measure_diversity(samples, weights)
    assert fidelity["fidelity_raw"][0] == pytest.approx(50**0.5, rel=1e-4)  # root of the mean of 100 and 0
    assert fidelity["fidelity"][0] == pytest.approx(50**0.5, abs=0.5)
    assert fidelity["within_1"][0] == 0.5
    assert diversity["diversity"][0] == pytest.approx(10, abs=0.1)
    assert 0 < diversity["diversity_ssim"][0] < 0.1


def test_interval_lies_around_the_estimate():
    value, low, high = interval(torch.tensor([5.0, 4.0, 6.0, 5.0]))
    assert low < value == 5 < high
    assert high - value == pytest.approx(value - low)


@pytest.mark.slow
def test_quick_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measures, "RESAMPLES", 3)
    monkeypatch.setattr("sys.argv", ["quality", "--quick", "--save_dir", str(tmp_path)])
    quality.main()
    with (tmp_path / "quality.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["name"] for row in rows]
    assert names == ["real images", "the references", *["samples"] * 4, "unconditional"]
    projection = rows[3]
    assert float(projection["fidelity_raw"]) < 0.01
    assert float(projection["within_1"]) == 1
    assert (tmp_path / "quality.png").stat().st_size > 10_000
    assert capsys.readouterr().out.count("\n|") == len(rows) + 2


def test_every_setting_is_one_the_samplers_take():
    settings = quality.all_settings()
    assert len(set(settings)) == len(settings)
    images = torch.zeros(1, 3, 64, 64)
    for setting in settings:
        shortened = replace(setting, strength=1 / setting.steps)  # the last step alone
        assert quality.draw_setting(lambda x, t: x, Process(), shortened, images).shape == images.shape

"""What binds where and how much: masks, transparent pixels, the weight, N along the walk, and the filters without N."""

import json
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from diffusions import DDPM, GUIDES, ILVR, Guide, Process, Regions
from diffusions.low_pass import LowPass
from diffusions.sampler import MAX_FILTERS
from tests.commands import launch, read_images, run_here
from utils.images import read_png_text
from utils.run.samples import Binding
from utils.run.sampling import make_guide

HALF = np.repeat([[255, 0]], 8, axis=1).repeat(16, 0).astype(np.uint8)  # white on the left


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def walk(guide: Guide, steps: int = 20, walk_steps: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    sampler = DDPM(Process(), steps)
    return sampler.sample(
        lambda x, t: 0.5 * x, normal(*guide.reference.shape), guide,
        lambda like: torch.randn(like.shape, generator=generator), walk_steps,
    )  # fmt: skip


def mask_of(*shape: int) -> Tensor:
    mask = torch.zeros(shape)
    mask[..., : shape[-1] // 2] = 1
    mask[..., : shape[-2] // 2, :] *= 0.5
    return mask


@pytest.mark.parametrize("low_pass", ["resize", "gaussian"])
def test_a_correction_is_scaled_by_mask_and_weight(low_pass):
    reference, sample, mask = normal(2, 3, 16, 24, seed=1), normal(2, 3, 16, 24), mask_of(2, 1, 16, 24)
    last = Process().transitions()[-1]
    plain = ILVR(reference, 4, low_pass=low_pass).guide_sample(sample, last)
    masked = ILVR(reference, 4, low_pass=low_pass, mask=mask).guide_sample(sample, last)
    black, white = (mask == 0).expand_as(sample), (mask == 1).expand_as(sample)
    assert torch.equal(masked[black], sample[black])  # exactly none
    assert torch.equal(masked[white], plain[white])  # exactly all
    grey = ~(black | white)
    torch.testing.assert_close((masked - sample)[grey], 0.5 * (plain - sample)[grey])
    weighted = ILVR(reference, 4, low_pass=low_pass, mask=mask, weight=0.25).guide_sample(sample, last)
    torch.testing.assert_close(weighted - sample, 0.25 * (masked - sample))

    free, bound = Regions(reference, 4, low_pass=low_pass, mask=mask), Regions(reference, 4, low_pass=low_pass)
    free, bound = free.correction(sample, last), bound.correction(sample, last)
    assert not free[black].any() and torch.equal(free[white], bound[white])


@pytest.mark.parametrize("guide", GUIDES.values())
def test_what_changes_nothing_leaves_every_bit(guide):
    reference = normal(2, 3, 16, 16, seed=2).clamp(-1, 1)
    plain = walk(guide(reference, 4))
    assert torch.equal(walk(guide(reference, 4, mask=torch.ones(2, 1, 16, 16), weight=1)), plain)
    assert torch.equal(walk(guide(reference, (4, 4))), plain)
    without = walk(guide(-reference, 8, weight=0))  # whatever the reference is
    assert torch.equal(walk(guide(reference, 4, mask=torch.zeros(2, 1, 16, 16))), without)
    assert not torch.equal(plain, without)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask": torch.ones(1, 1, 8, 8)}, r"mask must be a tensor of shape \[2, 1, 8, 8\]"),
        ({"mask": torch.ones(2, 3, 8, 8)}, r"mask must be a tensor of shape \[2, 1, 8, 8\]"),
        ({"mask": torch.full((2, 1, 8, 8), 1.5)}, "with values in 0 . 1"),
        ({"mask": torch.full((2, 1, 8, 8), torch.nan)}, "with values in 0 . 1"),
        ({"mask": np.ones((2, 1, 8, 8))}, "mask must be a tensor"),
        ({"weight": 1.1}, "weight must be in 0 . 1, not 1.1"),
        ({"weight": -0.1}, "weight must be in 0 . 1, not -0.1"),
        ({"downsample_factor": (8, 4, 2)}, "downsample_factor must be one number, or two to go along"),
        ({"downsample_factor": (9, 4)}, "downsample_factor must be in 1 . 8, not 9"),
        ({"downsample_factor": (4, 0.5)}, "downsample_factor must be in 1 . 8, not 0.5"),
        ({"low_pass": "dft", "pad_mode": "reflect"}, "dft needs pad_mode symmetric or circular, not 'reflect'"),
        ({"low_pass": "gaussian", "pad_mode": "mirror"}, "pad_mode must be one of"),
    ],
)
def test_what_a_guide_cannot_take(values, message):
    with pytest.raises(ValueError, match=message):
        ILVR(torch.zeros(2, 3, 8, 8), **{"downsample_factor": 4, **values})


@pytest.mark.parametrize(("steps", "walk_steps", "range_t"), [(10, None, 0), (10, 6, 2), (50, None, 10), (3, None, 2)])
def test_n_falls_geometrically_along_the_refined_steps(steps, walk_steps, range_t):
    """As numpy's geomspace has it; with more than 12 steps, each value serves several in a row."""
    guide = ILVR(normal(1, 3, 64, 64).clamp(-1, 1), (32, 4), range_t=range_t)
    walk(guide, steps, walk_steps)
    refined = (walk_steps or steps) - range_t
    factors = [guide.low_passes[index].factor for index in range(range_t, range_t + refined)][::-1]
    assert factors[0] == 32 and (factors[-1] == 4 or refined == 1)
    different = list(dict.fromkeys(factors))
    assert len(different) == min(refined, MAX_FILTERS)
    np.testing.assert_allclose(different, np.geomspace(32, 4, len(different)))
    assert factors == sorted(factors, reverse=True)
    assert np.ptp(np.unique(factors, return_counts=True)[1]) <= 1


def test_a_step_of_a_walk_binds_by_its_own_n():
    reference, sample = normal(1, 3, 64, 64, seed=1), normal(1, 3, 64, 64)
    guide = ILVR(reference, (16, 1))
    transitions = Process().transitions(respace_steps=5)
    guide.begin(transitions)
    assert torch.equal(guide.bind(reference - sample, transitions[0]), LowPass(reference, 16)(reference - sample))
    torch.testing.assert_close(guide.guide_sample(sample, transitions[-1]), reference)  # N = 1: all of it
    assert torch.equal(guide.low_frequencies, reference)


@pytest.mark.parametrize("shape", [(16, 24), (15, 9)])
@pytest.mark.parametrize("factor", [1, 2, 2.5, 4])
def test_dft_is_numpys_with_the_high_modes_left_out(shape, factor):
    image = normal(2, *shape, seed=3).double()
    height, width = shape
    found = LowPass(image, factor, pad_mode="circular", low_pass="dft")(image).numpy()
    modes = np.fft.fft2(image.numpy())
    rows, columns = (np.abs(np.fft.fftfreq(n)) * 2 * factor >= 1 for n in shape)
    if factor > 1:
        modes[:, rows[:, None] | columns[None]] = 0
    np.testing.assert_allclose(found, np.fft.ifft2(modes).real, atol=1e-12)

    mirrored = np.pad(image.numpy(), ((0, 0), (0, height), (0, width)), mode="symmetric")
    modes = np.fft.fft2(mirrored)
    rows, columns = (np.abs(np.fft.fftfreq(2 * n)) * 2 * factor >= 1 for n in shape)
    if factor > 1:
        modes[:, rows[:, None] | columns[None]] = 0
    expected = np.fft.ifft2(modes).real[:, :height, :width]
    np.testing.assert_allclose(LowPass(image, factor, low_pass="dft")(image).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 8, 16])
def test_gaussian_is_numpys_convolution_with_the_normal_density(factor):
    image = normal(20, 36, seed=4).double().numpy()
    reach = 2 * factor  # 4 σ
    kernel = np.array([NormalDist(0, factor / 2).pdf(x) for x in range(-reach, reach + 1)])
    padded = np.pad(image, reach, mode="symmetric")
    rows = np.apply_along_axis(np.convolve, 1, padded, kernel / kernel.sum(), "valid")
    expected = np.apply_along_axis(np.convolve, 0, rows, kernel / kernel.sum(), "valid")
    found = LowPass(torch.from_numpy(image), factor, low_pass="gaussian")(torch.from_numpy(image))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("low_pass", ["gaussian", "dft"])
@pytest.mark.parametrize("factor", [1, 1.5, 8, 13])
def test_filters_keep_constants_and_at_n_1_everything(low_pass, factor):
    constant = torch.full((1, 3, 13, 20), 0.7)
    torch.testing.assert_close(LowPass(constant, factor, low_pass=low_pass)(constant), constant)
    image = normal(1, 3, 13, 20)
    if factor == 1:
        torch.testing.assert_close(LowPass(image, 1, low_pass=low_pass)(image), image)


def test_latents_take_the_mean_of_the_pixels_mask():
    mask = mask_of(2, 1, 16, 24)
    model = SimpleNamespace(factor=4, encode=lambda images: images[..., ::4, ::4])
    settings = SimpleNamespace(refine="sample", interp_method="cubic", low_pass="resize", refine_weight=0.5)
    guide = make_guide(model, normal(2, 3, 16, 24), mask, Binding("12:8", 1, (12, 8)), settings)
    np.testing.assert_allclose(guide.share, 0.5 * mask.numpy().reshape(2, 1, 4, 4, 6, 4).mean((3, 5)))
    assert guide.factors == (3, 2)


# ---------------------------------------------------------------- the command


@pytest.fixture
def job(tmp_path, input_dir, tiny_model) -> tuple:
    return ("--weights", tiny_model, "--input_dir", input_dir, "--respace_steps", 3, "--downsample_factor", 4)


def write(folder: Path, **masks: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for name, pixels in masks.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def masks_of(input_dir: Path, folder: Path) -> Path:
    """Masks of the references' own shapes, whose left half is white."""
    for path in input_dir.iterdir():
        with Image.open(path) as picture:
            Image.fromarray(HALF).resize(picture.size, Image.Resampling.NEAREST).save(folder / f"{path.stem}.png")
    return folder


def run(save_dir: Path, *args: object) -> dict[str, np.ndarray]:
    assert run_here(*args, "--save_dir", save_dir) == (0, "")
    return read_images(save_dir)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_white_mask_and_opaque_references_change_no_pixel(tmp_path, job):
    plain = run(tmp_path / "plain", *job)
    white = write(tmp_path / "white", white=np.full((32, 32), 255, np.uint8)) / "white.png"
    assert same(run(tmp_path / "masked", *job, "--mask_dir", white), plain)
    assert same(run(tmp_path / "free", *job, "--transparent", "free"), plain)
    text = read_png_text(tmp_path / "masked" / "a_0.png").text
    assert text["masked"] == "true" and len(text["mask_sha256"]) == 64
    assert yaml.safe_load((tmp_path / "free" / "run.yaml").read_text())["transparent"] == "free"
    run(tmp_path / "same", *job[:-2], "--downsample_factor", "4:4", "--refine_weight", 1, "--transparent", "white")
    for name in plain:
        assert (tmp_path / "same" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


@pytest.mark.slow
def test_at_n_1_the_white_half_is_the_reference(tmp_path, job, input_dir):
    """Inpainting: what the mask shows of each reference stays, and the rest is the model's."""
    masks = masks_of(input_dir, write(tmp_path / "masks"))
    args = (*job[:-2], "--downsample_factor", 1)
    copied, half = run(tmp_path / "whole", *args), run(tmp_path / "half", *args, "--mask_dir", masks)
    for name in copied:
        assert abs(half[name] - copied[name])[:, :7].max() <= 1
        assert abs(half[name] - copied[name])[:, 9:].mean() > 20
        shown = np.asarray(Image.open(tmp_path / "half" / "index_files" / "N1" / f"{name[0]}.png")).astype(int)
        assert abs(shown - copied[name])[:, :7].max() <= 1 and (shown[:, 9:] == 128).all()  # grey where it is free


@pytest.mark.slow
def test_what_is_transparent_binds_nothing(tmp_path, job):
    """The same as a mask of the opacity, over white."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    picture[..., 3] = HALF
    Image.fromarray(picture).save(tmp_path / "scribble.png")
    args = (*job, "--input_dir", tmp_path / "scribble.png")
    free = run(tmp_path / "free", *args, "--transparent", "free")
    masks = write(tmp_path / "masks", scribble=HALF)
    assert same(run(tmp_path / "masked", *args, "--mask_dir", masks), free)
    assert same(run(tmp_path / "both", *args, "--mask_dir", masks, "--transparent", "free"), free)
    assert not same(run(tmp_path / "white", *args), free)


@pytest.mark.slow
def test_three_processes_and_a_resumed_run_make_the_same_images(tmp_path, job, input_dir):
    masks = masks_of(input_dir, write(tmp_path / "masks"))
    args = (*job[:-2], "--downsample_factor", "8:2", 4, "--mask_dir", masks, "--refine_weight", 0.8, "--n_samples", 7)
    args += ("--low_pass", "gaussian")
    one = run(tmp_path / "one", *args, "--micro_batch", 4)
    assert {str(Path(name).parent) for name in one} == {"N8-2", "N4"}
    done = launch(3, *args, "--micro_batch", 2, "--save_dir", tmp_path / "three")
    assert done.returncode == 0, done.stderr
    three = read_images(tmp_path / "three")
    assert one.keys() == three.keys() and max(abs(one[name] - three[name]).max() for name in one) <= 1

    before = {name: (tmp_path / "one" / name).read_bytes() for name in one}
    for lost in ("N8-2/a_0.png", "N4/b_1.png", "N8-2/c_1.png"):
        (tmp_path / "one" / lost).unlink(missing_ok=True)
    run(tmp_path / "one", *args, "--micro_batch", 4)
    assert {name: (tmp_path / "one" / name).read_bytes() for name in one} == before
    assert json.loads(read_png_text(tmp_path / "one" / "N4" / "a_0.png").text["refine_weight"]) == 0.8
    assert read_png_text(tmp_path / "one" / "N8-2" / "a_0.png").text["downsample_factor"] == "8:2"

    with Image.open(masks / "a.png") as mask:  # an edited mask: its reference's images are made again, and no others
        Image.eval(mask, lambda value: 255 - value).save(masks / "a.png")
    run(tmp_path / "one", *args, "--micro_batch", 4)
    assert {name for name in one if (tmp_path / "one" / name).read_bytes() != before[name]} == {
        name for name in one if name.split("/")[1].startswith("a_")
    }


def test_images_of_other_settings_are_not_replaced(tmp_path, job):
    """Also where the record leaves the settings out, of either run."""
    white = write(tmp_path / "white", white=np.full((32, 32), 255, np.uint8)) / "white.png"
    run(tmp_path / "plain", *job)
    changes = {
        ("--refine_weight", 0.5): "refine_weight 1.0, now 0.5",
        ("--mask_dir", white): "masked False, now True",
        ("--transparent", "free"): "transparent 'white', now 'free'",
        ("--refine", "regions"): "refine 'sample', now 'regions'",
    }
    for args, said in changes.items():
        code, error = run_here(*job, *args, "--save_dir", tmp_path / "plain")
        assert code == 2 and said in error
        folder = tmp_path / args[0]
        run(folder, *job, *args)
        before, now = said.split(", now ")
        name, was = before.split(" ")
        code, error = run_here(*job, "--save_dir", folder)
        assert code == 2 and f"{name} {now}, now {was}" in error
        (folder / "run.yaml").unlink()
        code, error = run_here(*job, "--save_dir", folder)
        assert code == 2 and f"was made with other settings ({name} " in error


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--mask_dir", "nothing"], "--mask_dir nothing: no such folder or file"),
        (["--mask_dir", "empty"], "--mask_dir empty: contains no picture"),
        (["--mask_dir", "one"], "--mask_dir one: has no masks for b.jpg; it takes one of its name"),
        (["--mask_dir", "two"], "--mask_dir two: has 2 masks for a.png"),
        (["--mask_dir", "black.png"], "--mask_dir: black.png is black where the image is, so that nothing of a binds"),
        (["--mask_dir", "wide.png"], "--mask_dir: wide.png is 90×20, of another shape than a, 60×40"),
        (["--mask_dir", "broken.png"], "broken.png: cannot be read as an image"),
        (["--mask_dir", "references"], "--mask_dir references: is inside of --input_dir"),
        (["--input_dir", "clear.png", "--transparent", "free"], "--transparent free: clear.png is transparent where"),
        (["--refine_weight", "1.5"], "--refine_weight must be 0 … 1, not 1.5"),
        (["--refine_weight", "nan"], "--refine_weight must be 0 … 1, not nan"),
        (["--downsample_factor", "32:4"], "--downsample_factor must be 1 … 16, not 32"),
        (["--downsample_factor", "4:0.5"], "--downsample_factor must be 1 … 16, not 0.5"),
        (["--downsample_factor", "8:4:2"], "--downsample_factor must be a number, or two like 32:4, not '8:4:2'"),
        (["--downsample_factor", "8:"], "--downsample_factor must be a number, or two like 32:4, not '8:'"),
        (["--low_pass", "dft", "--interp_method", "box"], "--interp_method box: --low_pass dft has no kernel"),
        (["--transparent", "black"], "--transparent must be one of white, free, not 'black'"),
    ],
)  # fmt: skip
def test_what_cannot_bind_is_refused_in_a_line(tmp_path, job, input_dir, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, black=np.zeros((16, 16), np.uint8), wide=np.full((20, 90), 255, np.uint8))
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save("clear.png")
    Path("broken.png").write_bytes(b"\x89PNG\r\n")
    write(tmp_path / "one", a=HALF)
    (tmp_path / "empty").mkdir()
    two = write(tmp_path / "two", a=HALF, b=HALF, c=HALF)
    (two / "a.png").rename(two / "a.gif")
    Image.fromarray(HALF).save(two / "a.bmp")
    code, error = run_here(*job, *args, "--save_dir", "out")
    assert code == 2 and error.startswith(said), error
    assert not [path for path in tmp_path.glob("out/**/*") if path.suffix]


def test_a_mask_may_be_missing_of_no_reference_but_named_as_it(tmp_path, job, input_dir):
    """The name decides, whatever its ending; an equal name is preferred."""
    masks = masks_of(input_dir, write(tmp_path / "masks"))
    (masks / "more").mkdir()
    Image.fromarray(HALF).save(masks / "a.bmp")  # a.png is the one of a.png
    assert run_here(*job, "--mask_dir", masks, "--save_dir", tmp_path / "out", "--dry_run") == (0, "")

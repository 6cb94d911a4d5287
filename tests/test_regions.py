"""Guidance by regions: against its formula written out, and what it promises of outlines, batches and sizes."""

import pytest
import torch
from torch import Tensor

from diffusions import DDPM, ILVR, Guide, Process, Regions, Step
from diffusions.low_pass import LowPass
from diffusions.regions import ANCHORS, anchors
from diffusions.schedule import Transition


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at(index: int) -> Transition:
    return Transition(index, 100 * index, 0.5, 0.6, 100 * index)


def corrected(pred_x0: Tensor, reference: Tensor, factor: float) -> Tensor:
    """The formula of `Regions`, over all pixels, in float64."""
    height, width = pred_x0.shape[-2:]
    x0, reference = pred_x0.double(), reference.double()
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    c, colours = (image.flatten(2).mT for image in (LowPass(x0, factor)(reference - x0), x0))
    distances = torch.cdist(places, places) / (1.75 * factor), torch.cdist(colours, colours) / 0.2
    w = torch.exp(-sum(distance.square() for distance in distances) / 2)
    return (x0 + (w @ c / w.sum(2, keepdim=True)).mT.unflatten(2, (height, width))).float()


@pytest.mark.parametrize(("height", "width", "channels", "factor"), [(9, 16, 3, 4), (16, 11, 1, 2.5), (1, 5, 3, 1)])
def test_small_images_follow_the_formula_exactly(height, width, channels, factor):
    pred_x0 = 0.5 * normal(2, channels, height, width)
    reference = 0.5 * normal(2, channels, height, width, seed=1)
    found = Regions(reference, factor).guide_x0(pred_x0, pred_x0, at(3))
    torch.testing.assert_close(found, corrected(pred_x0, reference, factor), rtol=0, atol=1e-4)


def test_large_images_come_near_it_and_nearer_over_the_steps():
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 72), indexing="ij")
    disc = ((rows**2 + columns**2) < 0.5).float()
    pred_x0 = (torch.stack([disc, -disc, 0.5 * disc]) + 0.05 * normal(3, 48, 72))[None].clamp(-1, 1)
    reference = (torch.stack([rows, columns, rows * columns]) + 0.3 * normal(3, 48, 72, seed=1))[None].clamp(-1, 1)
    exact, guide = corrected(pred_x0, reference, 8), Regions(reference, 8)
    found = torch.stack([guide.guide_x0(pred_x0, pred_x0, at(index)) for index in range(10)])
    errors = (found - exact).square().mean((1, 2, 3, 4)).sqrt()
    correction = (exact - pred_x0).square().mean().sqrt()
    assert errors.max() < 0.15 * correction
    assert (found.mean(0) - exact).square().mean().sqrt() < errors.mean() / 2


def test_each_side_of_an_outline_takes_the_mean_colour_of_its_own():
    pred_x0 = torch.ones(1, 3, 16, 16)
    pred_x0[..., :5] = -1  # as different as colours can be: nothing bleeds over
    reference = torch.zeros(1, 3, 16, 16)
    reference[..., 8:] = 0.5
    guide = Regions(reference, downsample_factor=16)
    change = guide.guide_x0(pred_x0, pred_x0, at(0)) - pred_x0
    for side in (slice(0, 5), slice(5, 16)):
        mean = guide.correction(pred_x0, at(0))[..., side].mean((2, 3), keepdim=True)
        assert (change[..., side] - mean).abs().max() < 0.05


def test_no_image_of_a_batch_changes_another():
    pred_x0, reference = normal(5, 3, 40, 24).clamp(-1, 1), normal(5, 3, 40, 24, seed=1).clamp(-1, 1)
    together = Regions(reference).guide_x0(pred_x0, pred_x0, at(2))
    for i in range(5):
        alone = Regions(reference[i : i + 1]).guide_x0(pred_x0[i : i + 1], pred_x0[i : i + 1], at(2))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 40, 64, 256])
def test_anchors_lie_evenly_inside_of_the_image(size):
    for index in range(50):
        rows, columns = anchors(torch.zeros(1, 1, size, 64), index)
        assert len(rows.unique()) == len(rows) == min(size, ANCHORS)
        assert len(columns.unique()) == ANCHORS
        assert rows.min() >= 0 and rows.max() < size
        assert rows.diff().amax() - rows.diff().amin() <= 1 if size > 1 else True


def test_ilvr_refines_first_and_a_range_leaves_the_last_steps_alone():
    process = Process()
    reference, noise = normal(1, 3, 16, 16, seed=1).clamp(-1, 1), normal(1, 3, 16, 16)
    drawn = []

    def randn_like(like: Tensor) -> Tensor:
        drawn.append(like)
        return normal(*like.shape, seed=len(drawn))

    def walk(guide: Guide | None) -> list[Step]:
        drawn.clear()
        return list(DDPM(process, 10).sample_loop(lambda x, t: 0.5 * x, noise, guide, randn_like))

    refined, regions = walk(ILVR(reference)), walk(Regions(reference))
    late = [transition.alphas_cumprod >= 0.02 for transition in process.transitions(respace_steps=10)]
    assert len(drawn) == 9 + late.index(True)  # for each step but the last, and for ILVR's
    alike = [torch.equal(one.sample, other.sample) for one, other in zip(refined, regions, strict=True)]
    assert alike == [not after for after in late]

    ranged = walk(Regions(reference, range_t=10))
    assert all(torch.equal(one.sample, free.sample) for one, free in zip(ranged, walk(None), strict=True))
    assert len(drawn) == 9

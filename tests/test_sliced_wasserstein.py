"""The measure of realism."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sliced_wasserstein import _blur, laplacian_pyramid, sliced_wasserstein


@pytest.fixture
def images() -> Tensor:
    return torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_pyramid_adds_up_to_the_image(images: Tensor) -> None:
    *details, coarse = laplacian_pyramid(images)
    assert [level.shape[-1] for level in (*details, coarse)] == [32, 16, 8]
    for detail in reversed(details):
        spread = torch.zeros_like(detail)
        spread[:, :, ::2, ::2] = coarse
        coarse = detail + _blur(spread, gain=4.0)
    torch.testing.assert_close(coarse, images)


def test_even_images_have_no_details() -> None:
    detail, coarse = laplacian_pyramid(torch.full([1, 3, 16, 16], 0.5), levels=2)
    torch.testing.assert_close(detail, torch.zeros(1, 3, 16, 16))
    torch.testing.assert_close(coarse, torch.full([1, 3, 8, 8], 0.5))


def test_it_is_repeatable_and_grows_with_the_difference(images: Tensor) -> None:
    one, other = images[:16], images[16:]
    blocks = F.interpolate(other[:, :, ::8, ::8], size=32)
    floor, far = sliced_wasserstein(one, other, levels=2), sliced_wasserstein(one, blocks, levels=2)
    assert floor == sliced_wasserstein(one, other, levels=2)
    assert all(f > 2 * n > 0 for n, f in zip(floor, far, strict=True)), (floor, far)


def test_sets_of_different_size_cannot_be_compared(images: Tensor) -> None:
    with pytest.raises(ValueError, match="equally large"):
        sliced_wasserstein(images[:2], images[:3])

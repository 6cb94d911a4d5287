"""Windows change nothing but how much of an image the network sees at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import Tiles, load_model
from models.networks.tiles import code_in_windows, divide
from tests.commands import PROJECT
from utils.images import to_pixels

REACH = 2  # of a convolutional stub: pixels


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def convolutional():
    """A network whose every output depends on the pixels at most `REACH` away; with a variance, and told the time."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 6, 3, padding=1)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return second(F.silu(first(x) + t[:, None, None, None] / 1000))

    with torch.no_grad():
        yield network


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_a_convolutional_network_returns_what_it_does_of_the_whole(convolutional, size):
    x, t = noise(2, 3, 96, 80), torch.tensor([3, 700])
    tiled = Tiles(convolutional, size, 8 * REACH, 7)(x, t)
    assert tiled.shape == (2, 6, 96, 80)
    assert (tiled - convolutional(x, t)).abs().max() <= 1e-6
    without_overlap = Tiles(convolutional, size, 0, 7)(x, t)
    assert (without_overlap - convolutional(x, t)).abs().max() > 1e-2  # so much for borders


@torch.no_grad()
def test_the_embedded_network_returns_the_same_in_any_batch_and_order():
    network = load_model(PROJECT / "weights" / "openpeeps64").network
    x, t = noise(2, 3, 64, 96), torch.tensor([500, 500])
    one, three, eight = (Tiles(network, (64, 64), 16, batch)(x, t) for batch in (1, 3, 8))
    turned = Tiles(network, (64, 64), 16, 3)(x.flip(0), t).flip(0)
    for other in (three, eight, turned):
        assert abs(to_pixels(other).astype(int) - to_pixels(one)).max() <= 1
    whole = Tiles(network, (64, 64), 16, 8, whole=1.5)(x, t)
    assert torch.equal(whole, network(x, t))
    assert not torch.equal(whole, eight)


@torch.no_grad()
def test_one_window_is_no_tiling():
    network = load_model(PROJECT / "weights" / "openpeeps64").network
    x, t = noise(2, 3, 64, 64), torch.tensor([500, 20])
    assert torch.equal(Tiles(network, (64, 64), 16, 1)(x, t), network(x, t))


@pytest.mark.parametrize("shift", [0, 0.01, 0.4, 0.99])
@pytest.mark.parametrize("overlap", [0, 1, 5, 16, 31])
@pytest.mark.parametrize("length", [32, 33, 64, 95, 300])
def test_every_pixel_counts_once(length, overlap, shift):
    axis = divide(length, 32, overlap, shift)
    total = torch.zeros(length)
    for i, weights in enumerate(axis.weights()):
        assert (weights >= 0).all()
        total[axis.place(i)] += weights
    assert torch.allclose(total, torch.ones(length), atol=1e-6)
    assert axis.starts[0] == 0 and axis.starts[-1] + 32 == length
    steps = [after - before for before, after in zip(axis.starts, axis.starts[1:], strict=False)]
    assert all(0 < step <= 32 - overlap for step in steps)


def test_windows_come_in_batches_with_their_own_images_times():
    shapes, times = [], []

    def network(x: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(x[:, 0, 0, 0], t.float())  # the image's, in each of its pixels
        shapes.append(tuple(x.shape))
        times.extend(t.tolist())
        return x

    t = torch.tensor([0, 1, 2])
    x = t[:, None, None, None].expand(3, 1, 16, 40).float()
    assert torch.allclose(Tiles(network, (16, 16), 4, 4)(x, t), x)
    assert shapes == [(4, 1, 16, 16)] * 2 + [(1, 1, 16, 16)]
    assert sorted(times) == [0] * 3 + [1] * 3 + [2] * 3


def test_windows_lie_elsewhere_at_every_timestep():
    """And at the last, 0, there are as few as will do."""
    x, seen = torch.arange(40.0).expand(1, 1, 16, 40), []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(int(x[0, 0, 0, 0]))
        return x

    starts = {}
    for t in (0, 20, 40, 60):
        assert torch.allclose(Tiles(network, (16, 16), 4, 1)(x, torch.tensor([t])), x)
        starts[t], seen = seen, []
    assert starts[0] == [0, 12, 24]
    inner = [tuple(found[1:-1]) for found in starts.values()]
    assert len(set(inner)) == len(inner) and all(len(found) == 4 for t, found in starts.items() if t)


def test_an_autoencoder_is_tiled_too():
    x, seen = noise(2, 4, 24, 32), []

    def decoder(latents: Tensor) -> Tensor:
        seen.append(tuple(latents.shape))
        return F.interpolate(latents, scale_factor=4.0)[:, :3]

    def encoder(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return F.avg_pool2d(images, 4)

    decoded = code_in_windows(decoder, x, (16, 16))
    assert torch.allclose(decoded, F.interpolate(x, scale_factor=4.0)[:, :3], atol=1e-6)
    assert torch.allclose(code_in_windows(encoder, decoded, (64, 64), shrinks=4), x[:, :3], atol=1e-6)
    assert seen == [(1, 4, 16, 16)] * 12 + [(1, 3, 64, 64)] * 12
    assert torch.equal(code_in_windows(decoder, x, (16, 24)), decoder(x))  # up to twice as large: whole


def test_a_batch_that_does_not_fit_into_memory_is_halved():
    counts, most = [], 3

    def network(x: Tensor, t: Tensor) -> Tensor:
        counts.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError
        return x

    x, t = noise(1, 3, 64, 64), torch.tensor([0])
    tiles = Tiles(network, (16, 16), 0, 8)
    for _ in range(2):
        assert torch.allclose(tiles(x, t), x)
    assert counts == [8, 4, *[2] * 8, *[2] * 8]
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        tiles(x, t)


@pytest.mark.parametrize("overlap", [-1, 16, 20])
def test_an_overlap_of_a_whole_window_is_refused(overlap):
    with pytest.raises(ValueError, match=r"overlap must be in 0 … 15"):
        Tiles(lambda x, t: x, (32, 16), overlap, 8)

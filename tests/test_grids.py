"""The grid that shows a run: it fits a screen, and its pictures stay what they are."""

import numpy as np
import pytest

from tests.commands import contains
from utils.images import GRID_GAP, TILE, make_labelled_grid

LABEL_HEIGHT = 20 + GRID_GAP


def pictures(count: int, height: int = 8, width: int = 8) -> list[np.ndarray]:
    """Each of a grey level of its own, from 1 on."""
    return [np.full((height, width, 3), 1 + level, np.uint8) for level in range(count)]


@pytest.mark.parametrize("size", [64, 128])
def test_the_grid_of_16_references_fits_a_screen(size):
    grid = make_labelled_grid([pictures(3, size, size)] * 16, ["reference", "what binds at N = 8", "samples"])
    assert grid.shape[0] <= 1000 and grid.shape[1] <= 1900


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 12), (7, 3), (40, 2), (64, 3)])
def test_every_picture_is_shown_in_its_column(rows, columns):
    levels = iter(range(1, 255))
    table = [[np.full((10, 6, 3), next(levels), np.uint8) for _ in range(columns)] for _ in range(rows)]
    grid = make_labelled_grid(table, [""] * columns)
    for row in table:
        places = [np.nonzero((grid == picture[0, 0]).all(-1)) for picture in row]
        assert {len(down) for down, _ in places} == {60 * round(TILE / 10) ** 2}
        assert len({down.min() for down, _ in places}) == 1  # beside each other
        lefts = [across.min() for _, across in places]
        assert lefts == sorted(lefts)


def test_an_empty_place_stays_white():
    first, second = pictures(2, TILE, TILE)
    grid = make_labelled_grid([[first, None, second], [first, second, second]], ["", "", ""])
    assert (grid[LABEL_HEIGHT : LABEL_HEIGHT + TILE, TILE + GRID_GAP : 2 * TILE + GRID_GAP] == 255).all()


@pytest.mark.parametrize(
    ("size", "tile"), [((64, 64), 128), ((16, 16), 128), ((48, 40), 144), ((100, 50), 100), ((256, 256), 256)]
)
def test_small_pictures_are_enlarged_by_a_whole_factor(size, tile):
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    times = tile // max(size)
    assert contains(make_labelled_grid([[picture]], [""]), picture.repeat(times, 0).repeat(times, 1))


def test_large_pictures_are_reduced():
    grid = make_labelled_grid([pictures(1, 1024, 512) * 3], ["", "", ""])
    assert (grid == 1).all(-1).sum() == 3 * 256 * 128


def test_labels_stand_above_their_columns_in_every_block():
    grid = make_labelled_grid([pictures(1) * 3] * 16, ["reference", "what binds", "samples"])
    beside = (grid[LABEL_HEIGHT + 4] == 1).all(-1)
    lefts = np.nonzero(np.diff(beside.astype(int), prepend=0) == 1)[0]
    heads = (grid[:20] < 128).all(-1).any(0)
    assert len(lefts) == 9 and all(heads[left : left + 40].any() for left in lefts)


def test_a_label_wider_than_its_column_has_room():
    narrow = make_labelled_grid([pictures(1, 128, 16) * 2], ["", ""])
    assert make_labelled_grid([pictures(1, 128, 16) * 2], ["N = 16, range 10"] * 2).shape[1] > narrow.shape[1] + 100


def test_the_note_stands_below():
    plain, noted = (make_labelled_grid([pictures(1)] * 4, [""], note) for note in ("", "64 of 5,000 references"))
    assert noted.shape[0] == plain.shape[0] + LABEL_HEIGHT and (noted[-20:] < 128).any()

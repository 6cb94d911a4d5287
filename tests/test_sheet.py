"""The sheet that a run's grid is: it fits a screen, and its pictures stay what they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from utils.sheet import LABEL_HEIGHT, NARROWEST, TILE, WIDEST, draw_sheet

from tests.commands import contains


def pictures(count: int, height: int = 8, width: int = 8) -> list[np.ndarray]:
    """Each of a grey level of its own, from 1 on."""
    return [np.full((height, width, 3), 1 + level, np.uint8) for level in range(count)]


def labels(blocks: list) -> list[str]:
    return [f"N = {2**i}" for i in range(len(blocks))]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(4, 40), st.integers(4, 40))
def test_every_sheet_fits_a_screen_and_shows_every_picture(rows, counts, height, width):
    levels = iter(range(1, 251))
    blocks = [
        [[np.full((height, width, 3), next(levels), np.uint8) for _ in range(count)] for _ in range(rows)]
        for count in counts
    ]
    sheet = draw_sheet(blocks, ["" for _ in counts], "a note")
    assert NARROWEST - 0.02 < sheet.shape[1] / sheet.shape[0] < WIDEST + 0.02
    area = (max(1, round(TILE / max(height, width))) ** 2) * height * width
    shown = np.bincount(sheet[..., 0].ravel(), minlength=256)
    assert (shown[1 : 1 + rows * sum(counts)] >= area).all()


@pytest.mark.parametrize(
    ("size", "tile"), [((64, 64), 128), ((16, 16), 128), ((48, 40), 144), ((100, 50), 100), ((256, 256), 256)]
)
def test_small_pictures_are_enlarged_by_a_whole_multiple(size, tile):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    times = tile // max(size)
    assert contains(draw_sheet([[[picture]]], [""]), picture.repeat(times, 0).repeat(times, 1))


def test_large_pictures_are_made_smaller():
    sheet = draw_sheet([[pictures(1, 1024, 512)]] * 3, ["", "", ""])
    assert sheet.shape[0] < 2 * 256 + 2 * LABEL_HEIGHT + 8
    assert (sheet == 1).all(-1).sum() == 3 * 256 * 128


def test_rows_flow_in_columns_under_their_labels():
    """16 rows of 3 pictures: side by side in three columns rather than one high strip."""
    sheet = draw_sheet([[pictures(1)] * 16] * 3, ["reference", "what binds", "samples"])
    beside = (sheet[LABEL_HEIGHT + 4] == 1).all(-1)
    assert np.count_nonzero(np.diff(beside.astype(int)) == 1) + beside[0] == 9
    heads = (sheet[:LABEL_HEIGHT] < 128).all(-1).any(0)
    assert all(heads[x : x + 60].any() for x in np.nonzero(np.diff(beside.astype(int)) == 1)[0])


def test_a_label_wider_than_its_block_has_room():
    sheet = draw_sheet([[pictures(1, 128, 16)]] * 2, ["N = 16, range 10"] * 2)
    head = (sheet < 128).all(-1)
    rows = np.nonzero(head.any(1))[0]
    columns = np.nonzero(head[rows[0] : rows[0] + 10].any(0))[0]
    gaps = np.nonzero(np.diff(columns) > 9)[0]
    first, second = columns[: gaps[-1] + 1], columns[gaps[-1] + 1 :]
    assert len(first) > 50 and len(second) > 50 and abs(len(first) - len(second)) < 3


def test_the_note_stands_below():
    blocks = [[pictures(1)] * 4]
    plain, noted = (draw_sheet(blocks, [""], note) for note in ("", "64 of 5,000 references"))
    assert (noted[-LABEL_HEIGHT:] < 128).any() and not (plain[-LABEL_HEIGHT:] == 0).all(-1).any()

"""Pictures in rows, laid out on one sheet that fits a screen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE = 128  # pixels of a picture's longer side, about
GAP, BLOCK_GAP, COLUMN_GAP = 2, 10, 28
LABEL_HEIGHT, FONT_SIZE = 20, 13
NARROWEST, WIDEST = 4 / 3, 16 / 9  # of a sheet, width over height
BREAK_COST = 0.25  # what breaking up the rows once more must spare of the sheet

Blocks = Sequence[Sequence[Sequence[np.ndarray]]]


@dataclass(frozen=True)
class _Layout:
    """Where everything stands on a sheet.

    Attributes:
        tile: height and width of a picture.
        counts: per block, how many pictures its longest row has.
        label_widths: per block.
        rows: in each block.
        bands: how often the blocks begin anew below.
        lines: over how many lines the longest row is broken.
        columns: in how many columns the rows stand.
    """

    tile: tuple[int, int]
    counts: Sequence[int]
    label_widths: Sequence[int]
    rows: int
    bands: int
    lines: int
    columns: int

    def beside(self, block: int) -> int:
        """How many pictures of a row stand beside each other."""
        return math.ceil(self.counts[block] / self.lines)

    def blocks(self, band: int) -> range:
        """The blocks of a band."""
        count = len(self.counts)
        return range(band * count // self.bands, (band + 1) * count // self.bands)

    def block_width(self, block: int) -> int:
        return max(self.beside(block) * (self.tile[1] + GAP) - GAP, self.label_widths[block])

    def column_width(self, band: int) -> int:
        return sum(self.block_width(block) + BLOCK_GAP for block in self.blocks(band)) - BLOCK_GAP + COLUMN_GAP

    def row_height(self, band: int) -> int:
        lines = max(math.ceil(self.counts[block] / self.beside(block)) for block in self.blocks(band))
        return lines * (self.tile[0] + GAP) + (BLOCK_GAP if lines > 1 else 0)

    @property
    def rows_per_column(self) -> int:
        return math.ceil(self.rows / self.columns)

    def band_height(self, band: int) -> int:
        return LABEL_HEIGHT + self.rows_per_column * self.row_height(band)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is on the sheet."""
        bands = range(self.bands)
        width = self.columns * max(map(self.column_width, bands)) - COLUMN_GAP
        return width, sum(map(self.band_height, bands)) - GAP

    @property
    def cost(self) -> float:
        """The sheet's area, white included, and a share of it for everything that is broken up."""
        width, height = _sheet_size(*self.size)
        return width * height * (1 + BREAK_COST * (self.bands + self.lines - 2))

    def corner(self, block: int, row: int) -> tuple[int, int]:
        """Left and top of a block's row; of row 0 of a column, its label stands above."""
        band = next(band for band in range(self.bands) if block in self.blocks(band))
        column, line = divmod(row, self.rows_per_column)
        left = sum(self.block_width(other) + BLOCK_GAP for other in self.blocks(band) if other < block)
        top = sum(map(self.band_height, range(band))) + LABEL_HEIGHT
        return column * self.column_width(band) + left, top + line * self.row_height(band)


def draw_sheet(blocks: Blocks, labels: Sequence[str], note: str = "") -> np.ndarray:
    """Blocks of pictures beside each other, each under its label; their rows flow into columns, as fits a screen.

    Small pictures are enlarged by a whole multiple, large ones made smaller, to about `TILE` pixels and at most twice
    that.

    Args:
        blocks: of each block the rows of pictures [H, W, 3] uint8, all of one size and as many rows.
        labels: one per block.
        note: to stand below.

    Returns:
        [H', W', 3] uint8, between 4:3 and 16:9.
    """
    font = ImageFont.load_default(FONT_SIZE)
    tiles = [[[_to_tile(picture) for picture in row] for row in rows] for rows in blocks]
    layout = _best_layout(tiles, [math.ceil(font.getlength(label)) for label in labels])
    height, width = layout.tile
    content = Image.new("RGB", (layout.size[0], layout.size[1] + (LABEL_HEIGHT if note else 0)), "white")
    draw = ImageDraw.Draw(content)
    for block, rows in enumerate(tiles):
        for row, pictures in enumerate(rows):
            left, top = layout.corner(block, row)
            if row % layout.rows_per_column == 0:
                draw.text((left, top - LABEL_HEIGHT), labels[block], "black", font)
            for number, picture in enumerate(pictures):
                y, x = divmod(number, layout.beside(block))
                content.paste(Image.fromarray(picture), (left + x * (width + GAP), top + y * (height + GAP)))
    draw.text((0, layout.size[1] + 4), note, "black", font)
    return np.asarray(_on_white(content))


def _best_layout(tiles: Blocks, label_widths: Sequence[int]) -> _Layout:
    """The layout that takes the least of a screen, and breaks up little."""
    height, width = next(row[0] for rows in tiles for row in rows if row).shape[:2]
    counts = [max(1, *map(len, rows)) if rows else 1 for rows in tiles]
    rows = len(tiles[0])
    layouts = (
        _Layout((height, width), counts, label_widths, rows, *choice)
        for choice in product(range(1, len(tiles) + 1), range(1, max(counts) + 1), range(1, rows + 1))
    )
    return min(layouts, key=lambda layout: layout.cost)


def _to_tile(picture: np.ndarray) -> np.ndarray:
    """A picture at a size for the sheet: pixels repeated, or averaged, a whole number of times."""
    longer = max(picture.shape[:2])
    if longer > 2 * TILE:
        return np.asarray(Image.fromarray(picture).reduce(math.ceil(longer / (2 * TILE))))
    times = max(1, round(TILE / longer))
    return picture.repeat(times, 0).repeat(times, 1)


def _sheet_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the sheet for content of this size: neither too narrow nor too wide."""
    return max(width, math.ceil(height * NARROWEST)), max(height, math.ceil(width / WIDEST))


def _on_white(content: Image.Image) -> Image.Image:
    """The content in the middle of its sheet."""
    sheet = _sheet_size(*content.size)
    whole = Image.new("RGB", sheet, "white")
    whole.paste(content, ((sheet[0] - content.width) // 2, (sheet[1] - content.height) // 2))
    return whole

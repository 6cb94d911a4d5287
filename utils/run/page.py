"""The page that shows a run, from plain data to HTML: everything in one file, and nothing from elsewhere."""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

TEMPLATES = Path(__file__).parent / "templates"
MARK = b'<meta name="generator" content="ILVR sampler">'


@dataclass(frozen=True)
class Row:
    """A reference on the page: the name its files bear, and the label people know it by."""

    name: str
    label: str


@dataclass(frozen=True)
class Series:
    """The samples of one binding.

    Attributes:
        downsample_factor: N.
        range_t: how many last steps are left to the model.
        folder: where the samples lie, "" beside the page.
        binds_folder: where the pictures lie of what binds.
        made: the numbers of the samples that are made.
        has_film: whether the page's `film` lies there too.
    """

    downsample_factor: float
    range_t: int
    folder: str
    binds_folder: str
    made: Iterable[int]
    has_film: bool = False


@dataclass(frozen=True)
class Page:
    """All that the page says.

    Attributes:
        size: height and width that hold any of its images.
        rows: the references that have samples; None for one that cannot be read.
        stride: how many references there are in all: sample i follows reference i mod stride.
        n_samples: per binding.
        series: one per binding: every factor, with every range.
        folder: where the pictures of the references lie.
        pictured: per folder of pictures, the indices of the references it has pictures of.
        about: the run in a line.
        settings: name → value.
        command: makes the images again.
        running: whether images are still being made.
        film: the number of the sample that has an animation.
    """

    size: tuple[int, int]
    rows: Sequence[Row | None]
    stride: int
    n_samples: int
    series: Sequence[Series]
    folder: str
    pictured: Mapping[str, Iterable[int]]
    about: str
    settings: Mapping[str, object]
    command: str
    running: bool = False
    film: int | None = None


def is_page(content: bytes) -> bool:
    """Whether a file is a page that this module wrote."""
    return MARK in content


def render(page: Page) -> str:
    """The page in HTML.

    What comes from outside stands in a JSON block and in one attribute, both escaped. The page's own policy lets no
    script run and no style apply but those written here, and loads nothing but images beside it.
    """
    style = _template("page.css")
    script = "".join(map(_template, ("rows.js", "viewer.js", "page.js")))
    policy = [
        "default-src 'none'",
        "img-src 'self' file:",  # on disk, 'self' is no one
        f"style-src '{_source_hash(style)}'",
        f"script-src '{_source_hash(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ]
    parts = {
        "policy": "; ".join(policy),
        "icon": html.escape(_icon(page)),
        "style": style,
        "script": script,
        "data": _json_block(_data(page)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _template("page.html"))


def _icon(page: Page) -> str:
    """The first reference's picture; without any, what no browser asks for."""
    pictured = set(page.pictured.get(page.folder, ()))
    names = (row.name for index, row in enumerate(page.rows) if row and index in pictured)
    return next((f"{page.folder}/{_url(name)}.png" for name in names), "data:,")


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _data(page: Page) -> dict[str, Any]:
    """The page's content as its script reads it."""
    return {
        "size": page.size,
        "references": [
            {"name": row.name, "stem": _url(row.name), "label": row.label} if row else {} for row in page.rows
        ],
        "stride": page.stride,
        "samples": page.n_samples,
        "bindings": [
            {
                "factor": one.downsample_factor,
                "range": one.range_t,
                "folder": one.folder,
                "binds": one.binds_folder,
                "made": _spans(one.made),
                "film": one.has_film,
            }
            for one in page.series
        ],
        "folder": page.folder,
        "pictures": {folder: _spans(indices) for folder, indices in page.pictured.items()},
        "film": page.film,
        "about": page.about,
        "settings": [[name, str(value)] for name, value in page.settings.items()],
        "command": page.command,
        "running": page.running,
    }


def _json_block(data: object) -> str:
    """JSON that HTML reads as text whatever it holds: no character of it can end the block or begin a comment."""
    return json.dumps(data, separators=(",", ":")).replace("<", r"\u003c")


def _url(name: str) -> str:
    """A file's name as a segment of a URL: no character has a meaning of its own, and every byte is kept."""
    return quote(os.fsencode(name), safe="")


def _spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as spans [first, end): 0, 1, 2, 5 → (0, 3), (5, 6)."""
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        first = spans.pop()[0] if spans and spans[-1][1] == number else number
        spans.append((first, number + 1))
    return spans


def _source_hash(text: str) -> str:
    """How a policy names the one script or style that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

"""index.html of a run: one file that loads nothing from elsewhere, kept up to date as the run goes on."""

import base64
import hashlib
import html
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from utils.errors import one_line
from utils.files import write_atomically
from utils.run.outputs import FILM, check_figure
from utils.run.plan import Plan
from utils.run.samples import PREVIEWS

TEMPLATES = Path(__file__).parent / "templates"
MAX_SHARE_OF_TIME = 0.05  # that keeping the page up to date may take
TOO_LONG = ("model", "autoencoder", "diffusion")  # settings that the page leaves to run.yaml


@dataclass
class Page:
    """The page of one run; `live` in the process that keeps it up to date while the run goes on."""

    plan: Plan
    live: bool = True
    _next: float = 0.0  # not before then, in seconds of the monotonic clock
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, running: bool) -> None:
        """Write the page of what is there now; raise RunError, InputError or OSError if something is in the way."""
        with self._lock:
            begun = time.monotonic()
            try:
                path = self.plan.settings.save_dir / "index.html"
                check_figure(path, self.plan.settings.overwrite)
                write_atomically(path, render(page_data(self.plan, running)).encode())
            finally:
                now = time.monotonic()
                self._next = now + (now - begun) / MAX_SHARE_OF_TIME

    def refresh(self) -> None:
        """Write the page while the run goes on, as often as takes no time worth mentioning.

        The images come first: if the page cannot be written, the run goes on.
        """
        if self.live and time.monotonic() >= self._next:
            with suppress(Exception):
                self.write(running=True)

    def last_words(self) -> str:
        """Return how far the run has come, which the page says too from now on."""
        with suppress(Exception):  # the disk may be full
            self.write(running=False)
        return self.plan.progress()


def page_data(plan: Plan, running: bool) -> dict[str, Any]:
    """Return what the page says of a run now, as its script reads it.

    size: height and width that hold any of the images; references: those that have samples, {} for one that cannot
    be read; stride: sample i follows reference i mod stride; samples: how many per binding; made and pictures: the
    numbers of samples made, and of references in each folder of previews, as spans; film: the animated sample's.
    """
    settings, samples = plan.settings, plan.samples
    files = dict.fromkeys(settings.folders, frozenset[str]())
    for folder in files:
        with suppress(OSError):  # the run itself says what it cannot read
            files[folder] = frozenset(os.listdir(settings.save_dir / folder))
    references, bindings = [], []
    for each in settings.references[: settings.n_samples]:
        label = each.path.name if each.path == settings.input_dir else each.path.relative_to(settings.input_dir)
        # as a segment of a URL, no character has a meaning of its own, and every byte is kept
        stem = quote(os.fsencode(each.name), safe="")
        is_read = each.name not in settings.skipped
        references.append({"name": each.name, "stem": stem, "label": one_line(label)} if is_read else {})
    for binding in settings.bindings:
        found = [samples.find(binding, name) for name in files[binding.folder]]
        bindings.append(
            {
                "factor": binding.downsample_factor,
                "range": binding.range_t,
                "folder": binding.folder,
                "binds": binding.previews,
                "made": spans(samples[index].number for index in found if index is not None),
                "film": f"{FILM}.webp" in files[binding.folder],
            }
        )
    heights, widths = zip(*settings.shapes.values(), strict=True)
    return {
        "size": (max(heights), max(widths)),
        "references": references,
        "stride": len(settings.references),
        "samples": settings.n_samples,
        "bindings": bindings,
        "classes": list(settings.class_id),
        "folder": PREVIEWS,
        "pictures": {
            folder: spans(i for i, each in enumerate(references) if each and f"{each['name']}.png" in files[folder])
            for folder in files
            if folder.startswith(PREVIEWS)
        },
        "film": None if running else settings.progress_grid,  # until then, it may be of an earlier run
        **_words(plan),
        "command": settings.command,
        "running": running,
    }


def render(data: Mapping[str, Any]) -> str:
    """Return the page in HTML, see `page_data`.

    What comes from outside stands in a JSON block and in one attribute, both escaped. The page's own policy lets no
    script run and no style apply but those written here, and loads nothing but images beside it.
    """
    style, script = (
        "".join((TEMPLATES / name).read_text("utf-8") for name in names)
        for names in (["page.css"], ["rows.js", "viewer.js", "page.js"])
    )
    # how a policy names the one style and the one script that it allows
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    policy = [
        "default-src 'none'",
        "img-src 'self' file:",  # on disk, 'self' is no one
        f"style-src 'sha256-{hashes[0]}'",
        f"script-src 'sha256-{hashes[1]}'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ]
    pictured = data["pictures"].get(data["folder"])
    icon = f"{data['folder']}/{data['references'][pictured[0][0]]['stem']}.png" if pictured else "data:,"
    parts = {
        "policy": "; ".join(policy),
        "icon": html.escape(icon),
        "style": style,
        "script": script,
        # JSON that HTML reads as text whatever it contains: no character can end the block or begin a comment
        "data": json.dumps(data, separators=(",", ":")).replace("<", r"\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], (TEMPLATES / "page.html").read_text("utf-8"))


def spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return numbers as spans [first, end): 0, 1, 2, 5 → (0, 3), (5, 6)."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        first = found.pop()[0] if found and found[-1][1] == number else number
        found.append((first, number + 1))
    return found


def _words(plan: Plan) -> dict[str, Any]:
    """Return the run in a line, and the settings that the page lists; run.yaml has all of them."""
    settings = plan.settings
    factors = ", ".join(dict.fromkeys(binding.words for binding in settings.bindings))
    ranges = ", ".join(map(str, settings.range_t))
    parts = [
        settings.sampler.upper(),
        f"{settings.walk_steps} step{'s' * (settings.walk_steps != 1)}",
        f"N = {factors}",
    ]
    parts += [f"range {ranges}"] if any(settings.range_t) else []
    parts += [f"weight {settings.refine_weight:g}"] if settings.refine_weight < 1 else []
    parts += ["masked"] if settings.masks or settings.transparent == "free" else []
    parts += [f"seed {settings.seed}"]
    values = {**settings.identity, **settings.identity["diffusion"]}
    listed = {
        "weights": one_line(settings.weights),
        "weights_sha256": plan.outputs.record["weights_sha256"],
        "input_dir": one_line(settings.input_dir),
        "n_samples": settings.n_samples,
        **{name: value for name, value in values.items() if name not in TOO_LONG and value is not None},
    }
    return {
        "about": " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts),
        "settings": [[name, str(value)] for name, value in listed.items()],
    }

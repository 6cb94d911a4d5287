"""The page of a run, and the pictures of its references: written as the run goes on, for whoever looks on."""

import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from utils.errors import RunError, one_line
from utils.files import write_atomically
from utils.images import Shape, save_png, to_pixels
from utils.run.page import Page, Row, Series, render
from utils.run.pictures import FOLDER, Picture, binds_folder, output_folders, picture_folders
from utils.run.plan import Plan
from utils.run.samples import Binding, Sample
from utils.run.settings import Settings
from utils.run.shapes import crop

SHARE_OF_TIME = 0.05  # the most that keeping the page up to date may take
NETWORKS = ("model", "autoencoder")  # settings too long for the page
FILM = "progress_grid"  # an animation and a strip of one sample's steps


class Gallery:
    """`index.html` of one run.

    Used in a `with`, it is written a last time where an error ends the run.

    Args:
        plan: the run's.
        keeps: whether this process keeps the page up to date while the run goes on: one of them does.
    """

    def __init__(self, plan: Plan, keeps: bool = True) -> None:
        self.plan = plan
        self.keeps = keeps
        self._next = 0.0  # not before then, in seconds of the monotonic clock
        self._lock = threading.Lock()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if self.keeps and failure is not None and issubclass(failure, Exception):
            with suppress(RunError):  # the disk may be full; what is wrong is being said
                self.write(running=False)

    def write(self, running: bool) -> None:
        """Write the page of what is there now.

        Raises:
            RunError: it cannot be written.
        """
        with self._lock:
            begun = time.monotonic()
            try:
                path = self.plan.settings.save_dir / "index.html"
                write_atomically(path, render(page_of(self.plan, running)).encode())
            finally:
                now = time.monotonic()
                self._next = now + (now - begun) / SHARE_OF_TIME

    def refresh(self) -> None:
        """Write the page while the run goes on, as often as takes no time worth mentioning.

        The images come first: where the page cannot be written, they are tried all the same.
        """
        if self.keeps and time.monotonic() >= self._next:
            with suppress(RunError):
                self.write(running=True)

    def last_words(self) -> str:
        """How far the run has come, which the page says too from now on."""
        with suppress(RunError):
            self.write(running=False)
        return self.plan.how_to_go_on()


def save_pictures(plan: Plan, samples: Sequence[Sample], references: Sequence[Tensor], low_frequencies: Tensor) -> None:
    """Write the pictures of some samples' references that are not there yet.

    Each is written with the reference's first sample, by whichever process makes that one, and so by one only.

    Args:
        references: one per sample, [C, H, W] in [-1, 1], on the canvas of its images.
        low_frequencies: what of each binds, [B, C, H, W] in about [-1, 1].

    Raises:
        RunError: one cannot be written.
    """
    for sample, *images in zip(samples, references, low_frequencies, strict=True):
        if sample.variation == 0:
            shape = plan.settings.shape_of(sample.reference)
            for picture, image in zip(pictures_for(sample), images, strict=True):
                if not plan.path(picture).exists():
                    save_png(to_pixels(crop(image, shape)), plan.path(picture), plan.text(picture))


def without_pictures(plan: Plan) -> list[Sample]:
    """The first samples of the references some of whose pictures are not there: all their samples were made before."""
    samples = plan.settings.samples
    firsts = [sample for binding in samples.bindings for sample in samples.variations(binding, 1)]
    return [sample for sample in firsts if not all(plan.path(picture).exists() for picture in pictures_for(sample))]


def pictures_for(sample: Sample) -> tuple[Picture, Picture]:
    """A sample's reference, and what of it binds."""
    return Picture(sample.reference), Picture(sample.reference, sample.binding.downsample_factor)


def page_of(plan: Plan, running: bool) -> Page:
    """What the page says of a run now."""
    settings = plan.settings
    files = {folder: _files(settings, folder) for folder in output_folders(settings)}
    references = settings.references[: settings.n_samples]
    rows = [
        None
        if reference.name in settings.skipped
        else Row(reference.name, one_line(_below(settings.input_dir, reference.path)))
        for reference in references
    ]
    return Page(
        size=_largest(settings.all_shapes),
        rows=rows,
        stride=len(settings.references),
        n_samples=settings.n_samples,
        series=[_series(settings, binding, files[binding.folder]) for binding in settings.bindings],
        folder=FOLDER,
        pictured={
            folder: [index for index, row in enumerate(rows) if row and f"{row.name}.png" in files[folder]]
            for folder in picture_folders(settings)
        },
        about=_about(settings),
        settings=_settings(plan),
        command=settings.command,
        running=running,
        film=None if running else settings.progress_grid,  # until then, it may be of an earlier run
    )


def _largest(shapes: Sequence[Shape]) -> Shape:
    """The height and width that hold each of these."""
    return max(height for height, _ in shapes), max(width for _, width in shapes)


def _below(input_dir: Path, path: Path) -> Path:
    """A reference's path in the input folder; its name, if it is all the input."""
    return Path(path.name) if path == input_dir else path.relative_to(input_dir)


def _files(settings: Settings, folder: str) -> frozenset[str]:
    """The names of what lies in a folder of the run's."""
    with suppress(FileNotFoundError), os.scandir(settings.save_dir / folder) as entries:
        return frozenset(entry.name for entry in entries)
    return frozenset()


def _series(settings: Settings, binding: Binding, files: Collection[str]) -> Series:
    """What is made of a binding's samples, going by the files in their folder."""
    samples = settings.samples
    found = [samples.find(binding, name) for name in files]
    return Series(
        downsample_factor=binding.downsample_factor,
        range_t=binding.range_t,
        folder=binding.folder,
        binds_folder=binds_folder(binding.downsample_factor),
        made=sorted(samples[position].number for position in found if position is not None),
        has_film=f"{FILM}.webp" in files,
    )


def _about(settings: Settings) -> str:
    """The run in a line."""
    factors, ranges = (", ".join(f"{n:g}" for n in sweep) for sweep in (settings.downsample_factor, settings.range_t))
    told = [settings.sampler.upper(), f"{settings.walk_steps} steps", f"N = {factors}"]
    told += [f"range {ranges}"] if any(settings.range_t) else []
    told += [f"seed {settings.seed}"]
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in told)


def _settings(plan: Plan) -> Mapping[str, object]:
    """What the page lists; run.yaml has all of it."""
    settings = plan.settings
    values = settings.image_settings
    values |= values.pop("diffusion")
    return {
        "weights": one_line(settings.weights),
        "weights_sha256": plan.weights_hash,
        "input_dir": one_line(settings.input_dir),
        "n_samples": settings.n_samples,
        **{name: value for name, value in values.items() if name not in NETWORKS and value is not None},
    }

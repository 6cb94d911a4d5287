"""The plan of a run: which samples are left to do, as the files themselves say by the text inside them."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from models import open_checkpoint
from utils.errors import InputError, RunError, one_line
from utils.files import check_replaceable, remove_leftovers
from utils.images import read_reference
from utils.png import PngText, read_text
from utils.run.batches import Batches, make_batches
from utils.run.folder_lock import FolderLock
from utils.run.found import check_image, check_ours, check_page, check_record, present
from utils.run.ownership import check_figure, figure_paths
from utils.run.pictures import Picture, output_folders, picture_folders, pictures_of
from utils.run.preflight import THREADS, examine
from utils.run.record import picture_text, png_text, write_run_record
from utils.run.references import Reference
from utils.run.samples import Sample
from utils.run.settings import Settings
from utils.run.shapes import own_shape

MOST_NAMED = 20  # samples that a summary names
READ_AT_ONCE = 10_000  # files; each takes some memory while it waits for its thread


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. The main process makes it, and every process works by it.

    Attributes:
        settings: the run's, without the references that cannot be read.
        weights_hash: SHA-256 of the checkpoint.
        reference_hashes: SHA-256 of each reference's content, by its name.
        notes: what there is to be said of the references, one line each.
        num_processes: that share the work.
        todo: [N] bool, of each sample, by its position, whether it is not finished.
        pictures: those of references that are not finished.
    """

    settings: Settings
    weights_hash: str
    reference_hashes: Mapping[str, str]
    notes: tuple[str, ...]
    num_processes: int
    todo: np.ndarray
    pictures: frozenset[Picture] = frozenset()

    @cached_property
    def batches(self) -> Batches:
        """The batches with something left to do, each process's being every `num_processes`th."""
        settings = self.settings
        shapes = np.array([settings.all_shapes.index(settings.shape_of(each)) for each in settings.references])
        return make_batches(settings.samples, self.todo, settings.micro_batch, self.num_processes, shapes)

    def path(self, image: Sample | Picture) -> Path:
        """Where a sample, or a picture of a reference, is written."""
        return self.settings.save_dir / image.file_name

    def text(self, image: Sample | Picture) -> dict[str, str]:
        """The text chunks of its PNG; those of a finished one are the same."""
        reference_hash = self.reference_hashes[image.reference.name]
        if isinstance(image, Picture):
            return picture_text(self.settings, image, self.weights_hash, reference_hash)
        return png_text(self.settings, image, self.weights_hash, reference_hash)

    def is_todo(self, sample: Sample) -> bool:
        """Whether a sample is not finished."""
        return bool(self.todo[self.settings.samples.position(sample)])

    def is_finished(self, image: Sample | Picture, found: PngText | None) -> bool:
        """Whether what lies in an image's place, by its text chunks, is this image.

        Raises:
            InputError: it is something else that may not be replaced.
        """
        wanted = self.text(image)
        if found and found.is_whole and found.text.get("fingerprint") == wanted["fingerprint"]:
            return True
        if found and not self.settings.overwrite:
            check_ours(self.path(image), found)
            if isinstance(image, Sample):
                check_image(self.path(image), found, wanted)
        return False

    def writes(self, path: Path) -> bool:
        """Whether the run writes a file there."""
        settings = self.settings
        if path.name in ("run.yaml", "index.html") or path in figure_paths(settings):
            return True
        if path.parent in [settings.save_dir / folder for folder in picture_folders(settings)]:
            return path.suffix == ".png"
        bindings = [binding for binding in settings.bindings if settings.save_dir / binding.folder == path.parent]
        return any(settings.samples.find(binding, path.name) is not None for binding in bindings)

    def read(self, reference: Reference) -> Tensor:
        """A reference as it was when the plan was made, on the canvas of its images, [C, H, W] in [-1, 1].

        Raises:
            RunError: it has been replaced since then, or can be read no more.
        """
        settings, sha256 = self.settings, self.reference_hashes[reference.name]
        shape, channels = settings.shape_of(reference), settings.config.image_channels
        try:
            return read_reference(reference.path, shape, channels, settings.tolerance, sha256, settings.canvas(shape))
        except InputError as error:
            raise RunError(str(error)) from None

    def left(self) -> int:
        """How many samples have no file yet, or none any more, whichever process is to make them."""
        return len(self.settings.samples) - len(present(self.settings))

    def how_to_go_on(self) -> str:
        """How far the run has come, and what to do about the rest."""
        total, left = len(self.settings.samples), self.left()
        if not left:
            return f"all {total} images are made; the same command draws the grid"
        return f"{left} of {total} images are left; the same command goes on with them"

    def summary(self) -> str:
        """What the run would do, in lines."""
        settings = self.settings
        images, left = len(settings.samples), int(self.todo.sum())
        sizes = [f"{height}×{width}" for height, width in settings.all_shapes]
        named = [settings.samples[i] for i in np.flatnonzero(self.todo)[:MOST_NAMED].tolist()]
        return "\n".join(
            [
                f"samples      {images}, of which {images - left} are finished",
                f"references   {len(self.reference_hashes)} read, {len(settings.skipped)} skipped",
                f"steps        {settings.walk_steps} per sample",
                *([f"sizes        {', '.join(sizes[:5])}{', …' * (len(sizes) > 5)}"] if settings.is_larger else []),
                f"model calls  {len(self.batches) * settings.walk_steps}, of up to {settings.micro_batch} samples, "
                f"shared by {self.num_processes} process(es)",
                f"files        {left} images, index.html, grid.png and run.yaml in {one_line(settings.save_dir)}",
                *(f"  {one_line(self.path(sample))}" for sample in named),
                *([f"  … and {left - len(named)} more"] if left > len(named) else []),
            ]
        )


def make_plan(settings: Settings, num_processes: int) -> Plan:
    """Check references, weights and the output folder, and see what is finished. Nothing is written.

    Args:
        settings: what is asked for.
        num_processes: that share the work.

    Raises:
        InputError: references that cannot be read (all of them, unless `skip_bad_inputs`), or a folder that holds
            images of other settings (unless `overwrite`).
    """
    check_replaceable(settings.save_dir / "run.yaml")
    found = examine(settings.references, max(settings.image_size), settings.tolerance)
    if found.faults and not settings.skip_bad_inputs:
        raise InputError(*found.faults.values())
    settings = replace(settings, skipped={**settings.skipped, **found.faults})
    _check_progress_grid(settings)
    if not settings.samples:
        raise InputError(*found.faults.values(), "no sample has a reference that can be read")
    if settings.keep_aspect:
        short, multiple = settings.image_size[0], settings.size_multiple
        shapes = {name: own_shape(shape, short, multiple) for name, shape in found.shapes.items()}
        settings = replace(settings, shapes=shapes)
    todo = np.ones(len(settings.samples), dtype=bool)
    notes = (*settings.input_notes, *found.notes, *_unbound(settings))
    checkpoint = settings.checkpoint or open_checkpoint(settings.weights, settings.raw_weights)
    plan = Plan(settings, checkpoint.sha256(), found.hashes, notes, num_processes, todo)
    if not settings.overwrite:
        check_record(settings, plan.weights_hash)
    for path in figure_paths(settings):
        check_figure(path, settings.overwrite)

    check_page(settings)
    at = present(settings)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(at), READ_AT_ONCE):
            here = at[start : start + READ_AT_ONCE]
            samples = [settings.samples[i] for i in here]
            texts = pool.map(read_text, map(plan.path, samples))
            todo[here] = [not plan.is_finished(*pair) for pair in zip(samples, texts, strict=True)]
        pictures = pictures_of(settings)
        texts = pool.map(read_text, map(plan.path, pictures))
        unfinished = [
            picture for picture, text in zip(pictures, texts, strict=True) if not plan.is_finished(picture, text)
        ]
    return replace(plan, pictures=frozenset(unfinished))


def begin(plan: Plan, lock: FolderLock) -> None:
    """Make the folder ready: from here on, a sample's file is there if and only if it is finished.

    Raises:
        RunError: the folder cannot be written to.
    """
    folder = plan.settings.save_dir
    try:
        lock.remove_marks()
        remove_leftovers([folder / name for name in output_folders(plan.settings)], plan.writes)
        for position in present(plan.settings):
            if plan.todo[position]:
                plan.path(plan.settings.samples[position]).unlink(missing_ok=True)
        for picture in plan.pictures:
            plan.path(picture).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written to: {error.strerror or error}") from None
    write_run_record(plan.settings, plan.weights_hash, plan.num_processes)


def _unbound(settings: Settings) -> list[str]:
    """Said of a range that leaves nothing of the references: every step free, and the walk begun with pure noise."""
    if settings.walk_steps not in settings.range_t or settings.walk_steps < settings.diffusion["respace_steps"]:
        return []
    return [f"range_t {settings.walk_steps} leaves every step alone: its images follow no reference"]


def _check_progress_grid(settings: Settings) -> None:
    """That the sample whose progress is to be shown is one of the run's."""
    shown = settings.progress_grid
    if shown is not None and settings.references[shown % len(settings.references)].name in settings.skipped:
        raise InputError(f"--progress_grid {shown}: the reference of sample {shown} is skipped; choose another sample")

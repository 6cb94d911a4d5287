"""The plan of a run: which samples are left to do, as the files themselves say by the text inside them."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from utils.errors import InputError, RunError, one_line
from utils.files import check_replaceable, remove_leftovers
from utils.images import read_text
from utils.run.batches import Batches, make_batches
from utils.run.differences import name_differences
from utils.run.folder_lock import FolderLock
from utils.run.preflight import THREADS, examine
from utils.run.record import hash_weights, png_text, read_run_record, settings_record, write_run_record
from utils.run.settings import Sample, Settings

MOST_NAMED = 20  # samples that a summary names
READ_AT_ONCE = 10_000  # files; each takes some memory while it waits for its thread
OUTPUTS = ("run.yaml", "grid.png")
# a picture edited since its samples were made is no other setting: its samples are made anew
OF_THE_REFERENCE = {"fingerprint", "reference", "reference_sha256"}


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. The main process makes it, and every process works by it.

    Attributes:
        settings: the run's, without the references that cannot be read.
        weights_hash: SHA-256 of the checkpoint.
        reference_hashes: SHA-256 of each reference's content, by its name.
        num_processes: that share the work.
        todo: [N] bool, of each sample, by its position, whether it is not finished.
    """

    settings: Settings
    weights_hash: str
    reference_hashes: Mapping[str, str]
    num_processes: int
    todo: np.ndarray

    @cached_property
    def batches(self) -> Batches:
        """The batches with something left to do, each process's being every `num_processes`th."""
        return make_batches(self.settings.samples, self.todo, self.settings.micro_batch, self.num_processes)

    def path(self, sample: Sample) -> Path:
        """Where a sample is written."""
        return self.settings.save_dir / sample.file_name

    def text(self, sample: Sample) -> dict[str, str]:
        """The text chunks of a sample's PNG; those of a finished one are the same."""
        return png_text(self.settings, sample, self.weights_hash, self.reference_hashes[sample.reference.name])

    def is_todo(self, sample: Sample) -> bool:
        """Whether a sample is not finished."""
        return bool(self.todo[self.settings.samples.position(sample)])

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
        named = [settings.samples[i] for i in np.flatnonzero(self.todo)[:MOST_NAMED].tolist()]
        return "\n".join(
            [
                f"samples      {images}, of which {images - left} are finished",
                f"references   {len(self.reference_hashes)} read, {len(settings.skipped)} skipped",
                f"steps        {settings.walk_steps} per sample",
                f"model calls  {len(self.batches) * settings.walk_steps}, of up to {settings.micro_batch} samples, "
                f"shared by {self.num_processes} process(es)",
                f"files        {left} images, grid.png and run.yaml in {one_line(settings.save_dir)}",
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
    for name in OUTPUTS:
        check_replaceable(settings.save_dir / name)
    hashes, faults = examine(settings.references)
    if faults and not settings.skip_bad_inputs:
        raise InputError(*faults.values())
    settings = replace(settings, skipped={**settings.skipped, **faults})
    _check_progress_grid(settings)
    if not settings.samples:
        raise InputError(*faults.values(), "no sample has a reference that can be read")
    todo = np.ones(len(settings.samples), dtype=bool)
    plan = Plan(settings, hash_weights(settings.weights), hashes, num_processes, todo)
    if not settings.overwrite:
        _check_record(plan)

    at = present(settings)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(at), READ_AT_ONCE):
            here = at[start : start + READ_AT_ONCE]
            samples = [settings.samples[i] for i in here]
            texts = pool.map(read_text, map(plan.path, samples))
            todo[here] = [not _is_finished(plan, *pair) for pair in zip(samples, texts, strict=True)]
    return plan


def present(settings: Settings) -> list[int]:
    """The positions of the samples that have a file in their place, whatever it holds.

    Raises:
        InputError: a folder that cannot be read.
    """
    found: set[int | None] = set()
    for binding in settings.bindings:
        folder = settings.save_dir / binding.folder
        try:
            found.update(settings.samples.find(binding, name) for name in os.listdir(folder))
        except FileNotFoundError:  # a dry run makes none
            continue
        except OSError as error:
            raise InputError(f"save_dir {folder}: cannot be read: {error.strerror or error}") from None
    return sorted(position for position in found if position is not None)


def _is_finished(plan: Plan, sample: Sample, text: Mapping[str, str] | None) -> bool:
    """Whether the file in a sample's place, by its text chunks, is that sample.

    Raises:
        InputError: it is something else, and nothing says that it may be replaced.
    """
    wanted = plan.text(sample)
    if text is not None and text.get("fingerprint") == wanted["fingerprint"]:
        return True
    if text is not None and not plan.settings.overwrite:
        _check_image(plan.path(sample), text, wanted)
    return False


def begin(plan: Plan, lock: FolderLock) -> None:
    """Make the folder ready: from here on, a sample's file is there if and only if it is finished.

    Raises:
        RunError: the folder cannot be written to.
    """
    folder = plan.settings.save_dir
    try:
        lock.remove_marks()
        remove_leftovers({folder} | {folder / binding.folder for binding in plan.settings.bindings})
        for position in present(plan.settings):
            if plan.todo[position]:
                plan.path(plan.settings.samples[position]).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written to: {error.strerror or error}") from None
    write_run_record(plan.settings, plan.weights_hash, plan.num_processes)


def _check_progress_grid(settings: Settings) -> None:
    """That the sample whose progress is to be shown is one of the run's."""
    shown = settings.progress_grid
    if shown is not None and settings.references[shown % len(settings.references)].name in settings.skipped:
        raise InputError(f"--progress_grid {shown}: the reference of sample {shown} is skipped; choose another sample")


def _check_record(plan: Plan) -> None:
    """That run.yaml, where there are images beside it, is of the same settings."""
    folder = plan.settings.save_dir
    record = folder / "run.yaml"
    if not record.exists() or not any(folder.rglob("*.png")):
        return
    found = read_run_record(record)
    wanted = settings_record(plan.settings, plan.weights_hash)
    for swept in ("downsample_factor", "range_t"):
        if isinstance(found.get(swept), list) or isinstance(wanted[swept], list):
            del wanted[swept]  # a sweep has a folder for each, and may grow by others
    differences = name_differences(found, wanted)
    if differences:
        raise InputError(
            f"save_dir {folder}: holds images of other settings ({differences}); choose another, or --overwrite"
        )


def _check_image(path: Path, text: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """That an image which is about to be replaced is the same sample of an older reference."""
    if "fingerprint" not in text:
        raise InputError(f"{path}: is in the way, and not one of ours; choose another save_dir, or --overwrite")
    keep = wanted.keys() - OF_THE_REFERENCE
    differences = name_differences({k: text.get(k) for k in keep}, {k: wanted[k] for k in keep})
    if differences:
        raise InputError(f"{path}: was made otherwise ({differences}); choose another save_dir, or --overwrite")

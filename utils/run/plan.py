"""The plan of a run: which samples are left to do, as the files themselves say by the text inside them."""

import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice, zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import Tensor

from utils.errors import InputError, RunError, one_line
from utils.files import remove_leftovers
from utils.images import read_reference
from utils.png import PngText, read_text
from utils.run.ownership import check_figure, figure_paths, is_ours, not_ours
from utils.run.preflight import THREADS, examine
from utils.run.record import hash_weights, png_text, read_run_record, settings_record, write_run_record
from utils.run.references import Reference
from utils.run.settings import Sample, Settings

# a picture edited since its samples were made is no other setting: its samples are made anew
OF_THE_REFERENCE = {"fingerprint", "reference", "reference_sha256"}


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. The main process makes it, and every process works by it.

    Attributes:
        settings: the run's, without the references that cannot be read.
        weights_hash: SHA-256 of the checkpoint.
        reference_hashes: SHA-256 of each reference's content, by its name.
        notes: what there is to be said of the references, a line each.
        todo: the samples that are not finished.
        batches: the batches that hold them, each process's being every `num_processes`th. They are those of a
            whole run, finished samples included: the device's rounding may depend on a batch's size.
    """

    settings: Settings
    weights_hash: str
    reference_hashes: Mapping[str, str]
    notes: tuple[str, ...] = ()
    todo: frozenset[Sample] = frozenset()
    batches: tuple[Sequence[Sample], ...] = ()

    def path(self, sample: Sample) -> Path:
        """Where a sample is written."""
        return self.settings.save_dir / sample.file_name

    def text(self, sample: Sample) -> dict[str, str]:
        """The text chunks of a sample's PNG; those of a finished one are the same."""
        return png_text(self.settings, sample, self.weights_hash, self.reference_hashes[sample.reference.name])

    def read(self, reference: Reference) -> Tensor:
        """A reference as it was when the plan was made, [C, H, W] in [-1, 1].

        Raises:
            RunError: it has been replaced since then, or can be read no more.
        """
        settings, sha256 = self.settings, self.reference_hashes[reference.name]
        size, channels = settings.config.image_size, settings.config.image_channels
        try:
            return read_reference(reference.path, size, channels, settings.tolerance, sha256)
        except InputError as error:
            raise RunError(str(error)) from None

    def left(self) -> int:
        """How many samples are still to be made, by all processes together."""
        return sum(not self.path(sample).exists() for sample in self.todo)

    def how_to_go_on(self) -> str:
        """How far the run has come, and what to do about the rest."""
        total, left = len(self.settings.samples), self.left()
        if not left:
            return f"all {total} images are made; the same command draws the grid"
        return f"{left} of {total} images are left; the same command goes on with them"

    def summary(self, num_processes: int) -> str:
        """What the run would do, in lines."""
        settings = self.settings
        files = [one_line(self.path(sample)) for sample in settings.samples if sample in self.todo]
        images = len(settings.samples)
        return "\n".join(
            [
                f"samples      {images}, of which {images - len(files)} are finished",
                f"references   {len(self.reference_hashes)} read, {len(settings.skipped)} skipped",
                f"steps        {settings.walk_steps} per sample",
                f"model calls  {len(self.batches) * settings.walk_steps}, of up to {settings.micro_batch} samples, "
                f"shared by {num_processes} process(es)",
                f"files        {len(files)} images, grid.png and run.yaml in {one_line(settings.save_dir)}",
                *(f"  {file}" for file in files[:20]),
                *([f"  … and {len(files) - 20} more"] if len(files) > 20 else []),
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
    found = examine(settings.references, settings.config.image_size, settings.tolerance)
    if found.faults and not settings.skip_bad_inputs:
        raise InputError(*found.faults.values())
    settings = replace(settings, skipped=found.faults)
    if not settings.samples:
        raise InputError(*found.faults.values(), "no sample has a reference that can be read")
    notes = (*settings.input_notes, *found.notes)
    plan = Plan(settings, hash_weights(settings.weights), found.hashes, notes)
    if not settings.overwrite:
        _check_record(plan)
    for path in figure_paths(settings):
        check_figure(path, settings.overwrite)
    with ThreadPoolExecutor(THREADS) as pool:
        texts = pool.map(read_text, map(plan.path, settings.samples))
        todo = {
            sample for sample, text in zip(settings.samples, texts, strict=True) if not _is_finished(plan, sample, text)
        }
    batches = (b for b in make_batches(settings, num_processes) if not todo.isdisjoint(b))
    return replace(plan, todo=frozenset(todo), batches=tuple(batches))


def make_batches(settings: Settings, num_processes: int) -> Iterable[Sequence[Sample]]:
    """The micro-batches of a whole run, the first of each process first.

    Each is of one binding, since a batch has one filter: the same as if each binding had a run of its own.
    """
    size = min(settings.micro_batch, len(settings.samples))

    def share(rank: int) -> Iterable[Sequence[Sample]]:
        samples = (sample for sample in settings.samples if sample.number % num_processes == rank)
        for _, group in groupby(samples, attrgetter("binding")):
            while batch := tuple(islice(group, size)):
                yield batch

    return filter(None, chain.from_iterable(zip_longest(*map(share, range(num_processes)))))


def begin(plan: Plan, num_processes: int) -> None:
    """Make the folder ready: from here on, a sample's file is there if and only if it is finished.

    Raises:
        RunError: the folder cannot be written to.
    """
    folder = plan.settings.save_dir
    try:
        written = [*figure_paths(plan.settings), folder / "run.yaml", *map(plan.path, plan.settings.samples)]
        remove_leftovers(written)
        for sample in plan.todo:
            plan.path(sample).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written to: {error.strerror or error}") from None
    write_run_record(plan.settings, plan.weights_hash, num_processes)


def _check_record(plan: Plan) -> None:
    """That run.yaml is ours; and where there are images beside it, of the same settings."""
    folder = plan.settings.save_dir
    record = folder / "run.yaml"
    if not os.path.lexists(record):
        return
    found = read_run_record(record)
    if not any(folder.rglob("*.png")):
        return
    wanted = settings_record(plan.settings, plan.weights_hash)
    for swept in ("downsample_factor", "range_t"):
        if isinstance(found.get(swept), list) or isinstance(wanted[swept], list):
            del wanted[swept]  # a sweep has a folder for each, and may grow by others
    differences = name_differences(found, wanted)
    if differences:
        raise InputError(
            f"save_dir {folder}: holds images of other settings ({differences}); choose another, or --overwrite"
        )


def _is_finished(plan: Plan, sample: Sample, found: PngText | None) -> bool:
    """Whether what lies in a sample's place is this sample.

    Raises:
        InputError: it is something else that may not be replaced: only the same sample of an older reference may, or
            one that is cut short.
    """
    wanted = plan.text(sample)
    if found is None:
        return False
    if found.is_whole and found.text.get("fingerprint") == wanted["fingerprint"]:
        return True
    if not plan.settings.overwrite:
        path, keep = plan.path(sample), wanted.keys() - OF_THE_REFERENCE
        if not is_ours(found):
            raise not_ours(path)
        differences = name_differences({k: found.text.get(k) for k in keep}, {k: wanted[k] for k in keep})
        if found.is_whole and differences:
            raise InputError(f"{path}: was made otherwise ({differences}); choose another save_dir, or --overwrite")
    return False


def name_differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 5) -> str:
    """The settings that differ, and how: "seed 1, now 2; diffusion.respace_steps 50, now 100"."""
    before, now = dict(_flat(old)), dict(_flat(new))
    differing = [key for key in now if key not in before or before[key] != now[key]]
    shown = [f"{key} {reprlib.repr(before.get(key))}, now {reprlib.repr(now[key])}" for key in differing[:most]]
    return "; ".join(shown + ([f"{len(differing) - most} more"] if len(differing) > most else []))


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _flat(value, f"{key}.")
        else:
            yield prefix + str(key), value

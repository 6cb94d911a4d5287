"""The plan of a run: which samples are left to do, as the files themselves say by the text inside them."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice, zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any

from utils.errors import InputError, RunError, one_line
from utils.files import remove_leftovers
from utils.images import read_text
from utils.run.preflight import THREADS, examine
from utils.run.record import hash_weights, png_text, read_run_record, settings_record, write_run_record
from utils.run.settings import Sample, Settings
from utils.run.shapes import own_shapes

# a picture edited since its samples were made is no other setting: its samples are made anew
OF_THE_REFERENCE = {"fingerprint", "reference", "reference_sha256", "shape"}


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. The main process makes it, and every process works by it.

    Attributes:
        settings: the run's, without the references that cannot be read.
        weights_hash: SHA-256 of the checkpoint.
        reference_hashes: SHA-256 of each reference's content, by its name.
        todo: the samples that are not finished.
        batches: the batches that hold them, each process's being every `num_processes`th. They are those of a
            whole run, finished samples included: the device's rounding may depend on a batch's size.
    """

    settings: Settings
    weights_hash: str
    reference_hashes: Mapping[str, str]
    todo: frozenset[Sample] = frozenset()
    batches: tuple[Sequence[Sample], ...] = ()

    def path(self, sample: Sample) -> Path:
        """Where a sample is written."""
        return self.settings.save_dir / sample.file_name

    def text(self, sample: Sample) -> dict[str, str]:
        """The text chunks of a sample's PNG; those of a finished one are the same."""
        return png_text(self.settings, sample, self.weights_hash, self.reference_hashes[sample.reference.name])

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
        sizes = sorted({"×".join(map(str, settings.shape_of(sample))) for sample in settings.samples})
        return "\n".join(
            [
                f"samples      {images}, of which {images - len(files)} are finished",
                f"references   {len(self.reference_hashes)} read, {len(settings.skipped)} skipped",
                f"steps        {settings.walk_steps} per sample",
                *([f"sizes        {', '.join(sizes[:5])}{', …' * (len(sizes) > 5)}"] if settings.is_larger else []),
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
    hashes, faults = examine(settings.references)
    if faults and not settings.skip_bad_inputs:
        raise InputError(*faults.values())
    settings = replace(settings, skipped=faults)
    if not settings.samples:
        raise InputError(*faults.values(), "no sample has a reference that can be read")
    if settings.keep_aspect:
        readable = (reference for reference in settings.references if reference.name in hashes)
        shapes = own_shapes(readable, settings.image_size[0], settings.size_multiple)
        settings = replace(settings, shapes=shapes)
    plan = Plan(settings, hash_weights(settings.weights), hashes)
    if not settings.overwrite:
        _check_record(plan)

    read_text(settings.save_dir / "grid.png")  # no folder
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(read_text, map(plan.path, settings.samples)))
    todo = set()
    for sample, text in zip(settings.samples, found, strict=True):
        wanted = plan.text(sample)
        if text is None or text.get("fingerprint") != wanted["fingerprint"]:
            if text is not None and not settings.overwrite:
                _check_image(plan.path(sample), text, wanted)
            todo.add(sample)
    batches = (b for b in make_batches(settings, num_processes) if not todo.isdisjoint(b))
    return replace(plan, todo=frozenset(todo), batches=tuple(batches))


def make_batches(settings: Settings, num_processes: int) -> Iterable[Sequence[Sample]]:
    """The micro-batches of a whole run, the first of each process first.

    Each is of one binding and of one shape, since a batch has one filter: the same as if each binding had a run of its
    own.
    """
    size = min(settings.micro_batch, len(settings.samples))

    def share(rank: int) -> Iterable[Sequence[Sample]]:
        mine = (sample for sample in settings.samples if sample.number % num_processes == rank)
        for _, samples in groupby(mine, attrgetter("binding")):
            for _, group in groupby(sorted(samples, key=settings.shape_of), settings.shape_of):
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
        remove_leftovers({plan.path(sample).parent for sample in plan.settings.samples} | {folder})
        for sample in plan.todo:
            plan.path(sample).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written to: {error.strerror or error}") from None
    write_run_record(plan.settings, plan.weights_hash, num_processes)


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

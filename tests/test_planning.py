"""A plan lists nothing: samples and batches follow from numbers, and are those of the lists that they stand for."""

from itertools import chain, groupby, islice, product, zip_longest
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import run_here
from utils.run import sampling
from utils.run.references import Reference
from utils.run.samples import Binding, Sample, Samples, make_batches

NAMES = ("a", "B_1", "é", "a_0", "e\u0301")  # the last, of a second form, may lie beside the third
BINDINGS = (Binding(4.0, 0), Binding(8.0, 0))


def samples_of(n_samples: int, skipped: set[str], num_bindings: int) -> Samples:
    references = [Reference(Path(f"{name}.png"), name) for name in NAMES]
    return Samples(references, skipped, n_samples, BINDINGS[:num_bindings])


def listed(n_samples: int, skipped: set[str], num_bindings: int) -> list[Sample]:
    """By the words of the rule: sample i follows reference i mod R and is its variation i div R."""
    count = len(NAMES)
    numbers = [i for i in range(n_samples) if NAMES[i % count] not in skipped]
    return [
        Sample(i, Reference(Path(f"{NAMES[i % count]}.png"), NAMES[i % count]), i // count, binding, index)
        for index, (binding, i) in enumerate(product(BINDINGS[:num_bindings], numbers))
    ]


def batches_of(samples: list[Sample], todo: set[Sample], size: int, num_processes: int) -> list[list[Sample]]:
    """Each process's samples in turn, cut into batches of one binding; those with nothing to do left out."""

    def share(rank):
        own = (sample for sample in samples if sample.number % num_processes == rank)
        for _, group in groupby(own, attrgetter("binding")):
            while batch := list(islice(group, size)):
                yield batch

    batches = filter(None, chain.from_iterable(zip_longest(*map(share, range(num_processes)))))
    return [batch for batch in batches if not todo.isdisjoint(batch)]


def listed_batches(samples: Samples, *args) -> list[list[Sample]]:
    return [[samples[index] for index in batch.tolist()] for batch in make_batches(samples, *args)]


@pytest.mark.parametrize("num_bindings", [1, 2])
@pytest.mark.parametrize("skipped", [set(), {"a", "é"}, {"e\u0301"}])
@pytest.mark.parametrize("n_samples", [1, 4, 5, 13, 40])
def test_samples_and_batches_are_those_of_the_lists(n_samples, skipped, num_bindings):
    expected = listed(n_samples, skipped, num_bindings)
    samples = samples_of(n_samples, skipped, num_bindings)
    assert list(samples) == expected and len(samples) == len(expected)
    assert samples.numbered(4) == [sample for sample in expected if sample.number == 4]
    assert samples.variations(BINDINGS[0], 2) == [s for s in expected if s.binding == BINDINGS[0] and s.variation < 2]
    rng = np.random.default_rng(n_samples)
    for size, num_processes, part in ((1, 1, 1.0), (3, 1, 0.5), (4, 2, 1.0), (3, 3, 0.3), (100, 2, 0.7), (2, 7, 0.9)):
        todo = rng.random(len(expected)) < part
        wanted = {sample for sample, left in zip(expected, todo, strict=True) if left}
        batches = listed_batches(samples, todo, size, num_processes)
        its = batches_of(expected, wanted, size, num_processes)
        assert batches == its
        shapes = dict(zip(NAMES, [(8, 8), (8, 12), (8, 8), (12, 8), (8, 12)], strict=True))
        alike = listed_batches(samples, todo, size, num_processes, dict.fromkeys(NAMES, (8, 8)))
        assert alike == its
        of_shapes = listed_batches(samples, todo, size, num_processes, shapes)
        assert all(len({shapes[sample.reference.name] for sample in batch}) == 1 for batch in of_shapes)
        assert wanted <= set(chain.from_iterable(of_shapes)) <= set(expected)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("a_0.png", 0), ("a_1.png", 5), ("A_1.PNG", 5), ("b_1_0.png", 1), ("e\u0301_0.png", 4), ("é_0.png", 2),
        ("a_0_1.png", 8),
        ("a_00.png", None), ("a_٣.png", None), ("a_2.png", None), ("a_.png", None), ("_0.png", None), ("x_0.png", None),
        ("grid.png", None), ("a_0.jpg", None), ("", None), ("a_0.png.1.tmp", None), ("a_9999999999.png", None),
    ],
)  # fmt: skip
def test_a_file_is_known_by_its_name(name, number):
    assert samples_of(9, set(), 1).find(BINDINGS[0], name) == number


def test_an_image_that_goes_during_the_run_is_missed(tmp_path, input_dir, tiny_model, monkeypatch):
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--downsample_factor", 4, "--respace_steps", 1)
    args += ("--save_dir", tmp_path / "out", "--n_samples")
    assert run_here(*args, 3) == (0, "")
    save = sampling._save

    def save_and_remove(*saved):
        save(*saved)
        (tmp_path / "out" / "a_0.png").unlink(missing_ok=True)

    monkeypatch.setattr(sampling, "_save", save_and_remove)
    code, error = run_here(*args, 6)
    assert (
        code == 1
        and error == "images were removed during the run: 5 of 6 images are done; run the same command again to finish"
    )
    monkeypatch.setattr(sampling, "_save", save)
    assert run_here(*args, 6) == (0, "")
    assert Image.open(tmp_path / "out" / "a_0.png").size == (16, 16)

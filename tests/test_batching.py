"""Reading and writing beside sampling: in order, and no error is lost."""

import threading
from types import SimpleNamespace

import pytest
import torch

from utils import batching
from utils.batching import BackgroundWriter, read_ahead


def fail(*_: object) -> None:
    raise OSError("no space left")


def test_read_ahead_keeps_the_batches_and_their_order():
    results = [[(item, made.result()) for item, made in batch] for batch in read_ahead(str, [(0, 1), (2, 3), (4,)])]
    assert results == [[(0, "0"), (1, "1")], [(2, "2"), (3, "3")], [(4, "4")]]
    assert list(read_ahead(str, [])) == []


def test_read_ahead_works_on_one_batch_more_than_was_asked_for():
    begun = [threading.Event() for _ in range(4)]
    batches = read_ahead(lambda i: begun[i].set(), [(0,), (1,), (2,), (3,)])
    next(batches)
    assert begun[1].wait(10)
    assert not begun[2].is_set()
    batches.close()


def test_read_ahead_raises_where_the_result_is_asked_for():
    batches = read_ahead(lambda i: 1 / i, [(1, 0)])
    [(_, good), (_, bad)] = next(batches)
    assert good.result() == 1
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_background_does_everything_in_order():
    done: list[int] = []
    with BackgroundWriter() as writer:
        for i in range(20):
            writer.submit(done.append, i)
    assert done == list(range(20))


def test_background_runs_beside_its_caller():
    called = threading.Event()
    with BackgroundWriter() as writer:
        writer.submit(called.wait, 10)
        called.set()


def test_errors_surface_at_the_next_job():
    done: list[int] = []
    with pytest.raises(OSError, match="no space left"), BackgroundWriter() as writer:
        writer.submit(fail)
        writer.submit(done.append, 1)
    assert not done


def test_errors_of_the_last_job_surface_on_leaving():
    with pytest.raises(OSError, match="no space left"), BackgroundWriter() as writer:
        writer.submit(fail)


def test_the_callers_own_error_goes_first():
    with pytest.raises(KeyError), BackgroundWriter() as writer:
        writer.submit(fail)
        raise KeyError


VERSION_2 = {
    "memory.max": "4294967296",
    "memory.current": "1073741824",
    "memory.stat": "anon 5\ninactive_file 73741824\n",
}
VERSION_1 = {
    "memory/memory.limit_in_bytes": "4294967296",
    "memory/memory.usage_in_bytes": "1073741824",
    "memory/memory.stat": "inactive_file 3\ntotal_inactive_file 73741824\ntotal_active_file 8\n",
}


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1])
def test_a_containers_limit_is_seen(tmp_path, monkeypatch, files):
    """As the kernel writes them (cgroup-v2 and cgroup-v1/memory in its documentation)."""
    monkeypatch.setattr(batching.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**40))
    monkeypatch.setattr(batching, "CGROUP", tmp_path)
    assert batching.available_memory(torch.device("cpu")) == 2**40
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert batching.available_memory(torch.device("cpu")) == 4294967296 - 1073741824 + 73741824
    (tmp_path / next(iter(files))).write_text("max\n")
    assert batching.available_memory(torch.device("cpu")) == 2**40

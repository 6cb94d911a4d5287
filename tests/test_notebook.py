"""Runs inside another program's process, most of all a notebook's: what was there before is there afterwards."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ENTRY, ENVIRONMENT, PROJECT

pytestmark = pytest.mark.slow

STATE = """
import signal, threading, torch
def state():
    writer = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(writer)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    threads = [each.name for each in threading.enumerate() if "_see_it_through" in each.name]
    return handlers, writer, threads, torch.get_default_dtype()
before, treasure = state(), 42
"""


class Kernel:
    """A Jupyter kernel of its own, and what its cells print."""

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(env=ENVIRONMENT, cwd=str(PROJECT))

    def run(self, code: str, interrupt_when: Path | None = None, after: float = 0.5) -> tuple[str, str]:
        """Run a cell, and interrupt it as the stop button does once a file is there; its status and what it printed."""
        message, said = self.client.execute(code), []
        end = time.monotonic() + 90
        while interrupt_when is not None and not list(interrupt_when.glob("*_*.png")) and time.monotonic() < end:
            time.sleep(0.01)
        if interrupt_when is not None:
            time.sleep(after)
            self.manager.interrupt_kernel()
        while True:
            heard = self.client.get_iopub_msg(timeout=90)
            if heard["parent_header"].get("msg_id") == message:
                content = heard["content"]
                said.append(content.get("text", "") + "\n".join(content.get("traceback", [])))
                if content.get("execution_state") == "idle":
                    return self.client.get_shell_msg(timeout=90)["content"]["status"], "".join(said)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    started = Kernel()
    assert started.run(STATE)[0] == "ok"
    yield started
    started.client.stop_channels()
    started.manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(
    "way", ["%run -i {entry} {args}", "%run {entry} {args}", "import sample_ilvr; sample_ilvr.main({words})"]
)
def test_a_kernel_outlives_an_interrupted_run(tmp_path, input_dir, tiny_model, kernel, way):
    words = ["--weights", tiny_model, "--input_dir", input_dir, "--save_dir", tmp_path / "out"]
    words = [str(word) for word in (*words, "--downsample_factor", 4, "--respace_steps", 30, "--n_samples")]

    def cell(count: int) -> str:
        every = [*words, str(count)]
        return way.format(entry=ENTRY, args=" ".join(every), words=every)

    status, said = kernel.run(cell(3))
    assert "3 images, index.html and grid.png are in" in said, said
    status, said = kernel.run(cell(4000), interrupt_when=tmp_path / "out")
    assert "sample_ilvr: interrupted: " in said and "of 4000 images are done; run the same command again" in said
    assert "KeyboardInterrupt" in said
    assert '"running":false' in (tmp_path / "out" / "index.html").read_text()

    (tmp_path / "slow_1.png").touch()
    status, said = kernel.run("import time; time.sleep(60)", interrupt_when=tmp_path)
    assert status == "error" and "KeyboardInterrupt" in said
    time.sleep(4)  # longer than a run of its own gives itself to end
    status, said = kernel.run("print(treasure, state() == before)")
    assert (status, said.strip()) == ("ok", "42 True")


HOST = """
import sys, torch, torch.distributed as dist
from accelerate import Accelerator, PartialState
if "accelerator" in sys.argv:
    Accelerator(mixed_precision="bf16", cpu=True)
elif "group" in sys.argv:
    dist.init_process_group("gloo")
torch.set_default_dtype(torch.float64)
before = dict(PartialState._shared_state)
from sample_ilvr import main
assert main(sys.argv[sys.argv.index("--") + 1:]) == 0
assert PartialState._shared_state == before and torch.get_default_dtype() == torch.float64
assert dist.is_initialized() == ("group" in sys.argv)
if dist.is_initialized():
    value = torch.ones(())
    dist.all_reduce(value)
    assert value == 2
    dist.barrier()
print("as it was")
"""


@pytest.mark.parametrize("kind", ["nothing", "accelerator", "group"])
def test_a_program_that_calls_main_finds_its_state_as_it_was(tmp_path, input_dir, tiny_model, kind):
    (tmp_path / "host.py").write_text(HOST)
    args = ["--weights", tiny_model, "--input_dir", input_dir, "--save_dir", tmp_path / "out", "--respace_steps", "2"]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    start = start if kind == "group" else [sys.executable]
    done = subprocess.run(
        list(map(str, [*start, tmp_path / "host.py", kind, "--", *args, "--downsample_factor", "4"])),
        env=ENVIRONMENT | {"PYTHONPATH": str(PROJECT)}, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as it was") == (2 if kind == "group" else 1)
    assert len(list((tmp_path / "out").glob("*_0.png"))) == 3

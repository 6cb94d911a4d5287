"""Runs of several processes, on one machine or two, and what can go wrong between them."""

import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.launches import launcher
from tests.commands import ENTRY, ENVIRONMENT, PROJECT, read_images, run_here
from utils.files import write_atomically
from utils.run.engine import take_lock

pytestmark = pytest.mark.slow

# what a process of a run does: it plays the part that PLAY says, as RANK of WORLD_SIZE, without much patience
PLAY = """
import contextlib, datetime, os, sys
from utils.errors import InputError, ReportedByOtherRankError, RunError
from utils.run import processes
processes.MAX_WAIT, processes.NOTICE_AFTER = datetime.timedelta(seconds=8), {notice}
try:
    with contextlib.closing(processes.Processes()) as run:
        {play}
except (InputError, RunError) as error:
    print(error)
except ReportedByOtherRankError:
    pass
"""
QUIET = ENVIRONMENT | {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # as the entry script has it


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_ranks(commands: Sequence[Sequence[object]], folders: Sequence[Path] | None = None) -> list[subprocess.Popen]:
    """One process of a run each, as a launcher would start them; without one, nobody ends the others when one dies."""
    environment = QUIET | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "PYTHONPATH": PROJECT}
    environment |= {"WORLD_SIZE": str(max(len(commands), 2)), "ACCELERATE_USE_CPU": "true"}
    return [
        subprocess.Popen(
            list(map(str, command)),
            cwd=folders[rank] if folders else PROJECT,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]


def said_by(ranks: list[subprocess.Popen]) -> list[str]:
    return ["".join(rank.communicate(timeout=60)).strip() for rank in ranks]


def play(*plays: str, notice: float = 60) -> list[str]:
    """What each of a run's processes prints, given what it does once they are together."""
    commands = [[sys.executable, "-c", PLAY.format(play=each, notice=notice)] for each in plays]
    return said_by(start_ranks(commands))


@pytest.fixture
def job(input_dir, tiny_model) -> tuple:
    return ("--weights", tiny_model, "--input_dir", input_dir, "--downsample_factor", 4, "--respace_steps", 2)


def flock_of_nfs(file: int, operation: int) -> None:
    """As Linux' NFS client has it: a lock wants a file that is open for what it keeps others from."""
    mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
    wanted = {fcntl.LOCK_SH: os.O_WRONLY, fcntl.LOCK_EX: os.O_RDONLY}.get(operation & ~fcntl.LOCK_NB)
    if mode == wanted:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_the_lock_holds_on_nfs(tmp_path, monkeypatch):
    locked = []
    monkeypatch.setattr(fcntl, "flock", lambda file, *args: locked.append(flock_of_nfs(file.fileno(), *args)))
    take_lock(tmp_path).close()
    assert len(locked) == 1


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EBADF, errno.ESTALE])
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with take_lock(tmp_path), take_lock(tmp_path):
        pass


def test_two_machines_and_a_file_system_without_locks(tmp_path, job):
    """Two launchers of two processes each share a folder; whoever finds no image missing draws the grid."""
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, fcntl\n"
        "def flock(*_):\n    raise OSError(errno.ENOLCK, 'No locks available')\n"
        "fcntl.flock = flock\n"
    )
    port = free_port()
    machines = []
    for rank in range(2):
        command = [*launcher(4), "--machine_rank", rank, "--main_process_ip", "127.0.0.1"]
        command[command.index("--num_machines") + 1] = 2
        command[command.index("--main_process_port") + 1] = port
        command += [ENTRY, *job, "--save_dir", tmp_path / "out", "--n_samples", 9, "--micro_batch", 1]
        environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path)}
        machines.append(
            subprocess.Popen(
                list(map(str, command)), env=environment, cwd=PROJECT, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    output = [machine.communicate(timeout=120) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], output
    assert 1 <= sum(said.count("9 images and index.html are in") for said, _ in output) <= 4
    assert len(read_images(tmp_path / "out")) == 9 and (tmp_path / "out" / "index_files" / "grid.png").exists()
    assert not list((tmp_path / "out").glob(".*.done"))


def test_a_fault_of_one_rank_is_told_by_that_rank(tmp_path, job, tiny_model):
    """Another machine, on which the weights are missing: the same command, in another folder."""
    (tmp_path / "model").symlink_to(tiny_model)
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, ENTRY, *job, "--weights", "./model", "--save_dir", tmp_path / "out"]
    ranks = start_ranks([command, command], [tmp_path, tmp_path / "elsewhere"])
    said = said_by(ranks)
    assert "error" not in said[0] and said[1].startswith("sample_ilvr: error: ") and "model" in said[1]
    assert len(said[1].splitlines()) == 1
    assert [rank.returncode for rank in ranks] == [2, 2]


def test_a_fault_of_all_is_told_once():
    fail = "run.each(lambda: (_ for _ in ()).throw(InputError('no such file')))"
    assert play(fail, fail) == ["no such file", ""]


def test_ranks_of_different_arguments_are_refused(job, tmp_path):
    commands = [[sys.executable, ENTRY, *job, "--save_dir", tmp_path, "--seed", seed] for seed in (1, 2)]
    said = said_by(start_ranks(commands))
    assert said == ["sample_ilvr: error: rank 1 was started with other arguments than rank 0 (seed 1, now 2)", ""]


def test_ranks_of_different_code_are_refused(job, tmp_path):
    """A node whose checkout is another: its images would be others."""
    rooms = shutil.ignore_patterns(".git", "tests", "assets", "weights", "benchmarks", ".*", "__pycache__")
    shutil.copytree(PROJECT, tmp_path / "node", ignore=rooms)
    with (tmp_path / "node" / "utils" / "noise.py").open("a") as file:
        file.write("# another\n")
    commands = [
        [sys.executable, entry, *job, "--save_dir", tmp_path / "out"]
        for entry in (ENTRY, tmp_path / "node" / ENTRY.name)
    ]
    ranks = start_ranks(commands)
    said = said_by(ranks)
    code = r"code or packages than rank 0 \(code .\w{12}., now .\w{12}.\)"
    words = rf"sample_ilvr: error: rank 1 was started with other {code}"
    assert re.fullmatch(words, said[0]) and said[1] == ""
    assert [rank.returncode for rank in ranks] == [2, 2]


def test_a_rank_that_dies_is_named():
    killed, mistaken = "os._exit(9)", "raise ValueError('a mistake of ours')"
    ended = "{} did not start or has ended: see what it said, and start all again"
    assert play("run.gather(None)", killed) == [ended.format("rank 1 of 2"), ""]
    said = play("run.gather(None)", mistaken)
    assert said[0] == ended.format("rank 1 of 2") and said[1].endswith("ValueError: a mistake of ours")
    assert play(killed, "run.gather(None)") == ["", ended.format("rank 0, the main process,")]


@pytest.mark.parametrize("step", ["accelerate.PartialState._prepare_backend", "torch.distributed.new_group"])
def test_a_main_process_that_dies_while_others_join_is_named(step):
    dies = f"import accelerate, os, torch.distributed\n{step} = lambda *_, **__: os._exit(9)\ntry:"
    script = PLAY.format(play="run.gather(None)", notice=60)
    said = said_by(start_ranks([[sys.executable, "-c", each] for each in (script.replace("try:", dies, 1), script)]))
    ended = "rank 0, the main process, did not start or has ended: see what it said, and start all again"
    assert said[0] == "" and said[1].splitlines()[0] == ended  # torch may log below that it tried to connect


def test_a_node_that_never_comes_is_waited_for_aloud_and_named():
    (said,) = play("run.gather(None)", notice=0.5)
    assert said.splitlines() == [
        "waiting for rank 1 of 2 …",
        "rank 1 of 2 did not start or has ended: see what it said, and start all again",
    ]


def test_a_slow_rank_is_waited_for_aloud():
    slow = "import time; time.sleep(1.5); run.gather(None)"
    said, _ = play("print(run.gather(7))", slow, notice=0.5)
    assert set(said.splitlines()) == {"waiting for rank 1 of 2 …", "[7, None]"}


def test_what_is_gathered_and_made_by_each():
    say = "print(run.gather(run.rank), run.each(lambda: run.rank + 5))"
    assert play(say, say, say) == ["[0, 1, 2] 5", "[0, 1, 2] 6", "[0, 1, 2] 7"]


def test_a_host_that_does_not_resolve_is_said_at_once(monkeypatch):
    environment = {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "no.invalid",
        "MASTER_PORT": "1999",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, error = run_here()
    assert code == 1 and error.startswith("MASTER_ADDR no.invalid, MASTER_PORT 1999: cannot be used: ")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"RANK": "", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": "1"},
            "RANK is '' in the environment, and must be a whole number",
        ),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_PORT is '' in the environment"),
        ({"LOCAL_RANK": "0"}, "WORLD_SIZE is '' in the environment, and must be a whole number below 65536"),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "below 2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "99999"}, "MASTER_PORT is '99999' in the"),
    ],
)
def test_an_environment_that_makes_no_run(monkeypatch, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, error = run_here()
    assert code == 2 and words in error and "\n" not in error


def test_a_run_outlives_the_shell_that_started_it(tmp_path):
    """With a variable of the launcher's in the shell, as `accelerate config` tells people to set."""
    code = "import time; from utils.run.interrupts import Interrupts; Interrupts().watch(); time.sleep(2.5); "
    code += f"open({str(tmp_path / 'alive')!r}, 'w')"
    environment = ENVIRONMENT | {"ACCELERATE_MIXED_PRECISION": "no", "PYTHON": sys.executable, "CODE": code}
    shell = 'nohup "$PYTHON" -c "$CODE" > nohup.txt 2>&1 & sleep 1'
    subprocess.run(["sh", "-c", f"cd {tmp_path}; {shell}"], env=environment | {"PYTHONPATH": str(PROJECT)}, check=True)
    for _ in range(50):
        if (tmp_path / "alive").exists() or signal.sigtimedwait([], 0.1):
            break
    assert (tmp_path / "alive").exists()


def test_names_never_meet(tmp_path, monkeypatch):
    """Containers share process ids."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_atomically, [tmp_path / "a.png"] * 400, [b"whole"] * 400))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"whole")]

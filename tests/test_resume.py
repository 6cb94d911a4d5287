"""A run that was stopped, however it was stopped, is finished by the same command."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.commands import launch, run_here, sample_ilvr, start

SAMPLES, MICRO_BATCH = 45, 2
COMMAND = ("--save_dir", "out", "--n_samples", SAMPLES, "--micro_batch", MICRO_BATCH, "--respace_steps", 30)
COMMAND += ("--downsample_factor", 4)


@pytest.fixture
def job(tmp_path, input_dir, tiny_model, monkeypatch) -> tuple:
    """The arguments of a job, whose results lie in out/ of the working folder: tmp_path, if nothing else is said."""
    monkeypatch.chdir(tmp_path)
    return ("--weights", tiny_model, "--input_dir", input_dir, *COMMAND)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder and its subfolders, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images(folder: Path) -> list[Path]:
    return list(folder.glob("*_*.png"))


def wait_for_images(process: subprocess.Popen, folder: Path, count: int, timeout: float = 120) -> None:
    """Until so many images are there, or the process has ended."""
    end = time.monotonic() + timeout
    while len(images(folder)) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def alive(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(entry.name))
    return found


def wait_for_end(session: int, seconds: float) -> bool:
    """Whether no process of a session is left within so many seconds."""
    end = time.monotonic() + seconds
    while alive(session) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(session)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 3), (2, 3)])
def test_killed_at_any_moment_and_finished(tmp_path, job, processes, kills):
    rng = random.Random(processes)
    job = (*job, "--n_samples", 40)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    done = launch(processes, *job, cwd=tmp_path / "whole")
    assert done.returncode == 0, done.stderr

    made = sorted(path.stat().st_mtime for path in images(tmp_path / "whole" / "out"))
    pace = (made[-1] - made[0]) / len(made)  # so that a fast machine has not done all before it is killed

    folder = tmp_path / "killed" / "out"
    for _ in range(kills):
        before = len(images(folder))
        process = start(processes, *job, cwd=tmp_path / "killed", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_images(process, folder, before + rng.choice([0, 1, 1, 2, 3]))
        time.sleep(rng.uniform(0, 4) * pace)
        assert process.poll() is None, "done before it was killed"
        # the whole job, as a machine dies; or one process of it, as one does that the system runs out of memory for
        victim = rng.choice(alive(process.pid))
        if rng.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(victim, signal.SIGKILL)
        process.wait()
        assert wait_for_end(process.pid, 15)
        assert all(Image.open(path).load() for path in images(folder))

    done = launch(processes, *job, cwd=tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert contents(folder) == contents(tmp_path / "whole" / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "number"),
    [(1, signal.SIGINT), (1, signal.SIGTERM), (1, signal.SIGHUP), (1, signal.SIGUSR1), (2, signal.SIGINT),
     (2, signal.SIGTERM), (2, signal.SIGHUP)],
)  # fmt: skip
def test_signals_end_a_run_in_order(tmp_path, job, processes, number):
    folder = tmp_path / "out"
    process = start(processes, *job, cwd=tmp_path)
    wait_for_images(process, folder, 3)
    begun = time.monotonic()
    if number == signal.SIGINT:  # as a terminal does: to each of them
        os.killpg(process.pid, number)
    else:  # as a batch system does: to the one it started
        os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert wait_for_end(process.pid, 2)
    assert time.monotonic() - begun < 10

    made = len(images(folder))
    assert 0 < made < SAMPLES
    words = rf"sample_ilvr: interrupted: (\d+) of {SAMPLES} images are done; run the same command again to finish"
    told = re.search(words, errors)
    assert told, errors
    if processes == 1:
        assert int(told[1]) == made
        assert process.returncode == 128 + number
        assert errors.rstrip().endswith(told[0])
        assert "Traceback" not in errors
    else:
        # nobody waits for anybody: the other process may write the batch it has in hand after the main one has counted
        assert made - MICRO_BATCH <= int(told[1]) <= made
        assert process.returncode != 0  # the launcher's own, 1 or the signal; it tells those of its processes
    assert not list(folder.glob(".*.tmp"))
    assert '"running":false' in (folder / "index.html").read_text()
    if number == signal.SIGTERM:
        done = launch(processes, *job, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(images(folder)) == SAMPLES


@pytest.mark.slow
def test_a_rank_says_how_it_was_ended(tmp_path, job):
    """The exit codes of the launcher's processes, which the launcher does not pass on."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = []
    for rank in ("0", "1"):
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        ranks.append(start(1, *job, cwd=tmp_path, more_environment=environment))
    wait_for_images(ranks[0], tmp_path / "out", 3)
    ranks[0].send_signal(signal.SIGTERM)
    assert "images are done" in ranks[0].communicate(timeout=20)[1]
    time.sleep(0.1)
    ranks[1].send_signal(signal.SIGINT)
    ranks[1].wait(timeout=20)
    assert [rank.returncode for rank in ranks] == [143, 130]


def test_finished_images_are_kept_and_others_made_again(tmp_path, job, input_dir):
    def run(*args):
        assert run_here(*job, "--n_samples", 6, *args) == (0, "")

    def times():
        return {path.name: path.stat().st_mtime_ns for path in images(out)}

    out = tmp_path / "out"
    run()
    first, first_times = contents(out), times()
    (out / "a_0.png").unlink()
    (out / "b_0.png").write_bytes(first["b_0.png"][:-100])  # cut short by a machine that lost its power
    (out / "c_0.png").write_bytes(b"")
    (out / ".c_1.png.0123456789abcdef.tmp").write_bytes(b"left by a dead run")
    run("--micro_batch", 3)
    tell_the_micro_batch = {"run.yaml", "index.html"}
    assert {k: v for k, v in contents(out).items() if k not in tell_the_micro_batch} == {
        k: v for k, v in first.items() if k not in tell_the_micro_batch
    }
    assert {name for name, at in times().items() if at == first_times[name]} == {"a_1.png", "b_1.png", "c_1.png"}

    kept = times()
    run("--n_samples", 8)  # more of the same
    assert len(images(out)) == 8
    assert kept.items() <= times().items()

    kept = times()
    Image.new("RGB", (30, 30), "red").save(input_dir / "a.png")  # another picture under an old name
    run("--n_samples", 8)
    made_again = {name for name, at in times().items() if at != kept[name]}
    assert made_again == {"a_0.png", "a_1.png", "a_2.png"}


def test_other_settings_are_refused_by_name(tmp_path, job):
    assert run_here(*job, "--n_samples", 3)[0] == 0
    before = contents(tmp_path / "out")
    other = (*job, "--n_samples", 3, "--seed", 1, "--respace_steps", 29)
    code, error = run_here(*other)
    assert code == 2
    assert "diffusion.respace_steps 30, now 29; seed 2022, now 1" in error
    (tmp_path / "out" / "run.yaml").unlink()  # the images tell it too
    code, error = run_here(*other)
    assert code == 2
    assert "seed '2022', now '1'" in error
    (tmp_path / "out" / "run.yaml").write_bytes(before["run.yaml"])
    assert contents(tmp_path / "out") == before

    assert run_here(*other, "--overwrite")[0] == 0
    after = contents(tmp_path / "out")
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before if name != ".lock")
    assert yaml.safe_load(after["run.yaml"])["seed"] == 1


def test_a_sweep_may_grow(tmp_path, job):
    sweep = (*job, "--save_dir", tmp_path / "sweep", "--n_samples", 3, "--downsample_factor", 4)
    assert run_here(*sweep, 8) == (0, "")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("N*/*_*.png")}
    assert len(before) == 6
    (tmp_path / "sweep" / "N8" / "a_0.png").unlink()
    assert run_here(*sweep, 8, 2) == (0, "")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("N*/*_*.png")}
    assert len(after) == 9
    assert len(before.items() & after.items()) == 5

    single = (*job, "--save_dir", tmp_path / "single", "--n_samples", 3, "--downsample_factor")
    assert run_here(*single, 4) == (0, "")
    code, error = run_here(*single, 8)
    assert code == 2 and "downsample_factor 4.0, now 8.0" in error


def test_a_picture_of_someone_else_is_not_replaced(tmp_path, job):
    (tmp_path / "out").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "out" / "a_0.png")
    code, error = run_here(*job)
    assert code == 2
    assert "out/a_0.png: exists and was not written by this program" in error


@pytest.mark.slow
def test_a_second_run_is_refused_and_a_dead_ones_lock_is_not_in_the_way(tmp_path, job):
    process = start(1, *job, cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for_images(process, tmp_path / "out", 1)
    process.send_signal(signal.SIGSTOP)  # it cannot finish while the second starts
    done = sample_ilvr(*job, cwd=tmp_path)
    assert done.returncode == 2
    assert "another run is writing to it" in done.stderr
    process.kill()
    process.wait()
    assert sample_ilvr(*job, "--n_samples", 1, cwd=tmp_path).returncode == 0


def test_dry_run_says_it_all_and_writes_nothing(tmp_path, job):
    done = sample_ilvr(*job, "--dry_run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "samples      45, of which 0 are finished" in done.stdout
    assert "steps        30 per sample" in done.stdout
    assert f"model calls  {23 * 30}" in done.stdout
    assert "files        45 images" in done.stdout and "out/b_3.png" in done.stdout
    assert not (tmp_path / "out").exists()


def test_skipped_references_do_not_change_the_others(tmp_path, job, input_dir):
    assert run_here(*job, "--n_samples", 6) == (0, "")
    whole = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    good = (input_dir / "b.jpg").read_bytes()
    (input_dir / "b.jpg").write_bytes(b"no image")

    assert run_here(*job, "--n_samples", 6)[0] == 2
    code, error = run_here(*job, "--n_samples", 6, "--skip_bad_inputs")
    assert code == 0, error
    some = contents(tmp_path / "out")
    assert {path.name for path in images(tmp_path / "out")} == {"a_0.png", "a_1.png", "c_0.png", "c_1.png"}
    assert all(some[name] == whole[name] for name in some if "_" in Path(name).name)
    assert list(yaml.safe_load(some["run.yaml"])["skipped_inputs"]) == ["b"]

    (input_dir / "b.jpg").write_bytes(good)
    assert run_here(*job, "--n_samples", 6) == (0, "")
    assert contents(tmp_path / "out") == whole

"""Contenders in processes of their own, which measure in turn: no side has the other's memory, settings or threads."""

import argparse
import multiprocessing
import os
import platform
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch

from models.networks.ready import emulates_bf16
from utils.batching import keep_freed_memory

RESAMPLES = 2000


def begin_rounds(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line of a script that measures in rounds, --rounds and --threads added, and set torch up so."""
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    keep_freed_memory()  # as a run does
    return args


def cpu_precisions() -> list[str]:
    """Return the precisions that this CPU computes in itself: bfloat16 only where it is not emulated."""
    return ["no"] if emulates_bf16(torch.device("cpu")) else ["no", "bf16"]


class Worker:
    """An object in another process; its methods are called by name.

    Args:
        build: makes the object there.
        threads: OpenMP threads of that process, as many as here if left out.
    """

    def __init__(self, build: Callable[..., object], *args: object, threads: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, threads or torch.get_num_threads(), build, args))
        self._process.start()
        theirs.close()
        self.result()  # the object is there

    def begin(self, method: str, *args: object) -> None:
        """Call a method without waiting for it."""
        self._pipe.send((method, args))

    def result(self) -> Any:
        """Return what the method returned."""
        failed, value = self._pipe.recv()
        if failed:
            raise RuntimeError(value)
        return value

    def __call__(self, method: str, *args: object) -> Any:
        self.begin(method, *args)
        return self.result()

    def stop(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, threads: int, build: Callable[..., object], args: tuple[object, ...]) -> None:
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    try:
        served = build(*args)
        pipe.send((False, None))
        while True:
            method, arguments = pipe.recv()
            pipe.send((False, getattr(served, method)(*arguments)))
    except EOFError:
        return
    except Exception as error:
        pipe.send((True, f"{type(error).__name__}: {error}"))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: what disturbs a round disturbs both of its sides."""
    return statistics.median(n / d for n, d in zip(numerators, denominators, strict=True))


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float, float]:
    """Return `ratio` and its 95 % interval, by bootstrap over the rounds."""
    ratios = [n / d for n, d in zip(numerators, denominators, strict=True)]
    draws = random.Random(0)
    medians = sorted(statistics.median(draws.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return statistics.median(ratios), medians[RESAMPLES // 40], medians[-1 - RESAMPLES // 40]


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown, ready for a README."""
    print(f"\n{title}\n\n| " + " | ".join(header) + " |")
    print("|" + " --- |" + " ---: |" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def print_target(what: str, value: float, relation: Literal["≤", "≥"], bound: float) -> None:
    """Print a target, and whether it was met."""
    met = value <= bound if relation == "≤" else value >= bound
    print(f"{what}: {value:.4g}, target {relation} {bound}: {'met' if met else 'MISSED'}", flush=True)


def machine() -> str:
    """Name the processor or accelerator, its cores, and torch."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, torch {torch.__version__}"

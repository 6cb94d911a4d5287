"""Accelerators, none of which is here: what they refuse, what they wait for, and how they say that memory is exhausted.

The walk is made on the meta device, which has shapes and no numbers: whatever waits for a number fails there.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffusions import GUIDES, SAMPLERS, make_sampler, noised_start
from diffusions import low_pass as low_pass_module
from diffusions.low_pass import LowPass
from models import load_network, make_ready
from models.conversion import build_network
from models.files.config import read_config
from tests.commands import PROJECT, run_here
from utils import resize_right
from utils.batching import FiniteWatch, for_each_batch
from utils.errors import RunError
from utils.run import job as job_module

META = torch.device("meta")
CONFIG = read_config(PROJECT / "configs" / "openpeeps64.yaml")


class NoFloat64(TorchDispatchMode):
    """A device without float64, as Apple's: none is made there, and none brought there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device == META for tensor in tensors):
            assert not any(tensor.dtype == torch.float64 for tensor in tensors), f"float64 in {function}"
        return result


def tensors(size: int, channels: int = 3) -> torch.Tensor:
    return torch.empty(2, channels, size, size, device=META)


@pytest.mark.parametrize("low_pass", ["resize", "projection"])
@pytest.mark.parametrize("walk_steps", [4, 2])
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_walk_needs_no_float64_and_waits_for_nothing(name, guide, walk_steps, low_pass):
    low_pass_module._matrices.cache_clear()
    sampler = make_sampler(name, CONFIG.make_process(), respace_steps=4, eta=0.5)
    network = FiniteWatch(make_ready(build_network(CONFIG), META))
    with NoFloat64():
        steers = GUIDES[guide](tensors(64), 4, "cubic", range_t=1, low_pass=low_pass)
        x = noised_start(sampler, steers.low_frequencies, tensors(64), walk_steps)
        steps = list(sampler.sample_loop(network, x, steers, torch.randn_like, walk_steps))
        network.add(steps[-1].sample)
    assert len(steps) == walk_steps and steps[-1].sample.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("config", ["pesser_cifar10_32", "google_ddpm_cifar10_32", "adm_imagenet_64_class"])
def test_networks_of_all_families_need_no_float64_and_wait_for_nothing(config):
    config = read_config(PROJECT / "configs" / f"{config}.yaml")
    network = make_ready(build_network(config), META)
    classes = [torch.zeros(2, dtype=torch.int64, device=META)] if network.num_classes else []
    with NoFloat64(), torch.no_grad():
        network(tensors(config.image_size), torch.zeros(2, dtype=torch.int64, device=META), *classes)
        config.make_process().target(tensors(8), torch.zeros(2, dtype=torch.int64, device=META), tensors(8))
        resize_right.resize(tensors(8), 0.5)


def is_turned(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


class Conversions(TorchDispatchMode):
    """Counts how often a layout is turned into another, as on CUDA: a convolution works in channels last if its input
    or its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Counter[str]()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.convolution.default and any(map(is_turned, args[:2])):
            self.count["convolution"] += sum(
                not tensor.is_contiguous(memory_format=torch.channels_last) for tensor in args[:2]
            )
            return result.contiguous(memory_format=torch.channels_last)
        if function is torch.ops.aten.clone.default and is_turned(args[0]):
            self.count["clone"] += result.is_contiguous()
        return result


def conversions(network: torch.nn.Module) -> int:
    with torch.no_grad(), Conversions() as conversions:
        network(tensors(256), torch.zeros(2, dtype=torch.int64, device=META))
    return conversions.count.total()


def test_a_layout_is_kept_through_the_network():
    """The meta device normalises as CUDA does: in the plain layout."""
    network = build_network(read_config(PROJECT / "configs" / "google_ddpm_celebahq_256.yaml"))
    assert conversions(network.to(memory_format=torch.channels_last)) > 100
    assert conversions(make_ready(network, META)) < 10


def test_on_a_cpu_weights_are_channels_last():
    network = make_ready(load_network(PROJECT / "weights" / "openpeeps64"), "cpu")
    layouts = [is_turned(weight) for weight in network.parameters() if weight.ndim == 4 and weight.shape[2] > 1]
    assert layouts and all(layouts)


def lower_globally() -> None:
    torch.set_float32_matmul_precision("medium")


def lower_by_backend() -> None:
    torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision = "tf32", "bf16"


@pytest.mark.parametrize("lower", [lower_globally, lower_by_backend])
def test_the_low_pass_is_exact_where_less_is_allowed(lower):
    """bfloat16 in place of float32, on a CPU that has it, or TF32."""
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    backends, seen = resize_right.MATMULS, set[str]()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function in (torch.ops.aten.bmm.default, torch.ops.aten.mm.default):
                seen.update(backend.fp32_precision for backend in backends)
            return function(*args, **(kwargs or {}))

    exact = LowPass(image, 4)(image)
    before = [backend.fp32_precision for backend in backends]
    lower()
    lowered = [backend.fp32_precision for backend in backends]
    try:
        with Watch():
            allowed = LowPass(image, 4)(image)
        assert [backend.fp32_precision for backend in backends] == lowered == ["tf32", "bf16"]
    finally:
        torch.set_float32_matmul_precision("highest")
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
    assert torch.equal(exact, allowed)
    assert seen == {"ieee"}


@pytest.fixture
def job(input_dir, tiny_model, tmp_path) -> tuple:
    args = ("--weights", tiny_model, "--input_dir", input_dir, "--respace_steps", 2, "--downsample_factor", 4)
    return (*args, "--save_dir", tmp_path / "out")


def test_the_filter_is_made_once_per_binding(job, monkeypatch):
    made = []
    make = low_pass_module.resize_matrix
    monkeypatch.setattr(
        low_pass_module, "resize_matrix", lambda *args, **options: made.append(args) or make(*args, **options)
    )
    low_pass_module._matrices.cache_clear()
    assert run_here(*job, "--micro_batch", 1, "--downsample_factor", 4, 2, "--n_samples", 6) == (0, "")
    assert len(made) == 4  # down and up for each factor; height and width are the same


def test_the_next_batch_does_not_wait_for_the_finite_check(job, monkeypatch):
    asked = []
    is_finite = FiniteWatch.is_finite
    monkeypatch.setattr(
        FiniteWatch, "is_finite", lambda self: asked.append(threading.current_thread()) or is_finite(self)
    )
    assert run_here(*job, "--micro_batch", 1) == (0, "")
    assert len(asked) == 3 and threading.main_thread() not in asked


@pytest.mark.parametrize(
    ("args", "batch"),
    [
        (["--micro_batch", 8, "--n_samples", 5, "--downsample_factor", 2, 4], 5),
        (["--micro_batch", 8, "--n_samples", 20], 8),
    ],
)
def test_a_compiled_batch_is_the_largest_planned(job, monkeypatch, args, batch):
    shapes = []

    def compiled(network, shape, device, told, takes_class):
        shapes.append(shape)
        return network

    monkeypatch.setattr(job_module, "Compiled", compiled)
    for _ in range(2):  # a run that is taken up again computes in batches of the same size
        assert run_here(*job, "--compile", *args) == (0, "")
        min((job[-1]).glob("**/*_0.png")).unlink()
    assert shapes == [(batch, 3, 16, 16)] * 2


EXHAUSTED = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError("Invalid buffer size: 24.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    MemoryError(),
]


@pytest.mark.parametrize("error", EXHAUSTED, ids=str)
def test_exhausted_memory_by_any_name_halves_the_batch(error, capsys):
    done: list[int] = []

    def work(batch):
        if len(batch) > 2:
            raise error
        done.extend(batch)

    for_each_batch([range(8)], work)
    assert done == list(range(8))
    with pytest.raises(RunError, match="out of memory with 8 samples at a time; give a smaller micro_batch"):
        for_each_batch([range(8)], work, may_halve=False)


def test_what_is_no_memory_error_stays_one():
    def work(batch):
        raise RunError("/tmp/out of memory/a.png: cannot be written")

    with pytest.raises(RunError, match="cannot be written"):
        for_each_batch([range(8)], work)


@pytest.mark.parametrize("error", [EXHAUSTED[0], EXHAUSTED[1]], ids=["torch", "cuda"])
@pytest.mark.parametrize(("place", "words"), [("make_ready", "the network alone"), ("Compiled", "3 samples at a time")])
def test_memory_that_is_exhausted_before_the_first_step(job, monkeypatch, error, place, words):
    def fail(*_):
        raise error

    monkeypatch.setattr(job_module, place, fail)
    code, said = run_here(*job, "--compile")
    assert code == 1 and f"out of memory with {words}" in said and "\n" not in said


def test_functions_that_torch_keeps_to_itself_may_be_missing(job, monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    for precision in ("no", "bf16"):
        assert run_here(*job, "--mixed_precision", precision, "--overwrite", "--n_samples", 1) == (0, "")
    assert Path(job[-1], "index_files/grid.png").exists()


def test_the_low_pass_is_exact_under_autocast():
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    exact = [LowPass(image, 4)(image), resize_right.resize(image, 0.5)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [LowPass(image, 4)(image), resize_right.resize(image, 0.5)]
    assert all(torch.equal(*pair) for pair in zip(exact, inside, strict=True))


def test_threads_leave_the_callers_precision_alone():
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    low_pass, backends = LowPass(image, 4), resize_right.MATMULS
    exact, before = low_pass(image), [backend.fp32_precision for backend in backends]
    lower_by_backend()
    lowered = [backend.fp32_precision for backend in backends]
    try:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: low_pass(image), range(2000)))
        assert [backend.fp32_precision for backend in backends] == lowered
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
    assert all(torch.equal(exact, result) for result in results)

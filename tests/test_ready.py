"""Layout, precision and compilation change how fast the network runs, and hardly what it returns."""

import math

import pytest
import torch

from diffusions import DDPM, ILVR
from diffusions.noise import SampleNoise
from models import Compiled, advise, load_network, make_ready
from models.files.checkpoint import find_weights
from models.files.config import read_config
from models.networks.unet import UNet
from tests.commands import PROJECT
from utils.errors import InputError
from utils.images import read_reference
from utils.run.arguments import parse_args
from utils.run.references import find_references
from utils.run.resolve import resolve

CONFIG = read_config(PROJECT / "configs" / "openpeeps64.yaml")


def embedded() -> UNet:
    assert CONFIG.weights is not None
    return load_network(find_weights(CONFIG.weights), CONFIG)


def sample(model, count: int, steps: int) -> torch.Tensor:
    """The embedded model's images of the first references, [count, 3, 64, 64] in [-1, 1]."""
    paths = [reference.path for reference in find_references(PROJECT / "assets" / "references")[0][:count]]
    sampler = DDPM(CONFIG.make_process(), steps)
    noise = SampleNoise(2022, range(count))
    guide = ILVR(torch.stack([read_reference(path, 64) for path in paths]), 8)
    return sampler.sample(model, noise.randn(3, 64, 64), guide, noise.randn_like).clamp(-1, 1)


def test_channels_last_returns_the_same():
    x, t = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([20, 900])
    with torch.no_grad():
        plain, ready = embedded()(x, t), make_ready(embedded(), "cpu")(x, t)
    assert ready.dtype == torch.float32
    assert (plain - ready).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.slow
def test_bf16_images_hardly_differ():
    full, half = (sample(make_ready(embedded(), "cpu", precision), 2, 10) for precision in ("no", "bf16"))
    assert half.dtype == torch.float32
    for error in (full - half).square().mean((1, 2, 3)).tolist():
        assert 10 * math.log10(4 / error) >= 35  # PSNR in dB


def test_bf16_casts_the_weights():
    model = make_ready(embedded(), "cpu", "bf16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(InputError, match="choose bf16"):
        make_ready(embedded(), "cpu", "fp16")


@pytest.mark.parametrize(
    ("precision", "emulated", "fast", "words"),
    [("no", False, True, "bf16 is faster"), ("bf16", True, False, "no is several times faster")],
)
def test_a_run_is_told_of_the_better_precision(monkeypatch, precision, emulated, fast, words):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: not emulated)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    assert words in (advise(torch.device("cpu"), precision) or "")
    assert advise(torch.device("cpu"), "no" if precision == "bf16" else "bf16") is None


def test_a_compiled_network_is_called_with_one_shape_only(monkeypatch):
    shapes = []

    def network(x, t):
        shapes.append((x.shape, t.shape))
        return x * t[:, None, None, None]

    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    compiled = Compiled(network, (4, 3, 8, 8), torch.device("cpu"))
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([5, 6, 7])
    assert torch.equal(compiled(x, t), network(x, t))
    assert set(shapes[:-1]) == {((4, 3, 8, 8), (4,))}


@pytest.mark.parametrize(("arguments", "precision"), [([], "bf16"), (["--mixed_precision", "no"], "no")])
def test_accelerates_own_precision_holds_where_the_command_line_is_silent(monkeypatch, arguments, precision):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert resolve(parse_args(arguments))[0].mixed_precision == precision


def test_other_precisions_of_accelerates_are_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(InputError, match="ACCELERATE_MIXED_PRECISION must be one of no, bf16, fp16, not 'fp8'"):
        resolve(parse_args([]))

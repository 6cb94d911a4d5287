"""Our resizer against the resize-right package, and what ILVR asks of the filter made of it."""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import resize_right
import torch
from resize_right import interp_methods
from torch import Tensor

from diffusions import DDPM, ILVR, Process
from diffusions.low_pass import LowPass, downsample_matrix, upsample_matrix
from utils.resize_right import KERNELS, PADDINGS, resize, resize_matrix

NUMPY_PADDINGS = {"replicate": "edge", "circular": "wrap"}
PHI_SIZES = (7, 16, 31)
SMOOTH_KERNELS = ("cubic", "lanczos2", "lanczos3", "linear")

every_kernel = pytest.mark.parametrize("interp_method", KERNELS)
every_padding = pytest.mark.parametrize("pad_mode", PADDINGS)


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype) * 2 - 1


@pytest.fixture(autouse=True)
def numpy_path_crops(monkeypatch):
    """resize-right asks for a negative padding where it crops; torch has that, numpy refuses it."""

    def pad_or_crop(x, pad_sz, pad_mode):
        before, after = pad_sz
        widths = [(max(before, 0), max(after, 0)), *[(0, 0)] * (x.ndim - 1)]
        return np.pad(x, widths, mode=pad_mode)[max(-before, 0) :][: before + len(x) + after]

    package_pad = resize_right.resize_right.fw_pad

    def pad(x, fw, pad_sz, pad_mode, dim=0):
        return pad_or_crop(x, pad_sz, pad_mode) if fw is np else package_pad(x, fw, pad_sz, pad_mode, dim)

    monkeypatch.setattr(resize_right.resize_right, "fw_pad", pad)


def reference_resize(x: Tensor, scale_factors=None, out_shape=None, interp_method="cubic", pad_mode="constant", **more):
    """resize-right's numpy path, which has every padding, and computes in float64 (its torch path does not)."""
    array = x.double().permute(2, 3, 0, 1).numpy()  # numpy resizes the first axes, torch the last
    scales = list(scale_factors) if isinstance(scale_factors, tuple) else scale_factors
    mode = NUMPY_PADDINGS.get(pad_mode, pad_mode)
    method = getattr(interp_methods, interp_method)
    out = resize_right.resize(array, scales, out_shape, method, pad_mode=mode, **more)
    return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 3, 0, 1)


def random_cases(count: int) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Sizes, and scales, an output shape or both, with antialiasing or without."""
    rng = random.Random(0)
    for i in range(count):
        size, out_shape = ((rng.randint(1, 24), rng.randint(1, 24)) for _ in range(2))
        scales = (rng.uniform(0.15, 4), rng.choice([0.25, 0.5, 2, 3, rng.uniform(0.15, 4)]))
        given: dict[str, Any] = {"antialiasing": rng.random() < 0.8}
        given |= {} if i % 3 == 0 else {"scale_factors": scales}
        given |= {} if i % 3 == 1 else {"out_shape": out_shape}
        yield size, given


@every_kernel
@every_padding
def test_any_size_scale_and_output_shape_are_resize_rights(interp_method, pad_mode):
    for size, given in random_cases(90):
        x, given = image(2, 3, *size), {**given, "interp_method": interp_method, "pad_mode": pad_mode}
        expected, actual = reference_resize(x, **given), resize(x, **given)
        assert actual.dtype == x.dtype
        torch.testing.assert_close(
            actual.double(), expected, rtol=0, atol=1e-5, msg=lambda m, case=(size, given): f"{case}: {m}"
        )


@pytest.mark.parametrize("interp_method", SMOOTH_KERNELS)  # box has ties, which its float32 grid breaks at random
def test_resize_rights_torch_path_agrees(interp_method):
    for size, given in random_cases(60):
        x = image(2, 3, *size)
        as_list = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        expected = resize_right.resize(x, interp_method=getattr(interp_methods, interp_method), **as_list)
        torch.testing.assert_close(resize(x, **given, interp_method=interp_method), expected, rtol=0, atol=1e-5)


def test_one_scale_is_for_both_axes():
    x = image(2, 3, 9, 12)
    assert torch.equal(resize(x, 0.4), resize(x, (0.4, 0.4)))


def test_short_arguments_are_for_the_last_axes():
    x = image(2, 3, 9, 12)
    assert torch.equal(resize(x, [0.5]), resize(x, [1, 0.5]))
    assert torch.equal(resize(x, out_shape=[5]), resize(x, out_shape=[9, 5]))
    assert torch.equal(resize(x, out_shape=[2, 3, 4, 5]), resize(x, out_shape=[4, 5]))


@pytest.mark.parametrize("shape", [(9, 12), (3, 9, 12), (2, 3, 9, 12)])
def test_leading_axes_are_carried_along(shape):
    out = resize(image(*shape), 0.5)
    assert out.shape == (*shape[:-2], 5, 6)
    torch.testing.assert_close(out.reshape(-1, 5, 6)[-1], resize(image(*shape).reshape(-1, 9, 12)[-1], 0.5))


def test_scale_one_crops_and_pads_around_the_centre():
    x = image(1, 1, 6, 6)
    assert torch.equal(resize(x, 1.0, (4, 8))[..., 1:-1], x[..., 1:-1, :])
    assert not resize(x, 1.0, (4, 8))[..., [0, -1]].any()


@every_kernel
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 8e-3)]
)
def test_result_is_of_the_inputs_dtype_and_as_exact(interp_method, dtype, tolerance):
    x = image(2, 3, 11, 14, dtype=dtype)
    out = resize(x, 0.37, interp_method=interp_method)
    rows = resize_matrix(11, 5, 0.37, interp_method)
    columns = resize_matrix(14, 6, 0.37, interp_method)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), rows @ x.double() @ columns.T, rtol=tolerance, atol=tolerance)


@every_kernel
@every_padding
@pytest.mark.parametrize("scale", [0.4, 1.7])
def test_gradients_flow(interp_method, pad_mode, scale):
    x = image(2, 1, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: resize(x, scale, interp_method=interp_method, pad_mode=pad_mode), (x,), fast_mode=True
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs scale_factors, out_shape or both"),
        ({"scale_factors": 0.5, "interp_method": "area"}, "must be one of cubic, .*, not 'area'"),
        ({"scale_factors": 0.5, "pad_mode": "zeros"}, "must be one of constant, .*, not 'zeros'"),
        ({"scale_factors": 0}, "at scale 0"),
        ({"scale_factors": -2.0, "out_shape": (4, 4)}, "at scale -2.0"),
        ({"scale_factors": math.nan, "out_shape": (4, 4)}, "at scale nan"),
        ({"scale_factors": math.inf, "out_shape": (4, 4)}, "at scale inf"),
        ({"out_shape": (4, 0)}, "to 0 "),
    ],
)
def test_impossible_arguments_are_value_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        resize(image(1, 1, 8, 8), **arguments)


def low_pass_matrix(*axis):
    return upsample_matrix(*axis) @ downsample_matrix(*axis)


@every_kernel
@pytest.mark.parametrize("size", PHI_SIZES)
def test_low_pass_keeps_constants_under_symmetric_padding(interp_method, size):
    for factor in [*range(1, size + 1), 1.5, size / 3]:
        sums = low_pass_matrix(size, factor, interp_method).sum(1)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@pytest.mark.parametrize("interp_method", SMOOTH_KERNELS)  # box has ties, which fall to one side
@pytest.mark.parametrize("pad_mode", ["symmetric", "constant"])
@pytest.mark.parametrize("size", PHI_SIZES)
def test_low_pass_commutes_with_flips(interp_method, pad_mode, size):
    for factor in range(1, size + 1):
        phi = low_pass_matrix(size, factor, interp_method, pad_mode)
        torch.testing.assert_close(phi.flip(0, 1), phi, rtol=0, atol=1e-12)


@every_kernel
@every_padding
def test_low_pass_is_the_identity_for_factor_one(interp_method, pad_mode):
    for size in (1, *PHI_SIZES):
        assert torch.equal(low_pass_matrix(size, 1, interp_method, pad_mode), torch.eye(size, dtype=torch.float64))


@every_kernel
@pytest.mark.parametrize("factor", range(1, 17))
def test_low_pass_is_two_calls_of_resize_right(interp_method, factor):
    x = image(2, 3, 16, 21)
    small = reference_resize(x, 1 / factor, interp_method=interp_method)
    assert small.shape == (2, 3, math.ceil(16 / factor), math.ceil(21 / factor))
    expected = reference_resize(small, factor, (16, 21), interp_method)
    actual = ILVR(x, factor, interp_method, "constant").low_pass(x)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


@every_kernel
@pytest.mark.parametrize("factor", [1, 2, 3, 5, 8, 16])
def test_low_pass_pads_symmetrically_by_default(interp_method, factor):
    x = image(2, 3, 16, 21)
    small = reference_resize(x, 1 / factor, interp_method=interp_method, pad_mode="symmetric")
    expected = reference_resize(small, factor, (16, 21), interp_method, "symmetric")
    actual = ILVR(x, factor, interp_method).low_pass(x)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [0, 0.5, -3, 17, math.nan])
def test_low_pass_refuses_a_factor_below_one_or_above_the_shorter_side(factor):
    with pytest.raises(ValueError, match=r"must be in 1 … 16"):
        ILVR(image(1, 3, 16, 21), factor)


def test_integers_and_other_dtypes_are_refused():
    """Their weights would be zero, and their sums would wrap."""
    image = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    for filter_it in (lambda: resize(image, 0.5), lambda: ILVR(image, 4), lambda: LowPass(image, 4)):
        with pytest.raises(ValueError, match=r"floating-point.* not .*uint8"):
            filter_it()
    guide = ILVR(torch.zeros(1, 3, 16, 16), 4)
    sampler = DDPM(Process(), respace_steps=2)
    with pytest.raises(ValueError, match=r"an image of torch\.float64 on cpu does not fit a filter of torch\.float32"):
        sampler.sample(lambda x, t: x, torch.zeros(1, 3, 16, 16, dtype=torch.float64), guide)

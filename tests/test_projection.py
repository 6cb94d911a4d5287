"""The exact low-pass filter: what a projection keeps, and what the paper's filter takes away."""

import math
from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.filter_spectrum import cosines, refined_variance, shells
from diffusions import DDPM, ILVR, Process
from diffusions.low_pass import LOW_PASSES, downsample_matrix, pseudo_inverse_matrix
from utils.resize_right import KERNELS, PADDINGS, apply_matrices

SIZE = 64


def low_pass_matrix(low_pass, factor):
    """φ along one axis, down and up in one."""
    first, *others = (make(SIZE, factor) for make in LOW_PASSES[low_pass])
    return reduce(lambda done, matrix: matrix @ done, others, first)


@settings(deadline=None)  # the first call pays for loading
@given(
    size=st.integers(1, 40),
    factor=st.floats(1, 12),
    interp_method=st.sampled_from(sorted(KERNELS)),
    pad_mode=st.sampled_from(sorted(PADDINGS)),
)
def test_projection_is_symmetric_idempotent_and_keeps_what_the_downsampler_keeps(size, factor, interp_method, pad_mode):
    down = downsample_matrix(size, factor, interp_method, pad_mode)
    projection = pseudo_inverse_matrix(size, factor, interp_method, pad_mode) @ down
    torch.testing.assert_close(projection, projection.mT, rtol=0, atol=1e-9)
    torch.testing.assert_close(projection @ projection, projection, rtol=0, atol=1e-9)
    torch.testing.assert_close(down @ projection, down, rtol=0, atol=1e-9)


def test_factor_1_is_the_identity():
    torch.testing.assert_close(pseudo_inverse_matrix(7, 1), torch.eye(7, dtype=torch.float64))


def test_axes_projected_one_by_one_project_the_image():
    """D_h⊗D_w has the pseudo-inverse D_h⁺⊗D_w⁺, so two small matrices are exact."""
    heights, widths = downsample_matrix(6, 2), downsample_matrix(9, 2.5)
    down = torch.kron(heights, widths)
    x = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = (torch.linalg.pinv(down) @ down @ x.flatten()).unflatten(0, x.shape)
    axis_by_axis = apply_matrices(x, pseudo_inverse_matrix(6, 2) @ heights, pseudo_inverse_matrix(9, 2.5) @ widths)
    torch.testing.assert_close(axis_by_axis, whole)


@pytest.mark.parametrize("factor", [2, 3, 4, 8, 16, 32])
def test_projection_leaves_the_noise_whole_in_every_mode(factor):
    variance = refined_variance(low_pass_matrix("projection", factor))
    torch.testing.assert_close(variance, torch.ones_like(variance))


@pytest.mark.parametrize(("factor", "in_all"), [(2, 0.91), (4, 0.98), (8, 0.995)])
def test_resize_takes_noise_away(factor, in_all):
    """The variance (1-g)² + g² averages to what was measured apart from this code: cubic, 64×64."""
    variance = refined_variance(low_pass_matrix("resize", factor))
    octave = (shells(SIZE) >= 0.5 / factor) & (shells(SIZE) < 1 / factor)
    assert variance.mean().item() == pytest.approx(in_all, abs=0.005)
    assert variance[octave].mean().item() == pytest.approx(0.64, abs=0.005)
    assert variance.min() > 0.5


@pytest.mark.parametrize("low_pass", LOW_PASSES)
def test_variance_of_refined_noise_is_as_predicted(low_pass):
    """Monte Carlo through ILVR itself: a white sample, a reference of nothing but noise."""
    factor, draws = 4, 4000
    generator = torch.Generator().manual_seed(0)
    refine = ILVR(torch.zeros(draws, 1, SIZE, SIZE), factor, low_pass=low_pass)
    sample, noise = torch.randn(2, draws, 1, SIZE, SIZE, generator=generator)
    *_, late, _ = Process().transitions(respace_steps=50)
    level = math.sqrt(1 - late.alphas_cumprod_prev)  # the noise of the level that both are at
    refined = refine.guide_sample(level * sample, late, lambda _: noise) / level

    modes = apply_matrices(refined, cosines(SIZE).float(), cosines(SIZE).float())
    expected = refined_variance(low_pass_matrix(low_pass, factor)).float()
    relative = modes.square().mean((0, 1)) / expected - 1
    # a mean of `draws` squared normals has a relative deviation of √(2/draws); 5.5 of them for 4096 modes
    assert relative.abs().max() < 5.5 * math.sqrt(2 / draws)
    assert relative.mean().abs() < 5.5 * math.sqrt(2 / draws) / SIZE


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8, 16, 32, 64])
def test_projection_binds_the_downsampled_sample_to_the_reference(factor):
    generator = torch.Generator().manual_seed(0)
    reference, noise = torch.randn(2, 2, 3, SIZE, SIZE, generator=generator)
    x0 = DDPM(Process(), 3).sample(
        lambda x, t: x / 2,
        noise,
        ILVR(reference, factor, low_pass="projection"),
        lambda x: torch.randn(x.shape, generator=generator),
    )
    down = downsample_matrix(SIZE, factor).float()
    torch.testing.assert_close(apply_matrices(x0, down, down), apply_matrices(reference, down, down), rtol=0, atol=1e-5)


def test_resize_binds_it_only_nearly():
    generator = torch.Generator().manual_seed(0)
    reference, sample = torch.randn(2, 1, 3, SIZE, SIZE, generator=generator)
    down = downsample_matrix(SIZE, 8).float()
    difference = ILVR(reference, 8).guide_sample(sample, Process().transitions()[-1]) - reference
    before = apply_matrices(sample - reference, down, down)
    after = apply_matrices(difference, down, down)
    assert 0.01 < after.square().mean() / before.square().mean() < 0.5


def test_unknown_low_pass():
    with pytest.raises(ValueError, match="low_pass must be one of resize, projection, gaussian, dft, not 'fourier'"):
        ILVR(torch.zeros(1, 3, 8, 8), 2, low_pass="fourier")

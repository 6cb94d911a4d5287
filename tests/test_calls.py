"""The benchmark of how few calls will do: its timesteps, and that it runs."""

import csv
from itertools import pairwise

import pytest

from benchmarks import measures
from benchmarks.research import calls
from diffusions import DDPM, Process
from diffusions.schedule import half_log_snr

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("steps", [2, 4, 10, 25])
def test_timesteps_are_even_in_log_snr(steps):
    process = Process()
    walk = DDPM(calls.EvenLogSNR(process), steps).transitions
    assert [step.index for step in walk] == list(reversed(range(steps)))
    assert (walk[0].t, walk[-1].t) == (999, 0)
    for step, after in pairwise(walk):
        assert step.alphas_cumprod == process.alphas_cumprod[step.t]
        assert step.alphas_cumprod_prev == after.alphas_cumprod
    assert walk[-1].is_last and walk[-1].alphas_cumprod_prev == 1
    log_snr = [half_log_snr(step.alphas_cumprod) for step in walk]
    ideal = (log_snr[-1] - log_snr[0]) / (steps - 1)
    # whole timesteps, and the first of Ho et al.'s are far apart
    assert all(b - a == pytest.approx(ideal, abs=0.35) for a, b in pairwise(log_snr))


def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "RESAMPLES", 3)
    monkeypatch.setattr("sys.argv", ["calls", "--quick", "--save_dir", str(tmp_path)])
    calls.main()
    with (tmp_path / "calls.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + len(calls.SOLVERS) * len(calls.TIMESTEPS)
    assert float(rows[0]["patch_distance_gap"]) == float(rows[0]["realism_gap"]) == 0
    found = {(row["sampler"], row["timesteps"]): row["patch_distance"] for row in rows}
    assert found["DDPM", "uniform"] == rows[0]["patch_distance"]  # two calls, as the first row's here
    assert len(set(found.values())) > len(calls.TIMESTEPS)

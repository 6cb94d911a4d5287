"""How few network calls lose nothing measurable, by which sampler, at which timesteps.

    python -m benchmarks.research.calls --mixed_precision bf16    # assets/calls.csv
    python -m benchmarks.research.calls --quick                   # few of everything, into results/: a smoke test

Each setting draws 48 samples from the same noise: unconditional; by regions after held-out images; and by
regions after foreign references (N = 8, the last 20 % of the calls free). patch_distance, detail and
fidelity are those of benchmarks/research/translation.py; realism, a sliced Wasserstein distance, is that of
benchmarks/quality.py. The gaps are the differences to DDPM with 250 steps, with a 95 % interval by a bootstrap over the
samples. Every solver takes every number of calls at uniform timesteps, and 10, 6 and 4 calls at the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.domain import Domain, read_domain
from benchmarks.draw import SEED, draw
from benchmarks.held_out import REAL
from benchmarks.measures import (
    FIDELITY_FACTORS,
    Measures,
    measure_detail,
    measure_fidelity,
    measure_patches,
    measure_realism,
    resample,
)
from benchmarks.networks import load_embedded
from benchmarks.patch_distance import PatchDistance
from benchmarks.realism import Realism
from benchmarks.research.solvers import DPMSolver, Heun, UniPC
from benchmarks.table import Row, chosen, row, table_folder, table_parser, write_csv
from diffusions import DDIM, DDPM, Process, Regions, Sampler, SDEDPMSolver
from diffusions.schedule import Transition, half_log_snr
from models import Model

COUNT = 48
SOLVERS: dict[str, Callable[..., Sampler]] = {  # called with a process, the number of calls, and a respace_type
    "DDPM": DDPM,
    "DDIM": DDIM,
    "DPM-Solver++(2M)": DPMSolver,
    "SDE-DPM-Solver++(2M)": SDEDPMSolver,
    "UniPC-2": UniPC,
    "Heun": Heun,
}
MAX_CALLS = 250
CALLS, FEW = (25, 15, 10, 8, 6, 5, 4), (10, 6, 4)
LOG_SNR = "log-SNR"
TIMESTEPS = {"uniform": CALLS, "uniform-trailing": FEW, "quad": FEW, LOG_SNR: FEW}


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    references: str = "none"
    sampler: str = "DDPM"
    timesteps: str = "uniform"
    calls: int = MAX_CALLS


class EvenLogSNR(Process):
    """The same process, whose sampling visits timesteps evenly spaced in log(ᾱ/(1-ᾱ)), from T-1 to 0."""

    def __init__(self, process: Process) -> None:
        vars(self).update(vars(process))

    def transitions(self, respace_type: str = "uniform", respace_steps: int | None = None) -> tuple[Transition, ...]:
        """Visit the timesteps whose log-SNR is nearest to even steps."""
        every = super().transitions()
        log_snr = torch.tensor([half_log_snr(transition.alphas_cumprod) for transition in every])
        wanted = torch.linspace(log_snr[0], log_snr[-1], respace_steps or len(every))
        visited = [every[i] for i in (log_snr - wanted[:, None]).abs().argmin(1).unique()]
        levels = [*(step.alphas_cumprod for step in visited[1:]), 1.0]
        return tuple(
            replace(step, index=len(visited) - 1 - i, alphas_cumprod_prev=level)
            for i, (step, level) in enumerate(zip(visited, levels, strict=True))
        )


def make_sampler(setting: Setting, process: Process) -> Sampler:
    """Make a sampler by its name in `SOLVERS`."""
    if setting.timesteps == LOG_SNR:
        return SOLVERS[setting.sampler](EvenLogSNR(process), setting.calls)
    return SOLVERS[setting.sampler](process, setting.calls, respace_type=setting.timesteps)


def draw_setting(model: Model, setting: Setting, references: Tensor, seed: int = SEED) -> Tensor:
    """Draw a sample per reference, [M, C, H, W]; unconditional samples use only its shape."""
    guide = None if setting.references == "none" else partial(Regions, range_t=setting.calls // 5)
    return draw(model, make_sampler(setting, model.process), references, guide, seed=seed)


def settings_after(
    references: str, most: int = MAX_CALLS, timesteps: Mapping[str, Sequence[int]] = TIMESTEPS
) -> list[Setting]:
    """List the settings; the first, DDPM with the most calls, is what the others are compared with."""
    base = Setting(references, calls=most)
    return [
        base,
        *(replace(base, sampler=s, timesteps=t, calls=n) for s in SOLVERS for t in timesteps for n in timesteps[t]),
    ]


class Bench:
    """Draws and measures `count` samples of every kind, if there are as many references, against `real_count` real."""

    def __init__(self, model: Model, domain: Domain, count: int, real_count: int = REAL) -> None:
        held_out, others = domain.held_out.tensor_split([REAL])
        real = held_out[:real_count]
        self.model, self.others = model, others
        self.references = {"none": others[:count], "in-domain": others[:count], "foreign": domain.foreign[:count]}
        self.distance, self.realism = PatchDistance(real, others), Realism(real)
        self.bases: dict[str, Measures] = {}  # for each kind of references, what the others are compared with

    def setting_row(self, setting: Setting) -> Row:
        """Draw and measure a setting, and compare it with the first of its kind of references."""
        references = self.references[setting.references]
        weights = resample(len(references), SEED)
        samples = draw_setting(self.model, setting, references)
        measures = measure_patches(samples, weights, self.distance)
        measures |= measure_detail(samples, weights, self.others)
        measures |= measure_realism(samples, weights, self.realism)
        if setting.references != "none":
            for factor in FIDELITY_FACTORS:
                found = measure_fidelity(samples, references, factor, weights)
                measures[f"fidelity_{factor}"] = found["fidelity"]
        base = self.bases.setdefault(setting.references, measures)
        gaps = {f"{name}_gap": measures[name] - base[name] for name in ("patch_distance", "realism")}
        return row("samples", asdict(setting), measures | gaps)


def main() -> None:
    args = table_parser("How few calls lose nothing, by sampler and timesteps").parse_args()
    folder = table_folder(args)

    domain = read_domain(args.domain)
    model = load_embedded(args.mixed_precision, domain.weights)
    if args.quick:
        bench, settings = Bench(model, domain, 2, 10), settings_after("foreign", 2, dict.fromkeys(TIMESTEPS, (2,)))
    else:
        bench = Bench(model, domain, COUNT)
        settings = chosen([each for name in bench.references for each in settings_after(name)], args.only)
    table = []
    for setting in tqdm(settings, unit="setting"):
        table.append(bench.setting_row(setting))
        write_csv(table, folder / "calls.csv")


if __name__ == "__main__":
    main()

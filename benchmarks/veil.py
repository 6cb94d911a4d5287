"""How far the binding colours are from those that the model expects, for in-domain and foreign references.

    python -m benchmarks.veil        # --domain for another model

It prints the RMS of φ_N(y_0 - x̂0) in grey levels, halfway through 20 DDPM steps that are all refined by the paper's
method: quantiles over 48 held-out images, and over all foreign references. A run advises a range above
`utils.run.sampling.VEILED`.
"""

import argparse

import torch
from torch import Tensor

from benchmarks.domain import add_domain, read_domain
from benchmarks.draw import BATCH, SEED
from benchmarks.held_out import REAL
from diffusions import DDPM, ILVR, SampleNoise, noised_start
from models import Model, load_model
from utils.run.sampling import VEILED, clear_timestep

STEPS = 20
HELD_OUT = 48
FACTORS = (2, 4, 8, 16, 32)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def veils(model: Model, references: Tensor, factor: float) -> Tensor:
    """Measure the veil over each sample, [M, C, H, W] → [M], in grey levels."""
    sampler = DDPM(model.process, STEPS)
    clear = clear_timestep(sampler.transitions)
    found = []
    for numbers in torch.arange(len(references)).split(BATCH):
        guide = ILVR(references[numbers], factor)
        noise = SampleNoise(SEED, numbers.tolist())
        x = noised_start(sampler, guide.low_frequencies, noise.randn(*references.shape[1:]), STEPS)
        for step in sampler.sample_loop(model, x, guide, noise.randn_like, STEPS):
            if step.t == clear:
                found.append(guide.veil(step.pred_x0))
                break
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="How far the binding colours are from those that the model expects")
    add_domain(parser)
    weights, held_out, foreign = read_domain(parser.parse_args().domain)
    model = load_model(weights)
    references = {"held-out": held_out[REAL : REAL + HELD_OUT], "foreign": foreign}
    print(f"| N | references | {' | '.join(f'{q:.0%}' for q in QUANTILES)} | above {VEILED} |")
    print("|---" * (len(QUANTILES) + 3) + "|")
    for factor in FACTORS:
        for name, some in references.items():
            found = veils(model, some, factor)
            cells = [f"{value:.1f}" for value in found.quantile(torch.tensor(QUANTILES))]
            print(f"| {factor} | {name} | {' | '.join(cells)} | {(found > VEILED).float().mean():.0%} |", flush=True)


if __name__ == "__main__":
    main()

"""How far `--check_model` can be trusted: for which wrong settings of a model it names the right one.

    python -m benchmarks.check_model        # --domain for another model of the same network

It is run with held-out images of the model's domain, and with foreign references, most of which are of other kinds.
"rescaling" is the same diffusion in four times as many steps. The order of queries, keys and values cannot be wrong
here, because the model has one head.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.domain import add_domain, read_domain, read_folder
from benchmarks.networks import WEIGHTS
from models.files.checkpoint import config_for, open_checkpoint
from models.files.config import Config
from utils.files import PROJECT
from utils.run.check import MAX_PICTURES, compare

DEMO = PROJECT / "assets" / "references"
FOUR_TIMES = {"total_steps": 4000, "beta_start": 2.5e-5, "beta_end": 0.005}
# what is wrong in the network, in the diffusion, and what should be named
WRONG: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "nothing": ({}, {}, ""),
    "head width 8": ({"attention_head_dim": 8}, {}, "attention_head_dim null"),
    "head width 64": ({"attention_head_dim": 64}, {}, "attention_head_dim null"),
    "frequency shift": ({"freq_shift": 0}, {}, "freq_shift 1"),
    "order of sinusoids": ({"flip_sin_to_cos": True}, {}, "flip_sin_to_cos false"),
    "padding": ({"downsample_padding": 1}, {}, "downsample_padding 0"),
    "schedule": ({}, {"beta_schedule": "cosine"}, "beta_schedule linear"),
    "objective": ({}, {"objective": "pred_eps"}, "objective pred_v"),
    "rescaling": ({}, FOUR_TIMES, "rescale_timesteps true"),
}


def wrong_config(name: str, weights: Path = WEIGHTS) -> Config:
    """Make the config of a model with one thing wrong."""
    params, diffusion, _ = WRONG[name]
    config = config_for(open_checkpoint(weights))
    return replace(config, params={**config.params, **params}, diffusion={**config.diffusion, **diffusion})


def named(name: str, weights: Path, pictures: Tensor) -> tuple[str, float]:
    """Return what the check names as clearly better ("" if nothing), and its loss over that of the config as it is."""
    _, (best, *_) = compare(open_checkpoint(weights), wrong_config(name, weights), None, pictures)
    return (best.name if best.is_clearly_better else ""), best.ratio


def main() -> None:
    parser = argparse.ArgumentParser(description="For which wrong settings --check_model names the right one")
    add_domain(parser)
    args = parser.parse_args()
    weights, held_out, _ = read_domain(args.domain)
    foreign = read_folder(args.domain[2] if args.domain else DEMO)
    sets = {
        "pictures of its domain": held_out[:MAX_PICTURES],
        "foreign references": foreign[:: len(foreign) // MAX_PICTURES],
    }
    for title, pictures in sets.items():
        print(f"\n{title}\n")
        for name, (_, _, right) in WRONG.items():
            found, ratio = named(name, weights, pictures)
            verdict = "right" if found == right else "WRONG"
            print(f"{name:20} {verdict}: {found or 'nothing'} is clearly better (loss × {ratio:.3g})", flush=True)


if __name__ == "__main__":
    main()

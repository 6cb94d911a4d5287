"""Peak memory and time of loading a 550 M-parameter ADM, against constructing it and copying the parameters in.

    python -m benchmarks.load [--container safetensors|pt|pkl] [--dtype float32|float16] [--folder DIR]

A file of random weights (2.2 GB in float32) is written to a temporary folder; for pkl it is an EDM pickle with the 62
M-parameter network for FFHQ 64 (0.25 GB). Each way of loading runs in its own process and then reads every parameter
once, so that mapped memory counts. The memory of Python and torch themselves is subtracted. The file is in the
system's cache when it is read.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.memory import peak_bytes
from benchmarks.module_pickles import saved_network, write_pickle
from models import Network, load_network
from models.conversion import build_network, convert
from models.families import FAMILIES
from models.files.checkpoint import config_for, open_checkpoint
from models.files.config import Architecture, Config, read_config
from utils.files import PROJECT

CONFIG = PROJECT / "configs" / "adm_imagenet_256.yaml"
EDM = {"model_type": "SongUNet", "img_resolution": 64, "channel_mult": [1, 2, 2, 2]}


def write_weights(file: Path, dtype: torch.dtype) -> None:
    """Write random parameters under guided-diffusion's names, or EDM's."""
    edm = Architecture(family="edm", params=EDM | {"in_channels": 3, "out_channels": 3})
    architecture = edm if file.suffix == ".pkl" else read_config(CONFIG)
    network = build_network(architecture)
    names = FAMILIES[architecture.family].names(network)
    state = {names[name][0]: torch.randn(own.shape, dtype=dtype) for name, own in network.state_dict().items()}
    if file.suffix == ".safetensors":
        save_file(state, file)
    elif file.suffix == ".pkl":
        model = {f"model.{name}": tensor for name, tensor in state.items()}
        write_pickle(file, {"ema": saved_network("EDMPrecond", EDM | {"img_channels": 3}, model)})
    else:
        torch.save(state, file)


def config_of(weights: Path) -> Config:
    """Return ADM's config, or the pickle's."""
    return config_for(open_checkpoint(weights)) if weights.suffix == ".pkl" else read_config(CONFIG)


def load_plainly(weights: Path) -> Network:
    """Construct, which initialises every parameter, then copy the file's over them."""
    config = config_of(weights)
    network = build_network(config, "cpu")
    network.load_state_dict(convert(open_checkpoint(weights).tensors, network, config, str(weights)))
    return network.float().eval()


def load_ours(weights: Path) -> Network:
    """Construct without memory, and take the file's own."""
    return load_network(weights, config_of(weights))


WAYS: dict[str, Callable[[Path], Network]] = {"plain": load_plainly, "ours": load_ours}


def measure(way: str, weights: Path) -> dict[str, float]:
    """Load once, in this process."""
    baseline, start = peak_bytes(), time.perf_counter()
    network = WAYS[way](weights)
    seconds = time.perf_counter() - start
    checksum = sum(parameter.detach().sum().item() for parameter in network.parameters())
    assert checksum == checksum, "the parameters are random numbers, none of them NaN"
    return {"seconds": seconds, "peak": peak_bytes() - baseline, "baseline": baseline}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--container", choices=["safetensors", "pt", "pkl"], default="safetensors")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--folder", help="where the temporary file goes")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "WEIGHTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure[0], Path(args.measure[1]))))
        return

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        weights = Path(folder) / f"random.{args.container}"
        write_weights(weights, getattr(torch, args.dtype))
        size = weights.stat().st_size
        print(f"file {size / 1e9:.2f} GB ({args.container}, {args.dtype})")
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.load", "--measure", way, str(weights)]
            output = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
            result = json.loads(output)
            print(
                f"{way:6} {result['seconds']:6.1f} s   peak {result['peak'] / 1e9:.2f} GB over a baseline of "
                f"{result['baseline'] / 1e9:.2f} GB: {result['peak'] / size:.2f} × the file"
            )


if __name__ == "__main__":
    main()

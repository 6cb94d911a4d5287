"""Write down the config that was found for weights, instead of sampling."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models import load_model
from utils.errors import InputError, one_line
from utils.files import write_atomically
from utils.run.resolve import find_model


def write_config(args: Mapping[str, Any]) -> None:
    """Write the config that the weights go with, once they are seen to fit it; a comment says where a value is from.

    Args:
        args: as `sample_ilvr.py -h` lists them; `write_config` is the file.

    Raises:
        InputError: no config can be found, or the file is there already.
        RunError: it cannot be written.
    """
    weights, config = find_model(args)
    for note in load_model(weights, config, args["raw_weights"]).notes:
        print(note)
    path = args["write_config"]
    if path.exists() and not args["overwrite"]:
        raise InputError(f"{path}: is there already; choose another file, or --overwrite")
    config = replace(config, weights=config.weights or str(args["weights"]))
    write_atomically(path, config.as_yaml().encode())
    print(one_line(f"{path} is written; sample with -c {path}"))

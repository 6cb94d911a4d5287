"""What can be asked of a model without sampling: its config, and whether its settings fit."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from models import load_model
from utils.errors import InputError, one_line
from utils.files import write_atomically
from utils.images import read_reference
from utils.run.batch import check_latents
from utils.run.check import MOST_PICTURES, Checker, report
from utils.run.resolve import find_model
from utils.run.settings import Settings


def write_config(args: Mapping[str, Any]) -> None:
    """Write the config that the weights go with, once they are seen to fit it; a comment says where a value is from.

    Args:
        args: the command line's.

    Raises:
        InputError: weights or a config that cannot be used, or a file that is there already.
    """
    checkpoint, config = find_model(args)
    for note in load_model(checkpoint, config).notes:
        print(note)
    path = args["write_config"]
    if path.exists() and not args["overwrite"]:
        raise InputError(f"{path}: is there already; choose another file, or --overwrite")
    config = replace(config, weights=config.weights or str(args["weights"]))
    write_atomically(path, config.as_yaml().encode())
    print(one_line(f"{path} is written; sample with -c {path}"))


def check_model(settings: Settings, device: torch.device) -> None:
    """Print the denoising loss of a few references, and of samples of the model's own, under several settings.

    Raises:
        InputError: a reference or a checkpoint that cannot be read.
    """
    model = load_model(settings.checkpoint or settings.weights, settings.config, settings.raw_weights)
    check_latents(model, settings)
    few = settings.references[:: max(1, len(settings.references) // MOST_PICTURES)][:MOST_PICTURES]
    size, channels = model.image_size, model.channels
    images = [read_reference(each.path, size, channels, settings.tolerance) for each in few]
    pictures = model.encode(torch.stack(images))
    checker = Checker(
        settings.checkpoint or settings.weights, settings.raw_weights, settings.class_id, pictures, device
    )
    for line in report(*checker.compare(settings.config)):
        print(line)

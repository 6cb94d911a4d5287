"""The tensors of the autoencoder, the first stage of latent diffusion, that lies beside a checkpoint's network."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from models.containers import check_tensors, read_checkpoint
from models.families import is_autoencoder
from models.pipelines import autoencoder_folder

PREFIX = "first_stage_model."  # how CompVis's checkpoints begin the autoencoder's names
OF_TRAINING = (f"{PREFIX}loss.", f"{PREFIX}model_ema.")  # what is left of its own training
SCALE = "scale_factor"


def holds_autoencoder(beside: Mapping[str, Tensor]) -> bool:
    """Whether one is among the tensors beside a network's."""
    return any(name.startswith(PREFIX) for name in beside)


def autoencoder_state(weights: Path, beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An autoencoder's parameters by their names in its family, and its scale if that is there; {} where none is.

    Args:
        weights: the checkpoint: a file, or the folder of a pipeline or of its network.
        beside: the tensors beside the network's.

    Raises:
        InputError: parameters that are not there, or no plain numbers.
    """
    if folder := autoencoder_folder(weights):
        return read_checkpoint(folder, is_autoencoder).tensors
    names = [name for name in beside if name.startswith(PREFIX) and not name.startswith(OF_TRAINING)]
    state = {name.removeprefix(PREFIX): beside[name] for name in names}
    if names and SCALE in beside:
        state[SCALE] = beside[SCALE]
    check_tensors(state, weights)
    return state

"""The images to learn from: a folder of pictures, read as references are, or a file of raw bytes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from utils.arrays import open_reference
from utils.errors import InputError
from utils.images import read_reference, to_pixels
from utils.pictures import Reading
from utils.resize_right import resize
from utils.run.references import EXTENSIONS, THREADS, find_references

FINEST = 4  # a crop's side is at least a FINEST-th of the picture's shorter one


def read_images(source: Path, size: int, channels: int, crops: int = 0, seed: int = 0, flag: str = "--data") -> Tensor:
    """Read images to train on, or to measure by.

    Args:
        source: a folder of pictures; one picture; or a file of raw bytes, [N, size, size, channels].
        size: of the images, in pixels a side.
        channels: of the images.
        crops: how many to cut out of each picture, see `read_picture`; 0 for its middle square.
        seed: of the crops.
        flag: the argument that the source is given by, for messages.

    Returns:
        uint8 [N, size, size, channels]; a folder's by path.

    Raises:
        InputError: there are none, or some cannot be read: one line for each.
    """
    if source.is_file() and source.suffix.lower() not in EXTENSIONS:
        raw = np.fromfile(source, np.uint8)
        if len(raw) == 0 or len(raw) % (size * size * channels):
            raise InputError(f"{flag} {source}: is neither a picture nor raw images of {size}×{size}×{channels} bytes")
        return torch.from_numpy(raw.reshape(-1, size, size, channels))

    def read(number: int) -> Tensor | InputError:
        try:
            return read_picture(pictures[number].path, size, channels, crops, np.random.default_rng([seed, number]))
        except InputError as error:
            return error

    pictures, notes = find_references(source, flag=flag)
    for note in notes:
        print(note)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(tqdm(pool.map(read, range(len(pictures))), total=len(pictures), unit="picture", mininterval=5))
    if faults := [str(each) for each in found if isinstance(each, InputError)]:
        raise InputError(*faults)
    return torch.cat([each for each in found if isinstance(each, Tensor)])


def read_picture(path: Path, size: int, channels: int, crops: int, rng: np.random.Generator) -> Tensor:
    """Read a picture's middle square, or random squares of it; all of them are resized to one size.

    Their sides are random in the logarithm, from the picture's shorter side down to a quarter of it, or to where a crop
    would be enlarged.

    Args:
        path, size, channels, crops: as `read_images` is given.
        rng: places the crops.

    Returns:
        uint8 [max(1, crops), size, size, channels].

    Raises:
        InputError: it cannot be read.
    """
    reading = Reading(channels)
    if crops:
        with open_reference(path, reading) as picture:
            picture.load(FINEST * size)
            shape = picture.shape
        shorter = min(max(min(shape), size), FINEST * size)
        height, width = (round(side * shorter / min(shape)) for side in shape)
        image = read_reference(path, (height, width), reading)
        images = torch.empty(crops, channels, size, size)
        for crop in images:
            side = round(shorter * (size / shorter) ** rng.random())
            top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
            square = image[:, top : top + side, left : left + side]
            crop.copy_(resize(square, out_shape=(size, size), pad_mode="symmetric"))
    else:
        images = read_reference(path, size, reading)[None]
    return torch.from_numpy(to_pixels(images))

"""What is checked of the references before hours are spent on the first of them."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from utils.errors import InputError
from utils.images import decode
from utils.run.references import Reference

THREADS = min(8, os.cpu_count() or 1)  # each may hold a picture of Pillow's largest size


def examine(references: Iterable[Reference]) -> tuple[dict[str, str], dict[str, str]]:
    """Decode every reference once.

    Returns:
        SHA-256 of the content of each that can be read, and what is the matter with each other, by their names.
    """
    hashes, faults = {}, {}
    references = list(references)
    with ThreadPoolExecutor(THREADS) as pool:
        for reference, result in zip(references, pool.map(_hash_readable, references), strict=True):
            if isinstance(result, InputError):
                faults[reference.name] = str(result)
            else:
                hashes[reference.name] = result
    return hashes, faults


def _hash_readable(reference: Reference) -> str | InputError:
    try:
        decode(reference.path)
        with reference.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except InputError as error:
        return error
    except OSError as error:
        return InputError(f"{reference.path}: cannot be read: {error.strerror or error}")

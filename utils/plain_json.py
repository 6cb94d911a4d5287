"""JSON files of others, read."""

import json
from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.files import open_regular

LARGEST = 2**25  # bytes; the index of many shards has some millions


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        InputError: it cannot be read, or is no JSON, or holds something else.
    """
    try:
        with open_regular(path, LARGEST) as file:
            content = json.loads(file.read().decode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return content

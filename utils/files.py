"""Files on disk: written whole or not at all, and read only if they are regular and small enough."""

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

from utils.errors import InputError, RunError

PROJECT = Path(__file__).resolve().parent.parent  # the checkout that the project runs from
MAX_JSON_BYTES = 2**25  # the index of many shards has some millions
MAX_YAML_BYTES = 2**17  # PyYAML takes about a second for them; no config has a tenth


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that a partial file never has its name.

    Raises RunError if that fails (disk full, folder gone, …); then no part of it is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")  # that no other process chooses
    try:
        try:
            with temporary.open("xb") as file:  # x: never through a link that exists there
                file.write(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror or error}; finished images are kept: make room there and run "
            "the same command again"
        ) from None


def check_replaceable(path: Path) -> None:
    """Raise InputError if something other than a file, or a link, is where an output file is to be written."""
    if os.path.lexists(path) and not os.path.islink(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "something other than a file"
        raise InputError(f"{path}: is in the way: {kind} where a file is to be written")


def open_regular(path: Path, max_bytes: int | None = None) -> BufferedReader:
    """Open a file, or what a link to it names, for reading; but no pipe or device, which may never end or answer.

    Raises OSError if it cannot be opened, is not a regular file, or is larger than `max_bytes`.
    """
    # opened without O_NONBLOCK, a pipe would wait for its other end
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(number)
    if stat.S_ISREG(status.st_mode) and (max_bytes is None or status.st_size <= max_bytes):
        return os.fdopen(number, "rb")
    os.close(number)
    if max_bytes is not None and stat.S_ISREG(status.st_mode):
        raise OSError(errno.EFBIG, f"is larger than {max_bytes // 1024} KB")
    raise OSError(errno.EINVAL, "Is a directory" if stat.S_ISDIR(status.st_mode) else "is not a file")


def check_unchanged(file: BufferedReader, before: os.stat_result) -> None:
    """Raise OSError if an open file has been written to since an earlier `os.fstat`."""
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise OSError("was changed while it was read")


def file_sha256(path: Path) -> str | None:
    """Return a file's SHA-256, 64 hexadecimal digits; None if it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object; raise InputError if it cannot be read, or holds something else."""
    try:
        with open_regular(path, MAX_JSON_BYTES) as file:
            content = json.loads(file.read().decode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return content


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers of YAML 1.2, without merge keys (`<<`) and repeated keys.

    In YAML 1.1, which PyYAML reads, 1e-6 is a string, 020 is 16 and 1:30 is 90. Here 1e-6 is a number, and the other
    two are strings, which are refused wherever a number is expected.

    Merge keys double the work at each level of nesting. libyaml's faster loader overflows its stack on deep nesting.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("int", "float", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping, each key of which must be given once."""
        mapping = yaml.constructor.BaseConstructor.construct_mapping(self, node, deep)  # no merge keys
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is given twice", node.start_mark)
        return mapping


NUMBERS = {
    "int": r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$",
    "float": r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+|[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?"
    r"|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$",
}
for kind, pattern in NUMBERS.items():
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(pattern), list("-+0123456789."))


def read_yaml(path: Path, what: str) -> object:
    """Read a YAML file that anyone may have written, in bounded time; `what` it is called in messages.

    Raises InputError if there is no such file, it is not YAML, or it is larger than `MAX_YAML_BYTES`.
    """
    try:
        with open_regular(path, MAX_YAML_BYTES) as file:
            return parse_yaml(file.read(), f"{what} {path}")
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read: {error.strerror or error}") from None


def parse_yaml(content: bytes, source: str) -> object:
    """Parse YAML, at most `MAX_YAML_BYTES` from `source`, into plain values; raise InputError if it is none."""
    try:
        return yaml.load(content.decode("utf-8"), Loader=PlainLoader)
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not a text file") from None
    except (yaml.YAMLError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{source}: is not valid YAML: {problem}") from None

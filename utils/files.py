"""Files on disk: written whole or not at all, and read only if they are regular and small enough."""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shlex
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

from utils.errors import InputError, RunError

PROJECT = Path(__file__).resolve().parent.parent  # the checkout that the project runs from
BLOCK = 2**20  # bytes read at a time
MAX_JSON_BYTES = 2**25  # the index of many shards has some millions
MAX_YAML_BYTES = 2**17  # PyYAML takes about a second for them; no config has a tenth

# a temporary file's name: the file's own, and random digits or, in older versions, a process's number
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.tmp", re.DOTALL)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that a partial file never has its name.

    Raises:
        RunError: the file cannot be written (disk full, folder gone, …); no part of it is left behind.
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


def remove_leftovers(folders: Iterable[Path], is_output: Callable[[Path], bool]) -> None:
    """Remove the temporary files of runs that were killed while writing, and no others.

    Args:
        folders: where to look.
        is_output: returns whether a run writes a file of this path.
    """
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            match = TEMPORARY.fullmatch(path.name)
            if match and is_output(path.with_name(match["name"])):
                path.unlink(missing_ok=True)


def make_save_dir(folder: Path, dry_run: bool = False) -> None:
    """Make an output folder and check that files can be written there; in a dry run, only check that they could.

    Raises:
        InputError: they cannot.
    """
    if dry_run:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"save_dir {folder}: cannot be written to")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"save_dir {folder}: cannot be written to: {error.strerror or error}") from None


def check_access(path: Path) -> None:
    """Check that a folder and its subfolders can be searched; nothing is checked for a file.

    Raises:
        InputError: one of them cannot.
    """
    if not os.path.isdir(path):
        return
    try:
        with os.scandir(path) as entries:
            for entry in entries:  # asking what an entry is already needs the permission
                if entry.is_dir():
                    os.stat(os.path.join(entry.path, "."))
        os.stat(os.path.join(path, "."))
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}") from None


def check_replaceable(path: Path) -> None:
    """Check that an output file may be written to `path`: there is nothing, a file, or a link, which is not followed.

    Raises:
        InputError: there is something else.
    """
    if os.path.lexists(path) and not os.path.islink(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "something other than a file"
        raise InputError(f"{path}: is in the way: {kind} where a file is to be written")


def open_regular(path: Path, max_bytes: int | None = None) -> BufferedReader:
    """Open a file for reading, but no pipe or device, which may never end or never answer.

    Args:
        path: the file, or a link to it.
        max_bytes: the largest size accepted.

    Raises:
        OSError: it cannot be opened, is not a regular file, or is larger.
    """
    # opened without O_NONBLOCK, a pipe would wait for its other end
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and (max_bytes is None or status.st_size <= max_bytes):
        return file
    file.close()
    if max_bytes is not None and stat.S_ISREG(status.st_mode):
        raise OSError(errno.EFBIG, f"is larger than {max_bytes // 1024} KB")
    raise OSError(errno.EINVAL, "is not a file")


def sha256_of(file: BufferedReader) -> bytes:
    """Return a file's SHA-256, having compared a zip's records with their checksums on the way.

    Raises:
        zipfile.BadZipFile, struct.error: a record that was changed since it was saved.
    """
    digest = hashlib.sha256()

    def take(count: float) -> tuple[bytes, int]:
        """Read so many bytes; return the last of them, and the checksum of all."""
        block, checksum = b"", 0
        while count > 0 and (block := file.read(int(min(count, BLOCK)))):
            digest.update(block)
            checksum, count = zlib.crc32(block, checksum), count - len(block)
        return block, checksum

    records = zipfile.ZipFile(file).infolist() if file.read(4) == b"PK\3\4" else []
    file.seek(0)
    for record in sorted(records, key=lambda record: record.header_offset):
        if (
            not record.CRC or record.compress_type != zipfile.ZIP_STORED
        ):  # PyTorch leaves checksums out if it is told to
            continue
        take(record.header_offset - file.tell())
        header, _ = take(30)  # which ends with the lengths of what follows it
        take(sum(struct.unpack("<HH", header[-4:])))
        if take(record.file_size)[1] != record.CRC:
            raise zipfile.BadZipFile(f"its record {record.filename} is not what was saved")
    take(math.inf)
    return digest.digest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        InputError: it cannot be read, is not JSON, or holds something else.
    """
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
    """Read a YAML file that anyone may have written, in bounded time.

    Args:
        path: the file.
        what: what it is, for messages.

    Raises:
        InputError: there is no such file, it is not YAML, or it is larger than `MAX_YAML_BYTES`.
    """
    try:
        with open_regular(path, MAX_YAML_BYTES) as file:
            return parse_yaml(file.read(), f"{what} {path}")
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read: {error.strerror or error}") from None


def parse_yaml(content: bytes, source: str) -> object:
    """Parse YAML into plain values; it cannot name code.

    Args:
        content: at most `MAX_YAML_BYTES`.
        source: where it is from, for messages.

    Raises:
        InputError: it is not YAML.
    """
    try:
        return yaml.load(content.decode("utf-8"), Loader=PlainLoader)
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not a text file") from None
    except (yaml.YAMLError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{source}: is not valid YAML: {problem}") from None


def command_line(words: Iterable[str]) -> str:
    r"""Join words into one line that people can paste into bash; words that do not print become $'…\xff…'."""
    plain = {byte: chr(byte) for byte in range(0x20, 0x7F) if chr(byte) not in "'\\"}
    return " ".join(
        shlex.quote(word)
        if word.isprintable()
        else "$'" + "".join(plain.get(byte, f"\\x{byte:02x}") for byte in os.fsencode(word)) + "'"
        for word in words
    )

"""The hash of a checkpoint's file, and whether its content is what was saved."""

import hashlib
import math
import struct
import zipfile
import zlib
from io import BufferedReader

BLOCK = 2**20  # bytes read at a time


def verified_sha256(file: BufferedReader) -> bytes:
    """Return a file's SHA-256, having compared a zip's records with their checksums on the way.

    Raises:
        zipfile.BadZipFile: a record that was changed since it was saved.
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
        if not record.CRC or record.compress_type != zipfile.ZIP_STORED:  # PyTorch may leave checksums out
            continue
        take(record.header_offset - file.tell())
        header, _ = take(30)  # which ends with the lengths of what follows it
        take(sum(struct.unpack("<HH", header[-4:])))
        if take(record.file_size)[1] != record.CRC:
            raise zipfile.BadZipFile(f"its record {record.filename} is not what was saved")
    take(math.inf)
    return digest.digest()

"""Stream several arrays into one .npz file at the same time, in constant memory.

`zipfile` writes one member after another, so all arrays but the first would need temporary storage. Here all sizes are
known and members are not compressed, so each has a fixed position: chunks go directly there, and headers with
checksums follow at the end. Every member is dated 1980, so equal rows give equal bytes.
"""

from __future__ import annotations

import zipfile
import zlib
from typing import BinaryIO

from kvae_serve.row_stream import RowStream
from kvae_serve.writers import npy


class _Member:
    """Zip entry of one array, and the position of its next bytes."""

    def __init__(self, name: str, offset: int, size: int) -> None:
        self.info = zipfile.ZipInfo(f"{name}.npy")
        self.info.create_system = 0  # The same bytes on every system.
        self.info.header_offset = offset
        self.info.file_size = self.info.compress_size = size
        self.info.CRC = 0
        self.position = offset + len(self.info.FileHeader())
        self.end = self.position + size

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        file.seek(self.position)
        npy.write_all(file, data)
        self.info.CRC = zlib.crc32(data, self.info.CRC)
        self.position += len(data)


def write(file: BinaryIO, rows: RowStream) -> None:
    """Write all arrays and scalars of a stream into a seekable file."""
    members = _members(rows)
    for name, array in rows.arrays.items():
        members[name].write(file, npy.header(array, rows.num_rows))
    for name, scalar in rows.scalars.items():
        members[name].write(file, npy.array_bytes(scalar))
    for chunk in rows.chunks:
        for name in rows.arrays:
            members[name].write(file, npy.raw(chunk[name]))
    for member in members.values():
        file.seek(member.info.header_offset)
        npy.write_all(file, member.info.FileHeader())
    file.seek(num_bytes(rows))
    with zipfile.ZipFile(file, "w") as archive:  # Writes only the directory, at the current position.
        archive.filelist.extend(member.info for member in members.values())


def num_bytes(rows: RowStream) -> int:
    """Return the size of the file, without the zip directory at its end."""
    return max(member.end for member in _members(rows).values())


def _members(rows: RowStream) -> dict[str, _Member]:
    sizes = {
        name: len(npy.header(array, rows.num_rows)) + rows.num_rows * array.bytes for name, array in rows.arrays.items()
    }
    sizes |= {name: len(npy.array_bytes(scalar)) for name, scalar in rows.scalars.items()}
    members: dict[str, _Member] = {}
    offset = 0
    for name, size in sizes.items():
        members[name] = _Member(name, offset, size)
        offset = members[name].end
    return members

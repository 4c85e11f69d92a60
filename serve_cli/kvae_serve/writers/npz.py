"""NumPy's .npz, all arrays at once: a zip archive whose members grow side by side.

`zipfile` writes one member after another, which would mean to hold or to compute twice what belongs to later ones.
But nothing is compressed and every size is known, so every member has its place from the start: each chunk goes to
where it belongs, and the checksums follow at the end. All members are dated 1980, so the same rows give the same bytes.

Reference: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from kvae_serve.row_stream import RowStream
from kvae_serve.writers import npy

_LARGE = 0xFFFFFFFF
_UTF8 = 0x800
_DATE_1980 = 0x21


class _Member:
    """One array of the archive: where its bytes begin, how many they are, and the checksum of those written so far."""

    def __init__(self, name: str, start: int, head: bytes, size: int) -> None:
        self.name = f"{name}.npy".encode()
        self.start, self.size = start, size
        self.extra = struct.pack("<HHQQ", 1, 16, size, size) if size >= _LARGE else b""
        self.next = start + 30 + len(self.name) + len(self.extra)
        self.end = self.next + size
        self.crc = 0
        self.head = head

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """Put bytes where the last ones ended."""
        file.seek(self.next)
        npy.whole_writes(file)(data)
        self.crc = zlib.crc32(data, self.crc)
        self.next += len(data)

    def local(self) -> bytes:
        """Return the header that stands before the bytes."""
        size = min(self.size, _LARGE)
        fixed = (0x04034B50, self._version, self._flags, 0, 0, _DATE_1980, self.crc, size, size)
        return struct.pack("<IHHHHHIIIHH", *fixed, len(self.name), len(self.extra)) + self.name + self.extra

    def central(self) -> bytes:
        """Return the entry of the archive's directory."""
        large = [value for value in (self.size, self.size, self.start) if value >= _LARGE]
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        size = min(self.size, _LARGE)
        fixed = (0x02014B50, self._version, self._version, self._flags, 0, 0, _DATE_1980, self.crc, size, size)
        rest = (len(self.name), len(extra), 0, 0, 0, 0, min(self.start, _LARGE))
        return struct.pack("<IHHHHHHIIIHHHHHII", *fixed, *rest) + self.name + extra

    @property
    def _version(self) -> int:
        return 45 if self.size >= _LARGE or self.start >= _LARGE else 20

    @property
    def _flags(self) -> int:
        return 0 if self.name.isascii() else _UTF8


def write(file: BinaryIO, rows: RowStream) -> None:
    """Write every array and scalar into a seekable file."""
    members = _members(rows)
    for member in members.values():
        member.write(file, member.head)
    for chunk in rows.chunks:
        for name in rows.arrays:
            members[name].write(file, npy.raw(chunk[name]))
    for member in members.values():
        file.seek(member.start)
        file.write(member.local())
    start = max(member.end for member in members.values())
    file.seek(start)
    directory = b"".join(member.central() for member in members.values())
    file.write(directory + _end(len(members), start, len(directory)))


def num_bytes(rows: RowStream) -> int:
    """Return how large the file will be, but for its directory."""
    return max(member.end for member in _members(rows).values())


def _members(rows: RowStream) -> dict[str, _Member]:
    members: dict[str, _Member] = {}
    place = 0
    for name, array in rows.arrays.items():
        head = npy.header(array, rows.num_rows)
        members[name] = _Member(name, place, head, len(head) + rows.num_rows * array.bytes)
        place = members[name].end
    for name, scalar in rows.scalars.items():
        data = npy.whole(scalar)
        members[name] = _Member(name, place, data, len(data))
        place = members[name].end
    return members


def _end(num: int, start: int, size: int) -> bytes:
    """Return what follows the directory, with the records of zip64 where the archive is that large."""
    large = b""
    if start >= _LARGE:
        large = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, num, num, size, start)
        large += struct.pack("<IIQI", 0x07064B50, 0, start + size, 1)
    return large + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, num, num, size, min(start, _LARGE), 0)

"""Part of the catalogue of hostile_files.py: data files in every format that is read."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from support.hostile_files import DATA, Case

UNCONDITIONAL = str(DATA / "unconditional")
X = np.zeros((2, 8, 6, 1), np.uint8)


def data(name: str, content: bytes | Callable[[], bytes], code: int = 4, *more: str) -> Case:
    """Return a case of `kvae encode` with a file of these bytes."""

    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content() if callable(content) else content)

    return Case(prepare, code, ("encode", "-m", UNCONDITIONAL, name.split("/")[0], "-o", "out.npy", *more))


def npy(array: np.ndarray, pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickle)
    return file.getvalue()


def npy_head(descr: str, shape: str, more: str = "", body: bytes = b"") -> bytes:
    """Return an .npy file with any header."""
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more}}}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return file.getvalue()


def _lying_zip() -> bytes:
    """Return a zip whose directory claims 4 GiB for its only member."""
    content = bytearray(npz({"x.npy": npy(X)}))
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 0xFFFFFFFE)
    return bytes(content)


def _zip_bomb() -> bytes:
    # 20 GiB of zeros in 40 members. Members are read one by one, but their claimed sizes are added up first.
    piece = npy_head("'|u1'", "(268435456, 2)") + bytes(2**29)
    packed = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = packed.compress(piece) + packed.flush()
    file, places = io.BytesIO(), []
    crc = zlib.crc32(piece)
    fixed = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, crc, len(body), len(piece))
    for index in range(40):
        places.append((f"a{index}.npy".encode(), file.tell()))
        name = places[-1][0]
        file.write(b"PK\x03\x04" + fixed + struct.pack("<HH", len(name), 0) + name + body)
    start = file.tell()
    for name, place in places:
        file.write(
            b"PK\x01\x02"
            + struct.pack("<H", 20)
            + fixed
            + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, place)
            + name
        )
    size = file.tell() - start
    file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 40, 40, size, start, 0))
    return file.getvalue()


def _text(point: int) -> np.ndarray:
    """Return two texts, one of them with a code point that may be impossible."""
    return np.array([65, point], np.uint32).view("U1")


def _large_dictionary() -> bytes:
    # The header of an LZMA member: version, size of the properties, the properties. Bytes 5 to 8 are the dictionary.
    content = npz({"x.npy": npy(X)}, zipfile.ZIP_LZMA)
    start = content.index(b"x.npy") + 5
    return content[: start + 5] + b"\xff\xff\xff\xff" + content[start + 9 :]


ARRAYS = {
    "pickled objects": data("x.npz", lambda: npz({"x.npy": npy(np.array([{}]), pickle=True)})),
    "a pickled array": data("x.npy", lambda: npy(np.array([print], object), pickle=True)),
    "a pickle that would write": data("x.npy", b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."),
    "a pickle inside": data("x.npz", npz({"x": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."})),
    "a bomb of zeros": data(
        "x.npz",
        lambda: npz({"x.npy": npy_head("'|u1'", "(400000000, 1)", body=bytes(4 * 10**8))}, zipfile.ZIP_DEFLATED),
    ),
    "a bomb of 20 GiB": data("x.npz", _zip_bomb),
    "a directory that lies": data("x.npz", _lying_zip),
    "names that climb": data("x.npz", npz({"../../evil.npy": npy(X)})),
    "a shape of 2**60": data("x.npz", npz({"x.npy": npy_head("'<f4'", "(2**60,)")})),
    "a shape of 10**18": data("x.npz", npz({"x.npy": npy_head("'<f4'", "(1000000000, 1000000000)")})),
    "a shape that overflows": data(
        "x.npz", npz({"x.npy": npy_head("'<f4'", "(9223372036854775807, 9223372036854775807)")})
    ),
    "a shape of 10**18 on disk": data("x.npy", npy_head("'<f4'", "(1000000000, 1000000000)")),
    "a shape that overflows on disk": data("x.npy", npy_head("'<f4'", "(9223372036854775807, 3)")),
    "a shape of 10**40 on disk": data("x.npy", npy_head("'<f4'", "(" + "9" * 40 + ", 3)")),
    "a negative shape": data("x.npy", npy_head("'<f4'", "(-1, 3)")),
    "a shape of True": data("x.npy", npy_head("'<f4'", "(True, 3)")),
    "a hundred axes": data("x.npy", npy_head("'<f4'", "(" + "1," * 100 + ")", body=bytes(4))),
    "a header that is code": data("x.npy", npy_head("__import__('os').system('touch owned')", "(1, 1)")),
    "a header of brackets": data("x.npy", npy_head("'<f4'", "(" * 5000)),
    "a header of minuses": data("x.npy", npy_head("'<f4'", "-" * 8000 + "1")),
    "a header of quotes": data("x.npy", npy_head("'''", "(1,)")),
    "a header cut short": data("x.npy", b"\x93NUMPY\x01\x00\xff\xff{"),
    "a header of 4 GiB": data("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"),
    "version 9": data("x.npy", b"\x93NUMPY\x09\x00\x10\x00{"),
    "structures": data("x.npy", npy(np.zeros(3, "u1,u1"))),
    "dates": data("x.npy", npy(np.zeros((3, 3), "M8[s]"))),
    "texts": data("x.npy", npy(np.array([["a"]]))),
    "void of a gigabyte": data("x.npy", npy_head("'|V1000000000'", "(1, 1)")),
    "complex numbers": data("x.npy", npy(np.zeros((3, 3), np.complex64))),
    "NaN": data("x.npy", npy(np.full((2, 8, 6, 1), np.nan, np.float32))),
    "numbers beyond float32": data("x.npy", npy(np.full((2, 8, 6, 1), 1e300))),
    "no rows": data("x.npy", npy(X[:0])),
    "another shape": data("x.npy", npy(np.zeros((2, 9, 9, 1), np.uint8))),
    "one number": data("x.npy", npy(np.zeros(()))),
    "an encrypted member": data(
        "x.npz",
        lambda: npz({"x.npy": npy(X)}).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    ),
    "an unknown compression": data(
        "x.npz", lambda: npz({"x.npy": npy(X)}).replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x63\x00")
    ),
    "compression by bzip2": data("x.npz", lambda: npz({"x.npy": npy(X)}, zipfile.ZIP_BZIP2)),
    "compression by LZMA": data("x.npz", lambda: npz({"x.npy": npy(X)}, zipfile.ZIP_LZMA)),
    "a dictionary of 4 GiB": data("x.npz", lambda: _large_dictionary()),
    "text beyond Unicode": data("x.npz", lambda: npz({"x.npy": npy(X), "label.npy": npy(_text(0x110000))})),
    "text of halves of pairs": data("x.npz", lambda: npz({"x.npy": npy(X), "label.npy": npy(_text(0xD800))})),
    "a FIFO": Case(
        lambda folder: os.mkfifo(folder / "x.npz"), 4, ("encode", "-m", UNCONDITIONAL, "x.npz", "-o", "out.npy")
    ),
    "a device": Case(
        lambda folder: (folder / "x.npy").symlink_to("/dev/zero"),
        4,
        ("encode", "-m", UNCONDITIONAL, "x.npy", "-o", "out.npy"),
    ),
}


def idx(code: int, shape: tuple[int, ...], body: bytes = b"") -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


IDX = {
    "no bytes": data("x.idx", b""),
    "a header cut short": data("x.idx", b"\0\0\x08\x03\0\0"),
    "another file": data("x.idx", b"hello world"),
    "a type of the future": data("x.idx", idx(0x7F, (1, 8, 6))),
    "no axes": data("x.idx", idx(8, ())),
    "255 axes": data("x.idx", b"\0\0\x08\xff" + b"\0\0\0\1" * 255),
    "more than there is": data("x.idx", idx(8, (1000, 8, 6), bytes(48))),
    "less than there is": data("x.idx", idx(8, (1, 8, 6), bytes(480))),
    "2**128 values": data("x.idx", idx(8, (2**32 - 1,) * 4)),
    "15 GiB of nothing": data("x.idx", idx(8, (15 * 2**16, 2**7, 2**7))),
    "no rows": data("x.idx", idx(8, (0, 8, 6))),
    "no rows of 2**96 values": data("x.idx", idx(8, (0, 2**32 - 1, 2**32 - 1, 2**32 - 1))),
    "no columns": data("x.idx", idx(8, (9, 0, 0))),
    "a bomb of gzip": data("x.gz", lambda: gzip.compress(idx(8, (4 * 10**8, 1, 1)) + bytes(4 * 10**8), 1)),
    "gzip cut short": data("x.gz", lambda: gzip.compress(idx(8, (1, 8, 6), os.urandom(48)))[:-20]),
    "gzip of gzip": data("x.gz", gzip.compress(gzip.compress(b"hello"))),
    "a FIFO in a folder": Case(
        lambda folder: ((folder / "d").mkdir(), os.mkfifo(folder / "d" / "train-images-idx3-ubyte")),
        4,
        ("encode", "-m", UNCONDITIONAL, "d", "-o", "out.npy"),
    ),
    "a device in a folder": Case(
        lambda folder: ((folder / "d").mkdir(), (folder / "d" / "train-images-idx3-ubyte").symlink_to("/dev/zero")),
        4,
        ("encode", "-m", UNCONDITIONAL, "d", "-o", "out.npy"),
    ),
}


def png(
    width: int, height: int, pixels: bytes | None = None, depth: int = 8, kind: int = 0, *more: tuple[bytes, bytes]
) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress((b"\0" + bytes(width)) * height) if pixels is None else pixels
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(chunk(*each) for each in more)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def _zeros(size: int, channels: int, value: int = 0) -> bytes:
    """Return the packed pixels of a square image, without making all of them at once."""
    packed, row = zlib.compressobj(1), b"\0" + bytes([value]) * size * channels
    return b"".join(packed.compress(row) for _ in range(size)) + packed.flush()


IMAGES = {
    "10^9 pixels": data("x.png", png(2**15, 2**15, b"")),
    "2^62 pixels": data("x.png", png(2**31 - 1, 2**31 - 1, b"")),
    "no pixels": data("x.png", png(0, 0, b"")),
    "64 million pixels": data("x.png", lambda: png(2**13, 2**13), 0),
    "64 million pixels in colour, with transparency": data(
        "x.png", lambda: png(2**13, 2**13, _zeros(2**13, 4), 8, 6), 4
    ),
    "64 million pixels of 16 bits": data("x.png", lambda: png(2**13, 2**13, _zeros(2**13, 2), 16)),
    "33 million opaque pixels": data(
        "x.png", lambda: png(5792, 5792, _zeros(5792, 4, 255), 8, 6), 0, "--channels", "1"
    ),
    "200,000 texts": data(
        "x.png", lambda: png(6, 8, None, 8, 0, *[(b"iTXt", b"k%d\0\0\0\0\0v" % i) for i in range(2 * 10**5)])
    ),
    "a million comments of a JPEG": data("x.jpg", lambda: b"\xff\xd8" + b"\xff\xfe\0\3x" * 10**6),
    "a million comments of a GIF": data(
        "x.gif", lambda: b"GIF89a\6\0\x08\0\x80\0\0" + bytes(6) + b"\x21\xfe\1x\0" * 10**6
    ),
    "a million tags of a TIFF": data(
        "x.tif",
        lambda: (
            b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0"
            + struct.pack("<Q", 10**6)
            + (struct.pack("<HHQQ", 30000, 3, 1, 1) * 10**6)
        ),
    ),
    "pixels cut short": data("x.png", png(6, 8, zlib.compress(bytes(5)))),
    "pixels that do not unpack": data("x.png", png(6, 8, b"\x78\x9c" + b"\xff" * 50)),
    "a text that unpacks to 200 MB": data(
        "x.png", lambda: png(6, 8, None, 8, 0, (b"zTXt", b"a\0\0" + zlib.compress(bytes(2 * 10**8), 1)))
    ),
    "a profile that unpacks to 200 MB": data(
        "x.png", lambda: png(6, 8, None, 8, 0, (b"iCCP", b"a\0\0" + zlib.compress(bytes(2 * 10**8), 1)))
    ),
    "another size": data("x.png", png(9, 9), 0),
    "text": data("x.png", b"hello"),
    "a script": data("x.jpg", b"%!PS\n(evil) run"),
    "a TIFF": data("x.png", b"II*\0\x08\0\0\0\xff\xff" + bytes(99)),
    "a JPEG cut short": data("x.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
    "a JPEG of 2^32 pixels": data("x.jpg", b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xd9"),
    "a folder of text": data("d/x.png", b"hello"),
    "a FIFO": Case(
        lambda folder: ((folder / "d").mkdir(), os.mkfifo(folder / "d" / "x.png")),
        4,
        ("encode", "-m", UNCONDITIONAL, "d", "-o", "out.npy"),
    ),
}

TABLES = {
    "nothing": data("x.csv", b""),
    "NUL": data("x.csv", b"a,b\n1,\x00\n2,3\n"),
    "bytes": data("x.csv", b"\xff\xfe\x00a"),
    "a million columns": data("x.csv", lambda: b",".join(b"c%d" % i for i in range(10**6)) + b"\n"),
    "20,000 columns": data("x.csv", lambda: b",".join(b"c%d" % i for i in range(20_000)) + b"\n1\n"),
    "10,000 columns": data("x.csv", lambda: b",".join(b"c%d" % i for i in range(10_000)) + b"\n1\n"),
    "a line of 50 MB": data("x.csv", lambda: b"a" * 50_000_000),
    "a million commas": data("x.csv", lambda: b"a,b\n" + b"," * 10**6),
    "a quote without an end": data("x.csv", lambda: b'a,b\n"' + b"1\n" * 10**6),
    "a cell of digits": data("x.csv", lambda: b"a,b\n" + b"1" * 130_000 + b"x,2\n3,4\n5,6\n"),
    "escapes": data("x.csv", b"a,b\n1,\x1b[31m\n2,\x1b]0;x\x07\n3,4\n"),
    "a header of numbers": data("x.csv", b"1,2\n3,4\n"),
    "a column twice": data("x.csv", b"a,a\n1,2\n3,4\n"),
    "a row too long": data("x.csv", b"a,b\n1,2,3\n"),
    "NaN": data("x.csv", b"a,b\n1,nan\n2,3\n"),
    "numbers too large": data("x.csv", b"a,b\n1,1e999\n2,3\n"),
    "a FIFO": Case(
        lambda folder: os.mkfifo(folder / "x.csv"), 4, ("encode", "-m", UNCONDITIONAL, "x.csv", "-o", "out.npy")
    ),
}

DOORS = {"arrays": ARRAYS, "IDX": IDX, "images": IMAGES, "tables": TABLES}

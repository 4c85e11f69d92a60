"""Fuzz target of the data readers: a coverage-guided search with atheris.

    pip install atheris && python fuzz/data.py -max_total_time=60

The first byte of an input selects the file format, the rest is the file. A reader must return a `Dataset`, or raise an
`InputDataError` with one printable line. fuzz/reader.py describes the other limits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

NAMES = ("x.npy", "x.npz", "x.csv", "x.idx", "x.gz", "x.png", "x.jpg")
MODULES = tuple(f"kvae_serve.readers.{name}" for name in ("arrays", "idx", "images", "npy"))
_FOLDER = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def one_input(data: bytes) -> None:
    """Raise unless the reader of the format that the first byte selects keeps its promises."""
    from kvae_serve.errors import InputDataError
    from kvae_serve.readers import read_dataset

    if not data:
        return
    path = Path(_FOLDER.name) / NAMES[data[0] % len(NAMES)]
    path.write_bytes(data[1:])
    try:
        dataset = read_dataset(path)
        if not len(dataset.x) or any(len(each) != len(dataset.x) for each in dataset.conditions.values()):
            raise AssertionError("the arrays of a data set have different lengths")
    except InputDataError as error:
        if not str(error).isprintable() or len(str(error)) > 3000:
            raise AssertionError(f"the message is not printable or too long: {error!r}") from error


if __name__ == "__main__":
    import corpus

    corpus.search("data", one_input, 8192, *MODULES)

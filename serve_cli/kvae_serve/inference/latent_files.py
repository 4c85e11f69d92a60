"""Files of latent vectors: .npz, .npy and .csv, or an .npy on standard input that is read row by row."""
# ruff: noqa: PTH122

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.sealed.manifest import Manifest

STDIN = "-"
_FORMS = "an .npz, .npy or .csv file, or - for .npy bytes on standard input"


def read(path: str, manifest: Manifest) -> tuple[Any, dict[str, Any]]:
    """Read latent vectors, and their conditions if the file contains them.

    Args:
        path: An .npz with `z` (or `z_mean`, as written by `kvae encode`) and optionally one array per condition; an
            .npy of z; a .csv with the columns `z_0`, `z_1`, ... (or `z_mean_0`, ...) and optionally one column per
            condition; or `-` for an .npy on standard input.
        manifest: Manifest of the model.

    Returns:
        z `[rows, latent_dim]`, and each condition by name `[rows]`. Rows of standard input can be read once, in order.

    Raises:
        InputDataError: The file does not exist, or does not contain latent vectors of this model.
    """
    if path == STDIN:
        return standard_input(), {}
    from kvae_serve.readers import ReadOptions, arrays

    suffix, source = os.path.splitext(path)[1].lower(), printable(path)
    if not Path(path).is_file():
        raise InputDataError(f"{source} is not a file. Give {_FORMS}.")
    if suffix == ".npy":
        return _shaped(arrays.read_npy(Path(path), source, ReadOptions(in_memory=0)).x, manifest, source), {}
    if suffix == ".npz":
        return _from_npz(Path(path), manifest, source)
    if suffix == ".csv":
        return _from_csv(Path(path), manifest, source)
    raise InputDataError(f"{source} has an unknown suffix. Give {_FORMS}.")


class PipedRows:
    """Array whose rows are read from an .npy on a pipe, each once and in order.

    Args:
        stream: Stream at the first byte of the .npy.
        source: Name of the stream for messages.
    """

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self._stream, self.source, self._next = stream, source, 0
        try:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            self.shape, fortran_order, self.dtype = read(stream)
        except (ValueError, KeyError, EOFError) as error:
            raise InputDataError(f"{source} is not an .npy. Pipe in .npy bytes, or give a file.") from error
        if fortran_order or self.dtype.kind not in "uifb" or not self.shape or 0 in self.shape[1:]:
            form = "in column order" if fortran_order else f"of {self.dtype} {list(self.shape)}"
            raise InputDataError(f"{source} is an .npy {form}; expected numbers in row order.")
        if not self.shape[0]:
            raise InputDataError(f"{source} is an .npy without rows; expected at least one.")
        self._row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        if self._row_bytes > 2**31:
            raise InputDataError(f"One row of {source} has {self._row_bytes} bytes; expected at most 2 GiB.")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, end, _ = rows.indices(len(self))
        if first < self._next:
            raise AssertionError(f"Rows from {first} on were read before.")
        while self._next < first:
            skip = min(first - self._next, max(1, 2**20 // self._row_bytes))
            self._read(skip)
            self._next += skip
        self._next = end
        return self._read(end - first)

    def _read(self, num: int) -> np.ndarray:
        data = bytearray()
        while len(data) < num * self._row_bytes:
            more = self._stream.read(num * self._row_bytes - len(data))
            if not more:
                raise InputDataError(f"{self.source} ends early; expected an .npy of {len(self)} rows.")
            data += more
        return np.frombuffer(bytes(data), self.dtype).reshape(num, *self.shape[1:])


def standard_input() -> PipedRows:
    """Return the .npy on standard input as rows."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise InputDataError("Standard input is closed. Give a file.")
    if stream.isatty():
        raise InputDataError("Standard input is a terminal; expected .npy bytes. Pipe them in, or give a file.")
    if not isinstance(stream, io.BufferedReader):
        stream = io.BufferedReader(stream)
    return PipedRows(stream, "Standard input")


def _shaped(z: np.ndarray, manifest: Manifest, source: str) -> np.ndarray:
    if z.ndim != 2 or z.shape[1] != manifest.latent_dim or z.dtype.kind not in "uif":
        raise InputDataError(
            f"{source} contains {z.dtype} {list(z.shape)}; expected numbers [rows, {manifest.latent_dim}], one latent "
            "vector per row."
        )
    if not len(z):
        raise InputDataError(f"{source} is empty; expected at least one row.")
    return z


def _from_npz(path: Path, manifest: Manifest, source: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    from kvae_serve.readers import arrays, dispatch

    loaded = arrays.load_npz(path, source)
    name = next((name for name in ("z", "z_mean") if name in loaded), None)
    if name is None:
        raise InputDataError(
            f"{source} contains {', '.join(map(printable, loaded)) or 'nothing'}; expected an array z (or z_mean)."
        )
    z = _shaped(loaded[name], manifest, source)
    conditions = {each.name: loaded[each.name] for each in manifest.conditions if each.name in loaded}
    return z, dispatch.known_conditions(arrays.as_dataset(z, conditions, source), manifest)


def _from_csv(path: Path, manifest: Manifest, source: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    from kvae_serve.readers import csv

    parsed = csv.parse(path, source)
    for prefix in ("z", "z_mean"):
        names = [f"{prefix}_{index}" for index in range(manifest.latent_dim)]
        if all(name in parsed.cells for name in names):
            break
    else:
        raise InputDataError(
            f"{source} has the columns {', '.join(printable(name, 40) for name in list(parsed.cells)[:6])}; expected "
            f"z_0 to z_{manifest.latent_dim - 1} (or z_mean_0 and so on), one per latent dimension."
        )
    dataset = csv.apply(parsed, [{"name": name, "kind": "numeric"} for name in names], manifest.conditions)
    return dataset.x, dict(dataset.conditions)

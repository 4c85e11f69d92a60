"""Streams of rows from a graph to a file, in chunks, so that memory does not grow with the number of rows.

A command builds a `RowStream` and `kvae_serve.writers.dispatch` writes it. The number of rows and the type of each
array are known before the first chunk, so a writer can write the header and check the disk space at the start.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from kvae_serve.class_indices import are_ambiguous
from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed.manifest import Data, Manifest

Dtype = Literal["float32", "uint8"]
Chunk = Mapping[str, np.ndarray]
"""All arrays of a stream for some consecutive rows."""

IN_DATA_UNITS = ("x", "x_mean")
"""Arrays that hold data. Only these can be rounded to uint8."""

CHUNK_BYTES = 4 * 2**20
MAX_CHUNK_ROWS = 2048
"""Limits of a chunk: large enough to make its overhead small, small enough for the processor's caches."""


class Array(NamedTuple):
    """Type of an array, and shape of one of its rows."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class RowStream:
    """Rows that are computed while they are read.

    Attributes:
        manifest: Manifest of the model.
        num_rows: Number of rows in all chunks together.
        arrays: Type and row shape of each array, in the order of an .npz.
        main: Names of the arrays that an .npy (the first) or a .csv (all of these) holds.
        chunks: The rows in order. Each chunk contains every array.
        scalars: Further values for an .npz.
        metadata: Text for a PNG, by keyword.
        group_size: Number of consecutive rows that belong together, for example those of one label.
        start: Index of the first row of each group.
        pairs: Whether pictures show `x` and `x_mean` side by side.
        real: Real rows `x` and conditions, beside which an .html shows the rows. None for what the model file stores.
        row_names: Texts that name each row in a .csv, by column: the image file, or identifiers of a table.
        ids: Identifiers of rows that were read, by column of the table. They are a sequence for other rows.
    """

    manifest: Manifest
    num_rows: int
    arrays: dict[str, Array]
    main: tuple[str, ...]
    chunks: Iterator[Chunk]
    scalars: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    group_size: int = 0
    start: int = 0
    pairs: bool = False
    real: Mapping[str, np.ndarray] | None = None
    row_names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    ids: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    @property
    def holds_images(self) -> bool:
        """True if the rows are images that a PNG can store."""
        data = self.manifest.data
        return bool(self.data_names) and data.kind == "image" and data.shape[2] in (1, 3)

    @property
    def data_names(self) -> tuple[str, ...]:
        """Names of the main arrays that hold data rather than latent vectors."""
        return tuple(name for name in self.main if name in IN_DATA_UNITS)

    def data(self, chunk: Chunk) -> list[np.ndarray]:
        """Return the data of a chunk that a picture shows side by side, each `[rows, *shape]` in data units."""
        return [np.asarray(chunk["x"], np.float32), chunk["x_mean"]] if self.pairs else [chunk[self.main[0]]]

    def images(self, chunk: Chunk) -> np.ndarray:
        """Return the pictures of a chunk of images, `[rows, height, width, channels]` in data units."""
        return np.concatenate(self.data(chunk), axis=2)

    def as_dtype(self, dtype: Dtype) -> RowStream:
        """Return this stream with its data as float32 (unchanged), or rounded to uint8.

        Raises:
            RequestError: The stream does not contain data in the range 0 to 255.
        """
        if dtype == "float32":
            return self
        names = [name for name in self.arrays if name in IN_DATA_UNITS]
        if not names:
            raise RequestError(f"{', '.join(self.main)} cannot be written as uint8, only data can. Use float32.")
        low, high = self.manifest.data.range or (-math.inf, math.inf)
        if low < 0 or high > 255:
            raise RequestError(
                f"Data of {printable(self.manifest.name, 60)} is not limited to 0 to 255, so it cannot be written as "
                "uint8. Use float32."
            )
        small = {name: Array(np.dtype(np.uint8), self.arrays[name].shape) for name in names}
        chunks = ({**chunk, **{name: _rounded(chunk[name]) for name in names}} for chunk in self.chunks)
        return dataclasses.replace(self, arrays=self.arrays | small, chunks=chunks)

    def with_class_names(self) -> RowStream:
        """Return this stream with class names in place of indices, if the names are other integers.

        A reader of the file would take such an index for a name. Texts are names.
        """
        names = {
            each.name: np.array(each.classes)
            for each in self.manifest.conditions
            if each.name in self.arrays and are_ambiguous(each.classes)
        }
        if not names:
            return self
        texts = {name: Array(classes.dtype, self.arrays[name].shape) for name, classes in names.items()}
        chunks = ({**chunk, **{name: names[name][chunk[name]] for name in names}} for chunk in self.chunks)
        return dataclasses.replace(self, arrays=self.arrays | texts, chunks=chunks)


def chunk_rows(data: Data, batch_size: int) -> int:
    """Return the number of rows per chunk: a multiple of the batch size."""
    rows = min(MAX_CHUNK_ROWS, CHUNK_BYTES // (4 * data.num_values))
    return max(1, rows // batch_size) * batch_size


def spans(rows: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield first row and end of each chunk of `step` rows."""
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def count_rows(available: int, first: int, num: int | None) -> int:
    """Return the number of rows from `first` on: at most `num`, or all if it is None.

    Raises:
        RequestError: The first row does not exist.
    """
    if not 0 <= first < available:
        raise RequestError(f"There is no row {first}; expected 0 to {available - 1}.")
    return available - first if num is None else min(num, available - first)


def condition_arrays(manifest: Manifest) -> dict[str, Array]:
    """Return type and row shape of each condition."""
    return {
        condition.name: Array(np.dtype(np.int64 if condition.categorical else np.float32), ())
        for condition in manifest.conditions
    }


def data_array(manifest: Manifest) -> Array:
    """Return type and row shape of x."""
    return Array(np.dtype(np.float32), manifest.data.shape)


def latent_array(manifest: Manifest) -> Array:
    """Return type and row shape of z."""
    return Array(np.dtype(np.float32), (manifest.latent_dim,))


def model_metadata(manifest: Manifest) -> dict[str, str]:
    """Return the text that a PNG stores about the model."""
    name = f"{manifest.name} {manifest.model_id}".encode("ascii", "replace").decode()
    return {"Software": "kvae", "kvae model": name}


def _rounded(x: np.ndarray) -> np.ndarray:
    pixels = np.empty(x.shape, np.uint8)
    for first in range(0, len(x), 1024):  # In parts, because each step makes a copy.
        pixels[first : first + 1024] = np.rint(np.clip(x[first : first + 1024], 0, 255))
    return pixels

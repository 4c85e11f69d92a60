"""Rows on their way from a graph to a file: made piece by piece, so that a million of them need the memory of a few.

A verb makes a `Flow`, `kvae_serve.writers.dispatch` writes it. How many rows there are and what each of them holds
is known
before the first piece is made, so a file has its size, its header and its place on the disk from the start.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed.manifest import Data, Manifest

Dtype = Literal["float32", "uint8"]
Piece = Mapping[str, np.ndarray]
"""Every array of a flow for some rows."""

IN_DATA_UNITS = ("x", "x_mean")
"""Arrays that hold data, which may be rounded to uint8."""

PIECE_BYTES = 4 * 2**20
MAX_PIECE = 2048
"""A piece is of so many bytes or rows: large enough that its cost is the graph's, small enough for the caches."""


class Array(NamedTuple):
    """What one row of an array is: its type, and its shape without the axis of rows."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of one row."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """Rows to come.

    Attributes:
        manifest: the model's.
        rows: how many rows all pieces have together.
        arrays: what each row has, by name, in the order of an .npz.
        main: those of the arrays that an .npy (the first) and a .csv (all of these) hold.
        pieces: the rows in order, each piece with every array.
        scalars: what an .npz holds beside the arrays.
        facts: what a PNG keeps as texts.
        num: rows that belong together, as those of one label do.
        start: index of the first row of each `num`.
        pairs: whether pictures show `x` and `x_mean` side by side.
    """

    manifest: Manifest
    rows: int
    arrays: dict[str, Array]
    main: tuple[str, ...]
    pieces: Iterator[Piece]
    scalars: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    num: int = 0
    start: int = 0
    pairs: bool = False

    @property
    def holds_images(self) -> bool:
        """Whether what is made are images that a PNG can hold."""
        data = self.manifest.data
        return bool(self.data_names) and data.kind == "image" and data.shape[2] in (1, 3)

    @property
    def data_names(self) -> tuple[str, ...]:
        """The main arrays that hold data rather than codes."""
        return tuple(name for name in self.main if name in IN_DATA_UNITS)

    def images(self, piece: Piece) -> np.ndarray:
        """Return the pictures of a piece, `[rows, height, width, channels]` in data units."""
        if not self.pairs:
            return piece[self.main[0]]
        return np.concatenate([np.asarray(piece["x"], np.float32), piece["x_mean"]], axis=2)

    def as_dtype(self, dtype: Dtype) -> Flow:
        """Return this flow with its data as float32 as it is, or rounded to uint8."""
        if dtype == "float32":
            return self
        value_range = self.manifest.data.range
        names = [name for name in self.arrays if name in IN_DATA_UNITS]
        if not names:
            raise RequestError(f"{', '.join(self.main)} are no pixels, so they cannot be written as uint8.")
        if value_range is None or value_range[0] < 0 or value_range[1] > 255:
            raise RequestError(f"{self._name} has data beyond 0 to 255, so it cannot be written as uint8.")
        small = {name: Array(np.dtype(np.uint8), self.arrays[name].shape) for name in names}
        pieces = ({**piece, **{name: _rounded(piece[name]) for name in names}} for piece in self.pieces)
        return dataclasses.replace(self, arrays=self.arrays | small, pieces=pieces)

    @property
    def _name(self) -> str:
        return printable(self.manifest.name, 60)


def piece_rows(data: Data, batch_size: int) -> int:
    """Return how many rows a piece has: whole batches, at least one of them."""
    rows = min(MAX_PIECE, PIECE_BYTES // (4 * data.num_values))
    return max(1, rows // batch_size) * batch_size


def spans(rows: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut rows into pieces: first row and end of each."""
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def chosen(have: int, first: int, num: int | None) -> int:
    """Return how many rows are taken of those that there are, from `first` on: `num`, fewer at the end, all if None."""
    if not 0 <= first < have:
        raise RequestError(f"There are {have} rows, numbered from 0: none to start from at {first}.")
    return have - first if num is None else min(num, have - first)


def condition_arrays(manifest: Manifest) -> dict[str, Array]:
    """Return what a row has of each condition."""
    return {
        condition.name: Array(np.dtype(np.int64 if condition.categorical else np.float32), ())
        for condition in manifest.conditions
    }


def data_array(manifest: Manifest) -> Array:
    """Return what a row of x is."""
    return Array(np.dtype(np.float32), manifest.data.shape)


def latent_array(manifest: Manifest) -> Array:
    """Return what a row of z is."""
    return Array(np.dtype(np.float32), (manifest.latent_dim,))


def model_facts(manifest: Manifest) -> dict[str, str]:
    """Return what a PNG tells of the model that made it."""
    name = f"{manifest.name} {manifest.model_id}".encode("ascii", "replace").decode()
    return {"Software": "kvae", "kvae model": name}


def _rounded(x: np.ndarray) -> np.ndarray:
    pixels = np.empty(x.shape, np.uint8)
    for first in range(0, len(x), 1024):  # In parts, for each step makes a copy.
        pixels[first : first + 1024] = np.rint(np.clip(x[first : first + 1024], 0, 255))
    return pixels

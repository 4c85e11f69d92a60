"""What every reader returns, and what it may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError

Split = Literal["train", "test"]

MAX_BYTES = 16 * 2**30
"""No array is read that takes more than this unpacked: a small file can claim any size."""


BOMB_BYTES, BOMB_RATIO = 2**28, 200
"""More than so much, packed to less than one in so many, is no data: all images of dSprites are packed 1 to 167."""


class Dataset(NamedTuple):
    """Examples as their file holds them.

    Attributes:
        x: `[num, *shape]` in data units: uint8 where the file has 8-bit values, float32 otherwise. Images are
            `[num, height, width, channels]`; a table is `[num, columns]`, categorical columns as class indices. Where
            `ReadOptions.in_memory` is exceeded, an array on disk: a `numpy.memmap`, or `images.ImagesOnDisk`.
        conditions: name to int64 `[num]` (class index) or float32 `[num]` (continuous), in the file's order.
        class_names: for each categorical condition the names of its classes, by index.
        source: the path that was read, for messages and manifests.
        range: lowest and highest value that the file's type can hold: (0, 255) for 8-bit data, else None.
        columns: of a table, as docs/format.md has `data.columns`; empty for other data.
    """

    x: np.ndarray
    conditions: dict[str, np.ndarray]
    class_names: dict[str, tuple[str, ...]]
    source: str
    range: tuple[float, float] | None
    columns: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class ReadOptions:
    """How to read what can be read in several ways.

    Attributes:
        image_size: (height, width) to cut and resize images to; by default all have one size.
        channels: 1 for grey, 3 for RGB; by default what the images have.
        condition_columns: CSV: columns that are conditions rather than part of x.
        categorical_columns: CSV: columns of numbers that name classes.
        drop_columns: CSV: columns to leave out.
        in_memory: bytes of x beyond which arrays and image folders stay on disk; None reads everything.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    condition_columns: tuple[str, ...] = ()
    categorical_columns: tuple[str, ...] = ()
    drop_columns: tuple[str, ...] = ()
    in_memory: int | None = None


def check_size(num_bytes: int, source: str, stored: int | None = None) -> None:
    """Raise `InputDataError` where data would take more than `MAX_BYTES`, or a small file claims to unpack to a lot.

    Args:
        num_bytes: what the data would take.
        source: for the message.
        stored: bytes of the packed file, where it is one.
    """
    if num_bytes > MAX_BYTES:
        raise InputDataError(
            f"{source} claims {num_bytes} bytes of data, more than the {MAX_BYTES} that are read at most."
        )
    if stored is not None and num_bytes > BOMB_BYTES and num_bytes > BOMB_RATIO * stored:
        raise InputDataError(
            f"{source} has {stored} bytes and claims to unpack to {num_bytes}, as bombs do. "
            "Where you trust it, unpack it yourself."
        )

"""Result and options of every reader."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, printable

Split = Literal["train", "test"]

MAX_BYTES = 16 * 2**30
"""Size of the largest array that is read, unpacked. A small file can claim any size."""


BOMB_BYTES, BOMB_RATIO = 2**28, 200
"""A file that unpacks to more bytes, at a higher ratio, is treated as a zip bomb. dSprites has the ratio 167."""


LISTED = 10
"""Problems that one message lists."""


class MissingSplitError(InputDataError):
    """The data does not have a test split."""


class Table(NamedTuple):
    """Cells of a file as texts, by column.

    Attributes:
        cells: Cells by column name.
        source: Name of the file in messages.
        first_row: Number of the first row: of a CSV as a spreadsheet shows it, below the header; of other tables 0.
        delimiter: Delimiter of the file.
        notes: Sentences about how the file was read.
        dtypes: Types of the columns of a DataFrame.
        categories: Categories of the columns of a DataFrame that are ordered, or that have categories in another order
            than classes or without rows: `categories` and `ordered`, as in `data.columns` in docs/format.md.
        settings: Settings of columns that follow from these types, as `ReadOptions.column_settings`.
        first_number: First number of a first column without a name that numbers the rows, which is not in `cells`.
        untrimmed: Cells with their blanks at both ends, of the columns that have any. `cells` does not have them.
        spaced: Whether a blank follows each delimiter in rows. It is not part of the cells.
        header: Names with their blanks at both ends, of the columns whose names have any.
    """

    cells: dict[str, list[str]]
    source: str
    first_row: int = 2
    delimiter: str = ","
    notes: tuple[str, ...] = ()
    dtypes: Mapping[str, str] = MappingProxyType({})
    categories: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    first_number: int | None = None
    untrimmed: Mapping[str, list[str]] = MappingProxyType({})
    spaced: bool = False
    header: Mapping[str, str] = MappingProxyType({})

    def texts(self, name: str) -> list[str]:
        """Return the cells of a column with their blanks at both ends."""
        return self.untrimmed.get(name, self.cells[name])

    def where(self, name: str, row: int) -> str:
        """Return the position of a cell for a message."""
        return f"row {row + self.first_row}, column {printable(name, 60)}"


class Dataset(NamedTuple):
    """Examples as their file stores them.

    Attributes:
        x: `[num, *shape]` in data units: uint8 if the file has 8-bit values, else float32. Images are
            `[num, height, width, channels]`; a table is `[num, columns]`, with class indices in categorical columns.
            If `ReadOptions.in_memory` is exceeded, an array on disk: a `numpy.memmap` or `images.ImagesOnDisk`.
        conditions: int64 `[num]` (class index) or float32 `[num]` (continuous) by name, in the order of the file.
        class_names: Class names of each categorical condition, by index.
        source: Path of the data, for messages and manifests.
        range: Lowest and highest value of the file's type: (0, 255) for 8-bit data, else None.
        columns: Columns of a table, as `data.columns` in docs/format.md. Empty for other data.
        outside: Columns of a table that are not in x, as `data.outside` in docs/format.md: constants and identifiers.
        order: Names of all columns of a table in the order of the file, conditions included.
        delimiter: Delimiter of the file of a table, with the blank after it if all rows have one.
        header: Names of `order` as the file has them, if blanks are at their ends; else empty.
        condition_columns: Columns of the conditions of a table by the name of the condition, like `columns`.
        notes: Sentences about how the data was read, such as columns that were left out.
        files: Name of the image file of each example, relative to the folder. Empty for other data.
        ids: Columns of identifiers of a table that is read for a model, as text by column name.
    """

    x: np.ndarray
    conditions: dict[str, np.ndarray]
    class_names: dict[str, tuple[str, ...]]
    source: str
    range: tuple[float, float] | None
    columns: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    outside: tuple[dict[str, Any], ...] = ()
    order: tuple[str, ...] = ()
    delimiter: str = ","
    condition_columns: Mapping[str, dict[str, Any]] = MappingProxyType({})
    ids: Mapping[str, Sequence[str]] = MappingProxyType({})
    header: tuple[str, ...] = ()

    def __repr__(self) -> str:
        source = printable(os.path.basename(str(self.source)) or self.source, 60)  # noqa: PTH119
        described = [f"{len(self.x)} examples of {source}: x {self.x.dtype} {list(self.x.shape)}"]
        for name in self.conditions:
            classes = self.class_names.get(name)
            described.append(f"{name} {'number' if classes is None else f'{len(classes)} classes'}")
        return f"<{', '.join(described)}>"

    def _repr_html_(self) -> str:
        from kvae_serve.writers import notebook

        rows = np.asarray(self.x[: notebook.MAX_COLUMNS * 3])
        pixels = notebook.picture(rows, notebook.MAX_COLUMNS, self.range)
        caption = repr(self).strip("<>")
        if pixels is not None:
            return notebook.figure(caption, pixels)
        names = [str(column["name"]) for column in self.columns] or [f"x{index}" for index in range(rows[0].size)]
        columns = dict(zip(names, rows.reshape(len(rows), -1).T.tolist(), strict=True))
        shown = {name: columns[name] for name in list(columns)[: notebook.MAX_COLUMNS]}
        return notebook.table(caption, shown)


@dataclass(frozen=True)
class ReadOptions:
    """Options for data that can be read in several ways.

    Attributes:
        image_size: (height, width) to which images are cropped and resized. By default all must have one size.
        channels: 1 for gray, 3 for RGB. By default that of the images.
        condition_columns: Columns of a CSV that are conditions, not part of x.
        categorical_columns: Columns of a CSV whose numbers are class names.
        drop_columns: Columns of a CSV to leave out.
        keys: Arrays of an .npz to read, each as `NAME=ARRAY`, such as `x=images`.
        delimiter: Delimiter of a CSV. By default it is detected.
        missing_values: Further texts of a CSV that stand for a missing value.
        column_settings: Settings of columns of a CSV by name, as in a columns.toml: `type`, `format`, `decimals`,
            `missing`.
        skip_bad: Whether to leave out images that cannot be read.
        in_memory: Size of x in bytes above which arrays and image folders stay on disk. None reads everything.
        check_digits: Whether to refuse arrays whose values float32 cannot tell apart. A model needs no such check of
            the few rows that it reads.
        has_flags: Whether the command has the options above, so that messages may name them.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    condition_columns: tuple[str, ...] = ()
    categorical_columns: tuple[str, ...] = ()
    drop_columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    delimiter: str | None = None
    missing_values: tuple[str, ...] = ()
    column_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    skip_bad: bool = False
    in_memory: int | None = None
    check_digits: bool = True
    has_flags: bool = True

    def advice(self, with_flag: str, without: str) -> str:
        """Return the first text if the command has the options, otherwise the second."""
        return with_flag if self.has_flags else without


def evenly_spaced(num: int, most: int) -> np.ndarray:
    """Return at most `most` of the rows 0 to `num` - 1, in equal steps, because files are often sorted by class."""
    return np.linspace(0, num - 1, min(num, most)).astype(np.int64)


def listed(problems: Sequence[str], separator: str = "; ", num: int | None = None) -> str:
    """Return the first `LISTED` of `num` problems, and the number of the others.

    Example:
        >>> listed(["row 2 is empty", "row 5 is empty"])
        'row 2 is empty; row 5 is empty'
    """
    others = (len(problems) if num is None else num) - LISTED
    more = [f"and {others:,} more"] if others > 0 else []
    return separator.join([*problems[:LISTED], *more])


def natural_key(name: str) -> tuple[Any, ...]:
    """Return a sort key by which `2` is before `10`: texts with numbers in their natural order."""
    negative = re.fullmatch(r"-\d+", name)
    if negative:
        return (((0, int(name), ""),), name)
    parts = re.split(r"(\d+)", name)
    return (tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part), name)


def check_file(path: Path, source: str, expected: str = "a .csv or .parquet file") -> None:
    """Raise `InputDataError` if a path does not exist, or is not a regular file.

    Args:
        path: The path.
        source: Its name in messages.
        expected: Text about the file that is expected.
    """
    if not path.exists():
        raise InputDataError(f"{source} does not exist. Give the path of {expected}.")
    if not path.is_file():
        raise InputDataError(f"{source} is not a regular file. Give the path of {expected}.")


def check_size(num_bytes: int, source: str, stored: int | None = None) -> None:
    """Raise `InputDataError` if data would need more than `MAX_BYTES`, or look like a zip bomb.

    Args:
        num_bytes: Size of the data in memory.
        source: Name of the data in messages.
        stored: Size of the packed file, if it is packed.
    """
    if num_bytes > MAX_BYTES:
        raise InputDataError(f"{source} claims {num_bytes} bytes of data; the most is {MAX_BYTES}. Split the file.")
    if stored is not None and num_bytes > BOMB_BYTES and num_bytes > BOMB_RATIO * stored:
        raise InputDataError(
            f"{source} has {stored} bytes and claims to unpack to {num_bytes}, like a zip bomb. "
            "If you trust it, unpack it yourself."
        )

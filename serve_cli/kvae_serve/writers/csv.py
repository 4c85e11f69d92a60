"""Write rows as CSV with a header line. Classes are written by name, and `kvae_serve.readers` reads them back."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TextIO

import numpy as np

from kvae_serve.csv_escape import escape
from kvae_serve.row_stream import RowStream
from kvae_serve.sealed.manifest import Condition, Data


def write(stream: TextIO, rows: RowStream) -> None:
    """Write the main arrays of a stream.

    Table rows and latent vectors also get a column per condition, and rows of image files a column `file`.
    """
    data = rows.manifest.data
    latent = not rows.data_names
    conditions = [each for each in rows.manifest.conditions if each.name in rows.arrays and (data.columns or latent)]
    header = [*(["file"] if rows.files else []), *(each.name for each in conditions)]
    for name in rows.main:
        header += [f"{name}_{index}" for index in range(rows.arrays[name].shape[0])] if latent else column_names(data)
    classes = column_classes(data) if not latent else []

    def columns() -> Iterable[list[list[str]]]:
        files = iter(rows.files)
        for chunk in rows.chunks:
            texts = [condition_texts(each, chunk[each.name]) for each in conditions]
            if rows.files:
                texts.insert(0, [escape(name) for name in islice(files, len(chunk[rows.main[0]]))])
            for name in rows.main:
                values = chunk[name].reshape(len(chunk[name]), -1).T
                texts += [column_texts(column, classes[i] if classes else None) for i, column in enumerate(values)]
            yield texts

    write_columns(stream, header, columns())


def write_columns(stream: TextIO, header: Sequence[str], chunks: Iterable[Sequence[Sequence[str]]]) -> None:
    """Write a header line, then the lines of each chunk, which is given as columns of texts."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(escape, header))
    for columns in chunks:
        writer.writerows(zip(*columns, strict=True))


def condition_texts(condition: Condition, values: np.ndarray) -> list[str]:
    """Return the class names or numbers of a condition. A number has the fewest digits that give its float32 back."""
    if condition.categorical:
        return [escape(condition.classes[value]) for value in values.tolist()]
    return [f"{float(str(value)):.9g}" for value in values.astype(np.float32)]


def column_texts(values: np.ndarray, classes: Sequence[str] | None = None) -> list[str]:
    """Return the values of a column as numbers, or as the names of the nearest classes."""
    if classes is None:
        return [f"{value:.9g}" for value in values.tolist()]
    names = [escape(name) for name in classes]
    return [names[min(max(round(value), 0), len(names) - 1)] for value in values.tolist()]


def column_names(data: Data) -> list[str]:
    """Return the column names of a table, or x0, x1, ... for other data."""
    return [str(column["name"]) for column in data.columns] or [f"x{index}" for index in range(data.num_values)]


def column_classes(data: Data) -> list[Sequence[str] | None]:
    """Return the classes of each column of `column_names`, None for numbers."""
    return [column.get("classes") for column in data.columns] or [None] * data.num_values

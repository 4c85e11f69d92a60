"""Write rows as CSV with a header line. Classes are written by name, and `kvae_serve.readers` reads them back."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TextIO

import numpy as np

from kvae_serve import cells
from kvae_serve.csv_escape import escape
from kvae_serve.row_stream import RowStream
from kvae_serve.sealed.manifest import Condition, Data


def write(stream: TextIO, rows: RowStream) -> None:
    """Write the main arrays of a stream.

    Rows of a table have the columns of the training table in their order, with their types, decimals, bounds, class
    names and date formats. Other rows get a column per condition first, and those that name each row: `file` for image
    files, or identifiers of a table.
    """
    data = rows.manifest.data
    if rows.data_names and data.order:
        _write_table(stream, rows)
        return
    latent = not rows.data_names
    conditions = [each for each in rows.manifest.conditions if each.name in rows.arrays]
    header = [*map(escape, rows.row_names), *(each.name for each in conditions)]
    for name in rows.main:
        header += [f"{name}_{index}" for index in range(rows.arrays[name].shape[0])] if latent else column_names(data)

    def columns() -> Iterable[list[list[str]]]:
        row_names = [iter(each) for each in rows.row_names.values()]
        for chunk in rows.chunks:
            num = len(chunk[rows.main[0]])
            texts = [[escape(text) for text in islice(each, num)] for each in row_names]
            texts += [condition_texts(each, chunk[each.name]) for each in conditions]
            for name in rows.main:
                values = chunk[name].reshape(len(chunk[name]), -1)
                texts += [column_texts(each) for each in values.T] if latent else data_texts(data, values)
            yield texts

    write_columns(stream, header, columns())


def _write_table(stream: TextIO, rows: RowStream) -> None:
    data = rows.manifest.data
    conditions = [each for each in rows.manifest.conditions if each.column and each.name in rows.arrays]
    known = {str(each["name"]) for each in (*data.columns, *data.outside)} | {
        each.column["name"] for each in conditions
    }
    order = [name for name in data.order if name in known]
    sequences = {
        each["name"]: cells.identifiers(each, rows.start, rows.ids) if each["type"] == "id" else None
        for each in data.outside
    }

    def columns() -> Iterable[list[list[str]]]:
        for chunk in rows.chunks:
            values = chunk[rows.main[0]]
            by_name = dict(zip(column_names(data), data_texts(data, values), strict=True))
            for each in data.outside:
                by_name[each["name"]] = _escaped(cells.outside(each, sequences[each["name"]], len(values)))
            for condition in conditions:
                by_name[condition.column["name"]] = condition_texts(condition, chunk[condition.name])
            yield [by_name[name] for name in order]

    write_columns(stream, data.header or order, columns(), data.delimiter)


def write_columns(
    stream: TextIO, header: Sequence[str], chunks: Iterable[Sequence[Sequence[str]]], delimiter: str = ","
) -> None:
    """Write a header line, then the lines of each chunk, which is given as columns of texts.

    A blank after the delimiter is written in the lines of chunks only.
    """
    writer = csv.writer(stream, delimiter=delimiter[0], lineterminator="\n")
    writer.writerow(map(escape, header))
    blank = delimiter[1:]
    for columns in chunks:
        if blank:
            columns = [columns[0], *([blank + text for text in each] for each in columns[1:])]
        writer.writerows(zip(*columns, strict=True))


def condition_texts(condition: Condition, values: np.ndarray) -> list[str]:
    """Return the class names or numbers of a condition, with the decimals of its column if it was one of a table."""
    if condition.categorical:
        return _escaped([condition.classes[value] for value in values.tolist()])
    if condition.column:
        return cells.texts(condition.column, values)
    return [f"{float(str(value)):.9g}" for value in values.astype(np.float32)]


def column_texts(values: np.ndarray, classes: Sequence[str] | None = None) -> list[str]:
    """Return the values of a column as numbers, or as the names of the nearest classes."""
    if classes is None:
        return [f"{value:.9g}" for value in values.tolist()]
    names = [escape(name) for name in classes]
    return [names[min(max(round(value), 0), len(names) - 1)] for value in values.tolist()]


def data_texts(data: Data, values: np.ndarray) -> list[list[str]]:
    """Return the cells of each column of `column_names`, of rows `[rows, values]` in data units."""
    if not data.columns:
        return [column_texts(column) for column in values.T]
    return [
        _escaped(cells.texts(column, each)) if "classes" in column or "prefix" in column else cells.texts(column, each)
        for column, each in zip(data.columns, values.T, strict=True)
    ]


def column_names(data: Data) -> list[str]:
    """Return the column names of a table, or x0, x1, ... for other data."""
    return [str(column["name"]) for column in data.columns] or [f"x{index}" for index in range(data.num_values)]


def _escaped(texts: Sequence[str]) -> list[str]:
    known = {text: escape(text) for text in set(texts)}
    return [known[text] for text in texts]

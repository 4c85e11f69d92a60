"""CSV: rows below a header; of a table its conditions and columns, classes by name, as readers take them back."""

from __future__ import annotations

from typing import TextIO

import numpy as np

from kvae_serve.readers.csv_escape import shielded
from kvae_serve.row_stream import RowStream
from kvae_serve.sealed.manifest import Condition


def write(stream: TextIO, rows: RowStream) -> None:
    """Write the conditions of a table's or of a latent vector's rows, and the main arrays of the stream."""
    import csv

    data = rows.manifest.data
    writer = csv.writer(stream, lineterminator="\n")
    latent = not rows.data_names
    conditions = [each for each in rows.manifest.conditions if each.name in rows.arrays and (data.columns or latent)]
    header = [each.name for each in conditions]
    for name in rows.main:
        header += [f"{name}_{index}" for index in range(rows.arrays[name].shape[0])] if latent else _names(rows)
    writer.writerow(map(shielded, header))
    classes = [column.get("classes") for column in data.columns] if not latent else []
    for chunk in rows.chunks:
        columns = [condition_texts(each, chunk[each.name]) for each in conditions]
        for name in rows.main:
            values = chunk[name].reshape(len(chunk[name]), -1).T.tolist()
            columns += [_texts(column, classes[index] if classes else None) for index, column in enumerate(values)]
        writer.writerows(zip(*columns, strict=True))


def condition_texts(condition: Condition, values: np.ndarray) -> list[str]:
    """Return a condition's value of each row as a text: its class name, or its number, which reads back the same."""
    if condition.categorical:
        return [shielded(condition.classes[value]) for value in values.tolist()]
    # With no more digits than bring a float32 back.
    return [f"{float(str(value)):.9g}" for value in values.astype(np.float32)]


def _names(rows: RowStream) -> list[str]:
    data = rows.manifest.data
    return [str(column["name"]) for column in data.columns] or [f"x{index}" for index in range(data.num_values)]


def _texts(values: list[float], classes: list[str] | None) -> list[str]:
    if classes is None:
        return [f"{value:.9g}" for value in values]
    shown = [shielded(name) for name in classes]
    return [shown[min(max(round(value), 0), len(shown) - 1)] for value in values]

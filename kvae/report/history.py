"""Training history: the `history.csv` of a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from kvae_serve.errors import InputDataError, printable

NAME = "history.csv"
_MOST_BYTES = 2**24

History = dict[str, list[float]]
"""Column name to its values, one per epoch."""


def read_history(path: str | Path, needed: bool = True) -> History | None:
    r"""Read the columns of a history, NaN for missing values.

    Args:
        path: The `history.csv` that `kvae train` wrote.
        needed: Whether a missing file is an error; if not, the result is None.

    Raises:
        InputDataError: The file is missing although needed, or not a table of numbers.

    Example:
        >>> _ = Path("history.csv").write_text("epoch,elbo\n0,-90.5\n")
        >>> kvae.report.read_history("history.csv")
        {'epoch': [0.0], 'elbo': [-90.5]}
    """
    path = Path(path)
    if not needed and not path.is_file():
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES} bytes")
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        columns = {
            name: [math.nan if row[index] in ("", "NA") else float(row[index]) for row in rows]
            for index, name in enumerate(head)
        }
        if "epoch" not in columns:
            raise ValueError("the column epoch is missing")
    except (OSError, UnicodeDecodeError, ValueError, IndexError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputDataError(
            f"{printable(path)} is not the history of a run: {printable(reason)}. "
            f"Give the {NAME} that `kvae train` wrote."
        ) from error
    return columns

"""Settings of table columns in a TOML file: a table per column with `type`, `format`, `decimals` and `missing`.

`kvae train --dry-run -o columns.toml` writes the types that were found, and `--columns` reads the edited file.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvae_serve import cells, dates
from kvae_serve.errors import InputDataError, printable
from kvae_serve.numbers import is_integer
from kvae_serve.readers import Dataset
from kvae_serve.readers.column_types import MAX_DECIMALS, TYPES

_KEYS = ("type", "format", "decimals", "missing")
_MAX_BYTES = 2**24


def text(dataset: Dataset) -> str:
    """Return the settings of all columns of a table, as the reader chose them.

    Args:
        dataset: A table, for example of `kvae.data.load`.
    """
    lines = [
        f"# Columns of {printable(Path(str(dataset.source)).name, 60)}, for `kvae train --columns`.",
        f"# type is one of {', '.join(TYPES)}.",
        '# missing adds texts that stand for a missing value, such as ["-999"]; [] means that none do.',
    ]
    columns = (*dataset.columns, *dataset.outside, *dataset.condition_columns.values())
    by_name = {column["name"]: column for column in columns}
    for name in filter(None, dataset.order):  # Row numbers do not have a name.
        column = by_name[name]
        lines += ["", f"[{json.dumps(name, ensure_ascii=False)}]  # {cells.describe(column)}"]
        lines += [f"{key} = {json.dumps(column[key], ensure_ascii=False)}" for key in _KEYS if key in column]
    return "\n".join(lines) + "\n"


def read(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read the settings of columns by name.

    Raises:
        InputDataError: The file is missing or is not TOML, or a setting does not exist or has an invalid value.
    """
    source = printable(path, 200)
    try:
        if Path(path).stat().st_size > _MAX_BYTES:
            raise InputDataError(f"{source} has more than {_MAX_BYTES} bytes; expected the settings of columns.")
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror}. Write it with --dry-run -o FILE.") from error
    except ValueError as error:  # UnicodeDecodeError included
        raise InputDataError(f"{source} is not a valid TOML file: {printable(error, 100)}.") from error
    return check(settings, source)


def check(settings: Mapping[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """Check the settings of columns.

    Args:
        settings: Settings by name of the column.
        source: Name of the settings in messages.

    Raises:
        InputDataError: A setting does not exist or has an invalid value.
    """
    for name, column in settings.items():
        where = f"{source}, column {printable(name, 60)}"
        if not isinstance(column, Mapping):
            raise InputDataError(f"{where} is {printable(repr(column), 40)}; expected a table with {', '.join(_KEYS)}.")
        if unknown := [key for key in column if key not in _KEYS]:
            raise InputDataError(f"{where} has the setting {printable(unknown[0], 40)}; expected {', '.join(_KEYS)}.")
        missing = column.get("missing", "")
        valid = {
            "type": (column.get("type", "id") in TYPES, f"one of {', '.join(TYPES)}"),
            "format": (dates.is_format(column.get("format", "%Y")), "a date format such as %Y-%m-%d"),
            "decimals": (
                is_integer(column.get("decimals", 0)) and 0 <= column.get("decimals", 0) <= MAX_DECIMALS,
                f"an integer from 0 to {MAX_DECIMALS}",
            ),
            "missing": (
                isinstance(missing, str)
                or (isinstance(missing, list) and all(isinstance(each, str) for each in missing)),
                "a text or a list of texts",
            ),
        }
        for key, (is_valid, expected) in valid.items():
            if not is_valid:
                raise InputDataError(f"{where} has {key} {printable(repr(column[key]), 40)}; expected {expected}.")
    return {name: dict(column) for name, column in settings.items()}

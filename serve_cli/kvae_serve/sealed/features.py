"""Features of the rows of a table: the layout of the numbers that the networks of a table model see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Block(NamedTuple):
    """Features of one column: `first` to `end` for its value, and `flag` for whether it is missing, or None."""

    first: int
    end: int
    flag: int | None

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and end of the value, and of the flag if there is one."""
        return [(self.first, self.end), *([] if self.flag is None else [(self.flag, self.flag + 1)])]


def blocks(columns: Sequence[Sequence[Any]], missing: Sequence[str]) -> list[Block]:
    """Return the block of each column.

    Features are the numbers, then the classes of each column that has classes, and then a flag for each column that may
    be missing.

    Args:
        columns: Name and number of classes of each column, 0 for a number.
        missing: Names of the columns that may be missing.

    Example:
        >>> blocks([["age", 0], ["colour", 3]], ["age"])
        [Block(first=0, end=1, flag=4), Block(first=1, end=4, flag=None)]
    """
    number, start = 0, sum(not num for _, num in columns)
    flags = dict(zip(missing, range(start + sum(num for _, num in columns), 2**31), strict=False))
    result = []
    for name, num in columns:
        first = start if num else number
        start, number = start + num, number + (not num)
        result.append(Block(first, first + (num or 1), flags.get(name)))
    return result


def of_columns(columns: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the block of each column of a manifest."""
    sizes = []
    for column in columns:
        if column["kind"] == "categorical":
            sizes.append((column["name"], len(column["classes"])))
        else:
            sizes.append((column["name"], len(column["atoms"]) if column.get("form") == "classes" else 0))
    return blocks(sizes, [column["name"] for column in columns if column["kind"] == "numeric" and "missing" in column])


def num_features(columns: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of features of a row."""
    return max(end for block in of_columns(columns) for _, end in block.spans)

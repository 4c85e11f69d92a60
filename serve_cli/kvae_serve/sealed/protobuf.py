"""Protobuf reader with hard limits, written with the standard library only.

A table (field number to `Rule`) lists the fields that a message may contain; any other field is refused. The reader
does not recurse: the caller reads one message at a time. A file has a budget of fields, so that no file takes longer
than about a second. Within the budget the time grows with the number of fields; bytes of tensors are skipped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

VARINT, I64, LEN, I32 = 0, 1, 2, 5

MAX_FIELDS = 1_000_000
MAX_NAME_BYTES = 1_000

Span = tuple[int, int]
Fields = dict[int, list[Any]]

_HIGH_BYTES = bytes(range(0x80, 0x100))
_CHUNK = 2**20


class WalkError(ValueError):
    """The file contains something that a sealed graph must not contain. The message is a clause without a subject.

    `node` is the name of the node, if there is one.
    """

    def __init__(self, message: str, node: str = "") -> None:
        super().__init__(message)
        self.node = node


class Rule(NamedTuple):
    """Limits of one field of a message.

    Attributes:
        wires: Allowed wire types.
        most: Largest number of occurrences in one message.
        text: Largest number of bytes of a text, which must be UTF-8; 0 for other fields.
        plural: Name of several occurrences, for error messages.
    """

    wires: tuple[int, ...]
    most: int = 1
    text: int = 0
    plural: str = ""


ONE, PART, TEXT = Rule((VARINT,)), Rule((LEN,)), Rule((LEN,), text=MAX_NAME_BYTES)


def many(most: int, plural: str) -> Rule:
    """Return the rule of a repeated message."""
    return Rule((LEN,), most, plural=plural)


def names(most: int, plural: str) -> Rule:
    """Return the rule of a repeated text."""
    return Rule((LEN,), most, MAX_NAME_BYTES, plural)


def numbers(wire: int = VARINT) -> Rule:
    """Return the rule of a repeated number, packed or not. The budget of the file limits its count."""
    return Rule((wire, LEN), MAX_FIELDS, plural="numbers")


class Reader:
    """Bytes of one file, and the number of fields that may still be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = MAX_FIELDS

    def fields(
        self,
        span: Span,
        message: str,
        table: dict[int, Rule],
        refused: dict[tuple[str, int], str] | None = None,
        layout: list[tuple[int, Span]] | None = None,
    ) -> Fields:
        """Split a message into its fields.

        Args:
            span: Start and end of the message.
            message: Name of the message type.
            table: Allowed fields.
            refused: Names of some fields that are not allowed, for error messages.
            layout: A list to which number and span (with tag) of each field are appended.

        Returns:
            Field number to its values in order: an int for a varint, a str for a text, the pair (start, end) for other
            bytes. Numbers of fixed width that are not packed are None.

        Raises:
            WalkError: If a field is not in `table`, breaks its rule, or exceeds the message or the budget.
        """
        data, (position, end) = self.data, span
        fields: Fields = {}
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise WalkError(f"it has more than {MAX_FIELDS} fields")
            field_start = position
            tag, position = read_varint(data, position, end)
            number, wire = tag >> 3, tag & 7
            rule = table.get(number)
            if rule is None:
                name = (refused or {}).get((message, number), f"the unknown field {number} in a {message}")
                raise WalkError(f"it contains {name}")
            if wire not in rule.wires:
                raise WalkError(f"field {number} of a {message} has the wrong wire type")
            values = fields.setdefault(number, [])
            if len(values) >= rule.most:
                if rule.most == 1:
                    raise WalkError(f"field {number} of a {message} appears twice")
                raise WalkError(f"a {message} has more than {rule.most} {rule.plural}")
            value: int | str | Span | None = None
            if wire == VARINT:
                value, position = read_varint(data, position, end)
            elif wire == LEN:
                size, start = read_varint(data, position, end)
                position = start + size
                value = (start, position)
            else:
                position += 4 if wire == I32 else 8
            if position > end:
                raise WalkError(f"a {message} is truncated")
            values.append(self._text(start, position, rule.text) if rule.text else value)
            if layout is not None:
                layout.append((number, (field_start, position)))
        return fields

    def _text(self, start: int, end: int, limit: int) -> str:
        if end - start > limit:
            raise WalkError(f"a name has {end - start} bytes, more than {limit}")
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError as error:
            raise WalkError("a name is not UTF-8") from error

    def numbers(self, parts: list[Any], limit: int) -> list[int] | None:
        """Return a repeated varint field as a list, packed or not, or None if it has more than `limit` elements."""
        numbers: list[int] = []
        for part in parts:
            if isinstance(part, tuple):
                position, end = part
                while position < end and len(numbers) <= limit:
                    number, position = read_varint(self.data, position, end)
                    numbers.append(number)
            else:
                numbers.append(part)
            if len(numbers) > limit:
                return None
        return numbers

    def count(self, parts: list[Any], size: int) -> int:
        """Count the elements of a repeated number, packed or not, `size` bytes each; 0 for varints."""
        total = 0
        for part in parts:
            if not isinstance(part, tuple):
                total += 1
            elif size:
                if (part[1] - part[0]) % size:
                    raise WalkError("a packed list of numbers is truncated")
                total += (part[1] - part[0]) // size
            else:
                for start in range(part[0], part[1], _CHUNK):  # The last byte of each varint is below 0x80.
                    total += len(self.data[start : min(start + _CHUNK, part[1])].translate(None, _HIGH_BYTES))
        return total


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number at `position` and the position after it."""
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise WalkError("a number is truncated or too long")


def write_varint(number: int) -> bytes:
    """Return a number of at least 0 as a varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def write_field(number: int, *parts: bytes | memoryview) -> bytes:
    """Return the concatenated parts as one length-delimited field."""
    return b"".join([write_varint(number << 3 | LEN), write_varint(sum(map(len, parts))), *parts])

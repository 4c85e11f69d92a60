"""Writer of protobuf fields, for models that ONNX tools cannot write."""

from __future__ import annotations

import hashlib
import json
import struct

FLOAT, INT64 = 1, 7


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a varint field for an int, a length-delimited field otherwise."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, dims: list[int], raw: bytes = b"", kind: int = FLOAT, more: bytes = b"") -> bytes:
    sizes = b"".join(field(1, dim) for dim in dims)
    return sizes + field(2, kind) + field(8, name) + (field(9, raw) if raw else b"") + more


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def int64s(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def node(op: str, inputs: list[str], outputs: list[str], *attributes: bytes, domain: str = "") -> bytes:
    names = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    given = b"".join(field(5, attribute) for attribute in attributes)
    return names + field(4, op) + given + (field(7, domain) if domain else b"")


def int_attribute(name: str, value: int) -> bytes:
    return field(1, name) + field(3, value) + field(20, 2)


def tensor_attribute(name: str, value: bytes) -> bytes:
    return field(1, name) + field(5, value) + field(20, 4)


def value(name: str, shape: list[int | str], kind: int = FLOAT) -> bytes:
    dims = b"".join(field(1, field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def graph(
    nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], tensors: list[bytes] | None = None, more: bytes = b""
) -> bytes:
    parts = [field(1, each) for each in nodes] + [field(2, "g")] + [field(5, each) for each in tensors or []]
    return b"".join([*parts, *(field(11, each) for each in inputs), *(field(12, each) for each in outputs)]) + more


def model(
    graph: bytes, ir_version: int = 8, opsets: tuple[tuple[str, int], ...] = (("", 18),), more: bytes = b""
) -> bytes:
    imports = b"".join(field(8, field(1, domain) + field(2, version)) for domain, version in opsets)
    return field(1, ir_version) + field(7, graph) + imports + more


def seal(model: bytes, manifest: dict | str | bytes) -> bytes:
    """Seal any bytes as docs/format.md specifies."""
    text = json.dumps(manifest) if isinstance(manifest, dict) else manifest
    sealed = model + field(14, field(1, "kvae") + field(2, text))
    return sealed + field(14, field(1, "kvae.sha256") + field(2, hashlib.sha256(sealed).hexdigest()))

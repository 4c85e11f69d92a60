"""Seeded mutations of a sealed graph, and a check of the reader and ONNX Runtime with them.

There are six kinds: flipped bits, changed bytes, chunks removed, inserted or repeated, protobuf fields edited with
corrected lengths, manifest values edited, and changes under the old seal. All but the last are sealed again, because
anyone can seal a file. The module does not use pytest, so that a small process can fork its workers.
"""

from __future__ import annotations

import copy
import json
import random
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from kvae_serve.cli.commands import info
from kvae_serve.errors import KvaeError, RequestError
from kvae_serve.inference import likelihoods
from kvae_serve.runtime import conditions
from kvae_serve.runtime.session import Session
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed import golden, noise, signature
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.sealed.protobuf import read_varint
from support import wire

INTERESTING = [0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, -(2**63), -1, -2]
# Fields that are messages, for the trees that field edits use.
MESSAGES = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor"},
    "value": {2: "type"},
    "type": {1: "tensor type"},
    "tensor type": {2: "shape"},
    "shape": {1: "dimension"},
}
LARGE = 2_000
"""Size in bytes above which a field counts as a weight, whose bits do not affect the reader."""


class Sealed:
    """Parts of a sealed file: the bare model, its fields as a tree, and its manifest."""

    def __init__(self, path: Path) -> None:
        self.whole = path.read_bytes()
        start = self.whole.rindex(b"\x0a\x04kvae\x12")
        self.bare = self.whole[: self.whole.rindex(b"\x72", 0, start)]
        self.text = onnx_file.check(self.whole, path).manifest_json
        self.tree = _tree(self.bare, "model")
        self.structure = list(_small(self.bare, "model", 0))


def _tree(data: bytes, message: str) -> list[list[Any]]:
    """Return the fields of a message as lists [number, wire type, value]; nested messages are such lists too."""
    fields: list[list[Any]] = []
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position, len(data))
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = read_varint(data, position, len(data))
            fields.append([number, 0, value])
        elif kind == 2:
            size, position = read_varint(data, position, len(data))
            body = data[position : position + size]
            inner = MESSAGES.get(message, {}).get(number)
            fields.append([number, 2, _tree(body, inner) if inner else body])
            position += size
        else:
            size = 4 if kind == 5 else 8
            fields.append([number, kind, data[position : position + size]])
            position += size
    return fields


def _bytes(fields: list[list[Any]]) -> bytes:
    parts = []
    for number, kind, value in fields:
        if kind == 0:
            parts.append(wire.varint(number << 3) + wire.varint(value))
        elif kind == 2:
            body = _bytes(value) if isinstance(value, list) else value
            parts += [wire.varint(number << 3 | 2) + wire.varint(len(body)), body]
        else:
            parts += [wire.varint(number << 3 | kind), value]
    return b"".join(parts)


def _small(data: bytes, message: str, offset: int):
    """Yield the positions of the bytes that are not weights."""
    position = 0
    while position < len(data):
        start = position
        tag, position = read_varint(data, position, len(data))
        if tag & 7 == 0:
            _, position = read_varint(data, position, len(data))
        elif tag & 7 == 2:
            size, position = read_varint(data, position, len(data))
            inner = MESSAGES.get(message, {}).get(tag >> 3)
            yield from range(offset + start, offset + position)
            if inner:
                yield from _small(data[position : position + size], inner, offset + position)
            elif size <= LARGE:
                yield from range(offset + position, offset + position + size)
            position += size
            continue
        else:
            position += 4 if tag & 7 == 5 else 8
        yield from range(offset + start, offset + position)


def mutate(sealed: Sealed, chance: random.Random) -> tuple[bytes, bool]:
    """Return one mutation, and whether it was sealed again. Otherwise it must be refused."""
    kind = chance.choice(["bits", "bytes", "pieces", "fields", "fields", "fields", "manifest", "manifest", "unsealed"])
    if kind == "unsealed":
        data = bytearray(sealed.whole)
        if chance.random() < 0.3:
            return bytes(data[: chance.randrange(len(data))]), False
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data), False
    model, text = sealed.bare, sealed.text
    if kind == "manifest":
        text = json.dumps(_edit_json(json.loads(sealed.text), chance))
    elif kind == "fields":
        tree = _copy(sealed.tree)
        for _ in range(chance.randint(1, 3)):
            _edit_fields(tree, chance)
        model = _bytes(tree)
    else:
        data = bytearray(model)
        for _ in range(chance.randint(1, 4)):
            place = chance.choice(sealed.structure) if chance.random() < 0.9 else chance.randrange(len(data))
            if place >= len(data):
                continue
            if kind == "bits":
                data[place] ^= 1 << chance.randrange(8)
            elif kind == "bytes":
                data[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
            else:
                size = chance.choice([1, 2, 8, 50, 500])
                piece = bytes(data[place : place + size])
                data[place : place + size] = chance.choice([b"", piece * 2, chance.randbytes(size)])
        model = bytes(data)
    return wire.seal(model, text), True


def _copy(fields: list[list[Any]]) -> list[list[Any]]:
    return [[number, kind, _copy(value) if isinstance(value, list) else value] for number, kind, value in fields]


def _edit_fields(tree: list[list[Any]], chance: random.Random) -> None:
    fields = tree
    while True:  # Descend at random.
        inner = [value for _, _, value in fields if isinstance(value, list) and value]
        if not inner or chance.random() < 0.15:
            break
        fields = chance.choice(inner)
    if not fields:
        return
    field = chance.choice(fields)
    action = chance.choice(["value", "value", "value", "number", "remove", "twice", "swap", "add"])
    if action == "value" and field[1] == 0:
        field[2] = chance.choice(INTERESTING)
    elif action == "value" and isinstance(field[2], bytes):
        body = field[2]
        field[2] = chance.choice(
            [b"", body[:-1], body * 2 if len(body) < LARGE else body[:8], body[::-1], chance.randbytes(len(body) % 64)]
        )
    elif action == "number":
        field[0] = chance.randint(1, 26)
    elif action == "remove":
        fields.remove(field)
    elif action == "twice":
        fields.append(field)
    elif action == "swap":
        other = chance.choice(fields)
        field[2], other[2], field[1], other[1] = other[2], field[2], other[1], field[1]
    else:
        fields.append([chance.randint(1, 26), 0, chance.choice(INTERESTING)])


VALUES = [None, True, 0, -1, 1, 3, 2**40, 1.5, -1e300, "", "x", "\u202e", [], [1], {}, {"a": 1}, "0" * 64, ["a", "b"]]


def _edit_json(document: Any, chance: random.Random) -> Any:
    """Return the document with one to three values changed, removed or added, somewhere in it."""
    for _ in range(chance.randint(1, 3)):
        node = document
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            inner = [key for key in keys if isinstance(node[key], dict | list)]
            if not inner or chance.random() < 0.4:
                break
            node = node[chance.choice(inner)]
        if not keys:
            continue
        key, action = chance.choice(keys), chance.randrange(5)
        if action == 0:
            del node[key]
        elif action == 1 and isinstance(node, dict):
            node[chance.choice(["x", "name", "kind", "num", "probabilities"])] = copy.deepcopy(
                chance.choice(VALUES)
            )  # Later changes must not affect VALUES.
        elif action == 2 and isinstance(node, list):
            node += node[: chance.randint(0, 100)]
        else:
            node[key] = copy.deepcopy(chance.choice([*VALUES, chance.choice(INTERESTING)]))
    return document


def judge(data: bytes, sealed: bool) -> str:
    """Read a file and run it if the reader accepts it; return "refused", "failed" (in ONNX Runtime) or "ran".

    Raises:
        AssertionError and others: Violations that the tests search for. A KvaeError of code 5 is not one.
    """
    try:
        file = onnx_file.check(data, "m.onnx")
        manifest = Manifest.parse(file.manifest_json, "m.onnx")
        signature.check(manifest, file.inputs, file.outputs, "m.onnx")
    except KvaeError as error:
        _check_error(error, 5)
        return "refused"
    assert sealed, "a file that was changed after it was sealed was accepted"
    try:
        session = Session(file, manifest)
        outputs = session.run(golden.golden_inputs(manifest, session.inputs, seed=0, num=2))
        golden.compare(manifest, outputs)
        _use(manifest, outputs)
    except RequestError as error:  # A likelihood without its outputs, or a condition out of range.
        _check_error(error, 2)
        return "failed"
    except KvaeError as error:
        _check_error(error, 5)
        return "failed"
    return "ran"


def _use(manifest: Manifest, outputs: dict[str, np.ndarray]) -> None:
    """Use a manifest like the commands do: describe it, and draw from its likelihood."""
    assert all(isinstance(value, str) for _, value in info._lines(manifest))
    json.dumps(manifest.to_dict(), allow_nan=False)
    if manifest.graph == "decoder":
        likelihood = likelihoods.get_likelihood(SimpleNamespace(manifest=manifest, run=_no_columns))
        words = noise.words(0, noise.STREAM_DRAW, 0, 2, likelihood.num_words(manifest.data))
        likelihood.draw(outputs, words, manifest.data)
    if manifest.graph == "encoder":
        conditions.combinations(manifest, {each.name: [0] for each in manifest.conditions})


def _no_columns(graph: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return vectors for `columns.onnx`, which a mutated decoder does not have."""
    return dict.fromkeys(("embedding", "effect"), np.ones((len(feeds["feature"]), 4), np.float32))


def _check_error(error: KvaeError, code: int) -> None:
    assert error.exit_code == code, repr(error)
    text = str(error)
    assert text.isprintable(), repr(error)
    assert len(text) <= 200, text


def run(path: str, seed: int, start: int, num: int, progress: str = "") -> dict[str, int]:
    """Judge mutations of a file; return the number of each result.

    Mutation i of a seed does not depend on the others. Its number is written to `progress` first, so that a mutation
    that crashes the process is known. The process ends if one takes more than five seconds of processor time.
    """
    sealed = Sealed(Path(path))
    counts = {"refused": 0, "failed": 0, "ran": 0}
    for index in range(start, start + num):
        if progress:
            Path(progress).write_text(str(index))
        signal.setitimer(signal.ITIMER_PROF, 5)
        data, anew = mutate(sealed, random.Random(f"{seed} {index}"))
        try:
            counts[judge(data, anew)] += 1
        except Exception as error:
            raise AssertionError(f"mutation {index} of seed {seed} of {path}: {error!r}") from error
    signal.setitimer(signal.ITIMER_PROF, 0)
    return counts

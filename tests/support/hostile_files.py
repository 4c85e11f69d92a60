"""Catalogue of hostile and broken inputs: files, command line and expected exit code of each.

It covers the published attacks on ONNX, protobuf, JSON, zip and image readers, and common kinds of damage.
tests/kvae_serve/sealed/test_hostile.py runs each input in a separate process with limits;
`python tests/kvae_serve/sealed/test_hostile.py` prints time and memory of each group.
"""

from __future__ import annotations

import json
import os
import random
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from support import wire

DATA = Path(__file__).parents[1] / "data"
GOOD = (DATA / "conditional" / "decoder.onnx").read_bytes()
# The last two fields are the manifest and the seal.
BARE = GOOD[: GOOD.rindex(b"\x72", 0, GOOD.index(b"\x0a\x04kvae\x12"))]
MANIFEST = json.loads(GOOD[GOOD.index(b'{"') : -81])

Z, X = wire.value("z", ["batch", 3]), wire.value("x_mean", ["batch", 3])
SMALL = {
    **MANIFEST,
    "graph": "decoder",
    "golden": None,
    "conditions": [],
    "kind": "vae",
    "data": {"kind": "vector", "shape": [3], "range": None},
    "likelihood": {"name": "gaussian"},
}


class Case(NamedTuple):
    """One input: `prepare` writes it into an empty folder, where `kvae` runs with `arguments` and exits with `code`.

    If `answers` is true, errors are on stdout too, as lines of JSON. The message contains `words`.
    """

    prepare: Callable[[Path], object]
    code: int
    arguments: tuple[str, ...]
    limits: dict[str, Any] = {}  # noqa: RUF012 - never changed; what `forked.Server.run` takes
    answers: bool = False
    words: str = ""


SAMPLE = ("sample", "-m", "m.onnx", "-n", "1", "-o", "out.npy")
OUTPUT = "out.npy"


def holds(data: bytes | Callable[[], bytes], code: int = 5, arguments: tuple[str, ...] = SAMPLE) -> Case:
    """Return a case with a file m.onnx of these bytes."""

    def prepare(folder: Path) -> None:
        (folder / "m.onnx").write_bytes(data() if callable(data) else data)

    return Case(prepare, code, arguments)


def graph(nodes: list[bytes], tensors: list[bytes] = (), manifest: dict[str, Any] = SMALL, more: bytes = b"") -> bytes:  # type: ignore[assignment]
    """Return a sealed decoder z [batch, 3] -> x_mean [batch, 3] of these nodes."""
    return wire.seal(wire.model(wire.graph(nodes, [Z], [X], list(tensors), more)), manifest)


SIGMOID = wire.node("Sigmoid", ["z"], ["x_mean"])


def manifest(text: bytes | str | None = None, code: int = 5, **changes: Any) -> Case:
    """Return a case with a valid graph and this manifest, or the valid manifest with changes."""
    changed = {key: value for key, value in {**MANIFEST, **changes}.items() if value is not ...}
    return holds(wire.seal(BARE, changed if text is None else text), code, (*SAMPLE, "--label", "cat"))


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "m.onnx")


def _socket(folder: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)  # The name of a socket has at most a hundred characters.
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("m.onnx")
    finally:
        os.fchdir(here)
        os.close(here)


def _link(target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "m.onnx").symlink_to(target)


def _linked_folder(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "decoder.onnx").write_bytes(GOOD)
    (folder / "m").symlink_to("real")


def _folder_of(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "m").mkdir()
        make(folder / "m" / "decoder.onnx")

    return prepare


def _nothing(folder: Path) -> None:
    pass


def _at(model: str, prepare: Callable[[Path], object] = _nothing, code: int = 5, *more: str) -> Case:
    return Case(prepare, code, ("sample", "-m", model, "-n", "1", "-o", OUTPUT, *more))


PATHS = {
    "missing": _at("m.onnx"),
    "a folder where a file belongs": _at("m.onnx", lambda folder: (folder / "m.onnx").mkdir()),
    "an empty folder": _at("./m", lambda folder: (folder / "m").mkdir()),
    "a FIFO": _at("m.onnx", _fifo),
    "a FIFO in a folder": _at("./m", _folder_of(os.mkfifo)),
    "a folder in a folder": _at("./m", _folder_of(Path.mkdir)),
    "a link to a device in a folder": _at("./m", _folder_of(lambda path: path.symlink_to("/dev/zero"))),
    "a socket": _at("m.onnx", _socket),
    "a device": _at("/dev/zero"),
    "a terminal's device": _at("/dev/ptmx"),
    "standard input": _at("/dev/stdin"),
    "a file of /proc": _at("/proc/self/status"),
    "a file of /proc as long as memory": _at("/proc/kcore" if Path("/proc/kcore").exists() else "/dev/mem"),
    "a loop of links": _at("m.onnx", _link("m.onnx")),
    "a dangling link": _at("m.onnx", _link("nothing")),
    "a line end and an escape in its name": _at("a\n\x1b[31mb.onnx"),
    "bytes that are no UTF-8 in its name": _at(os.fsdecode(b"\xff\xfe.onnx")),
    "a name of 5000 characters": _at("x" * 5000),
    "a NUL in an URL": _at("http://example.com/m.onnx"),
    "an empty name": _at(""),
    "emoji in its name": _at(
        "\U0001f600.onnx", lambda f: (f / "\U0001f600.onnx").write_bytes(GOOD), 0, "--label", "cat"
    ),
}

LINKS = {
    "to a file of secrets": _at("m.onnx", _link("/etc/passwd")),
    "to the right bytes": _at(
        "m.onnx",
        lambda f: ((f / "real").write_bytes(GOOD), (f / "m.onnx").symlink_to("real")),
        0,
        "--label",
        "cat",
    ),
    "hard, to the right bytes": _at(
        "m.onnx",
        lambda f: ((f / "real").write_bytes(GOOD), os.link(f / "real", f / "m.onnx")),
        0,
        "--label",
        "cat",
    ),
    "of a folder": _at("./m", _linked_folder, 0, "--label", "cat"),
}

MANIFEST_TEXTS = {
    "empty": manifest(""),
    "no JSON": manifest("hello"),
    "UTF-16": manifest(json.dumps(MANIFEST).encode("utf-16")),
    "a byte order mark": manifest("\ufeff" + json.dumps(MANIFEST)),
    "a list": manifest("[]"),
    "cut short": manifest(json.dumps(MANIFEST)[:-9]),
    "a key twice": manifest('{"format": 1, ' + json.dumps(MANIFEST)[1:]),
    "NaN": manifest(json.dumps(MANIFEST)[:-1] + ', "a": NaN}'),
    "an infinite number": manifest(json.dumps(MANIFEST)[:-1] + ', "a": 1e400}'),
    "a number of 5000 digits": manifest(json.dumps(MANIFEST)[:-1] + f', "a": {"9" * 5000}}}'),
    "a format of 4000 digits": manifest(json.dumps({**MANIFEST, "format": 10**4000})),
    "100,000 lists in each other": manifest("[" * 100_000),
    "100,000 objects in each other": manifest('{"a":' * 100_000),
    "100,000 lists as a value": manifest(json.dumps(MANIFEST)[:-1] + ', "a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a mebibyte of spaces": manifest(" " * 2**20),
    "16 MiB of spaces": manifest(" " * 2**24),
    "invalid UTF-8": manifest(b'{"name": "\xff"}'),
    "half a pair": manifest(json.dumps(MANIFEST)[:-1] + ', "a": "\\ud800"}'),
    "an unknown key": manifest(code=0, future=[1, {"a": None}]),
}

MANIFEST_MEANINGS = {
    "a newer format": manifest(format=99),
    "no format": manifest(format=...),
    "a format that is text": manifest(format="1"),
    "no graph": manifest(graph=...),
    "another graph": manifest(graph="encoder"),
    "an unknown graph": manifest(graph="../../etc/passwd"),
    "no latent dimensions": manifest(latent_dim=0),
    "-1 latent dimensions": manifest(latent_dim=-1),
    "1.5 latent dimensions": manifest(latent_dim=1.5),
    "2**40 latent dimensions": manifest(latent_dim=2**40),
    "other latent dimensions than the graph": manifest(latent_dim=4),
    "no classes": manifest(conditions=[{"name": "label", "kind": "categorical", "classes": []}]),
    "a class twice": manifest(conditions=[{"name": "label", "kind": "categorical", "classes": ["a", "a"]}]),
    "a class with an escape sequence": manifest(
        conditions=[{"name": "label", "kind": "categorical", "classes": ["cat", "\x1b]0;x\x07"]}]
    ),
    "a condition that the graph does not take": manifest(
        conditions=[{"name": "other", "kind": "categorical", "classes": ["cat"]}]
    ),
    "no conditions": manifest(conditions=[]),
    "a thousand and one conditions": manifest(
        conditions=[{"name": f"c{index}", "kind": "continuous", "range": None} for index in range(1001)]
    ),
    "more classes than the graph has": manifest(
        conditions=[{"name": "label", "kind": "categorical", "classes": ["cat", *map(str, range(10, 20))]}],
        code=0,  # cat is class 0; classes beyond the rows of the graph fail on use
    ),
    "a shape of five axes": manifest(data={"kind": "image", "shape": [1, 2, 3, 4, 5], "range": [0, 255]}),
    "a shape of 2**60 values": manifest(data={"kind": "image", "shape": [2**20, 2**20, 2**20], "range": [0, 255]}),
    "another shape than the graph": manifest(data={"kind": "image", "shape": [9, 9, 1], "range": [0, 255]}),
    "a range upside down": manifest(data={"kind": "image", "shape": [8, 6, 1], "range": [255, 0]}),
    "a short id": manifest(model_id="abc"),
    "an id in upper case": manifest(model_id="A" * 64),
    "a name that climbs": manifest(name="../../evil", code=0),
    **{
        f"a name of 200 {unicodedata.name(mark)}": manifest(name=mark * 200)
        for mark in "\xad\u061c\u200b\u200e\u200f\u2060\ufeff"
    },
    "a thousand names of joiners": manifest(
        conditions=[
            {"name": "\u200d" * (index % 200 + 1) + str(index), "kind": "continuous", "range": None}
            for index in range(1000)
        ]
    ),
    "quantiles of 20 million draws": manifest(
        score={"num_samples": 20_000_000, "seed": 0, "examples": 9, "quantiles": {"0.5": -1.0}}
    ),
    "a name that is no text": manifest(name=["mnist"]),
    "an unknown likelihood": manifest(likelihood={"name": "__import__"}),
    "an unknown prior": manifest(prior={"name": "pickle"}),
    "a mixture without weights": manifest(prior={"name": "vamp", "log_weights": []}),
    "golden inputs of gigabytes": manifest(
        data={"kind": "image", "shape": [4096, 4096, 1], "range": [0, 255]},
        golden={"seed": 0, "num": 64, "outputs": {}},
    ),
}


def _table(first: dict[str, Any] | None = None, **likelihood: Any) -> Case:
    """Return a case with a table of numbers and a class, sampled by this likelihood, with keys of its first number."""
    columns = [
        {"name": "a", "kind": "numeric", **(first or {})},
        {"name": "b", "kind": "categorical", "classes": ["x", "y"]},
    ]
    columns += [{"name": "c", "kind": "numeric"}]
    table = {**SMALL, "data": {"kind": "table", "shape": [3], "range": None, "columns": columns}}
    return holds(graph([SIGMOID], manifest=table | {"likelihood": likelihood}), 5, (*SAMPLE, "--draw"))


FACTS = {
    "no probabilities": _table(name="mixed"),
    "probabilities that are no list": _table(name="mixed", probabilities="abc"),
    "probabilities of numbers": _table(name="mixed", probabilities=[1, 2, 3]),
    "too few probabilities": _table(name="mixed", probabilities=[None]),
    "too many probabilities": _table(name="mixed", probabilities=[None] * 99),
    "probabilities of a number": _table(name="mixed", probabilities=["p", "p", None]),
    "an output that is not there": _table(name="mixed", probabilities=[None, "no", None]),
    "lists in lists": _table(name="mixed", probabilities=[None, ["p"], None]),
    "scores that are not there": _table(
        {"form": "quantile", "knots": [0, 1], "scores": [-1, 1]}, name="mixed", probabilities=[None, "p", None]
    ),
    "atoms without probabilities": _table(
        {"form": "classes", "atoms": [0, 1]}, name="mixed", probabilities=[None, "p", None]
    ),
    "a mask that is not there": _table(name="mixed", probabilities=[None, "x_mean", None], missing={"no": 1}),
    "knots of a megabyte": _table({"form": "quantile", "knots": [0.5] * 10**5, "scores": [1] * 10**5}, name="mixed"),
    "a likelihood without its outputs": _table(name="discretized_logistic"),
    "a categorical without its output": _table(name="categorical"),
}

RANDOM = random.Random(0)
OTHER_BYTES = {
    "nothing": holds(b""),
    "one byte": holds(b"\x08"),
    **{f"the first {percent} %": holds(GOOD[: len(GOOD) * percent // 100]) for percent in (1, 10, 50, 99)},
    "random bytes": holds(RANDOM.randbytes(5000)),
    "text": holds(b"hello\n" * 999),
    "escape sequences": holds(b"\x1b[2J\x1b]0;owned\x07" * 99),
    "a zip, as .keras is": holds(b"PK\x03\x04" + bytes(5000)),
    "gzip": holds(b"\x1f\x8b\x08" + bytes(5000)),
    "a pickle": holds(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR." + bytes(99)),
    "HDF5": holds(b"\x89HDF\r\n\x1a\n" + bytes(999)),
    "a pointer of Git LFS": holds(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n" + bytes(90)),
    "one bit flipped": holds(GOOD[:900] + bytes([GOOD[900] ^ 4]) + GOOD[901:]),
    "a byte more": holds(GOOD + b"\0"),
    "a seal over other bytes": holds(GOOD[:5] + b"\x09" + GOOD[6:]),
    "no seal": holds(GOOD[:-81]),
    "two seals": holds(GOOD + GOOD[-81:]),
    "129 MiB": holds(lambda: bytes(129 * 2**20)),
    "128 MiB of zeros": holds(lambda: bytes(128 * 2**20)),
}


def sealed(model: bytes | Callable[[], bytes]) -> Case:
    return holds(lambda: wire.seal(model() if callable(model) else model, SMALL))


def body(nodes: list[bytes] | None = None, tensors: list[bytes] = (), more: bytes = b"", **rest: Any) -> bytes:  # type: ignore[assignment]
    return wire.model(wire.graph([SIGMOID] if nodes is None else nodes, [Z], [X], list(tensors), more), **rest)


def with_node(op: str, *attributes: bytes, inputs: tuple[str, ...] = ("z",)) -> bytes:
    return body([wire.node(op, list(inputs), ["x_mean"], *attributes)])


INNER = wire.graph([SIGMOID], [Z], [X])


STRUCTURE = {
    "no graph": sealed(wire.field(1, 8) + wire.field(8, wire.field(2, 18))),
    "no nodes": sealed(body([])),
    "a cycle": sealed(body([wire.node("Add", ["z", "b"], ["a"]), wire.node("Add", ["a", "a"], ["b"]), SIGMOID])),
    "a name twice": sealed(body([SIGMOID, SIGMOID])),
    "an unknown operator": sealed(with_node("Foo")),
    "an operator of another domain": sealed(body([wire.node("Sigmoid", ["z"], ["x_mean"], domain="evil")])),
    "opset 0": sealed(body(opsets=(("", 0),))),
    "opset 999": sealed(body(opsets=(("", 999),))),
    "IR 99": sealed(body(ir_version=99)),
    "two operator sets": sealed(body(opsets=(("", 18), ("", 17)))),
    "another input": sealed(
        wire.model(wire.graph([wire.node("Sigmoid", ["q"], ["x_mean"])], [wire.value("q", ["batch", 3])], [X]))
    ),
    "an input of float64": sealed(wire.model(wire.graph([SIGMOID], [wire.value("z", ["batch", 3], 11)], [X]))),
    "an input of float16": sealed(wire.model(wire.graph([SIGMOID], [wire.value("z", ["batch", 3], 10)], [X]))),
    "an input of int8": sealed(wire.model(wire.graph([SIGMOID], [wire.value("z", ["batch", 3], 3)], [X]))),
    "an input of one axis": sealed(wire.model(wire.graph([SIGMOID], [wire.value("z", ["batch"])], [X]))),
    "an input of fixed batch": sealed(wire.model(wire.graph([SIGMOID], [wire.value("z", [1, 3])], [X]))),
    "an invalid name": sealed(body([SIGMOID + wire.field(3, b"\xff\xfe")])),
    "a name with escapes": sealed(with_node("\x1b[31mFoo\r\n")),
    "an attribute with escapes": sealed(
        with_node("Softmax", wire.field(1, "\x1b[31m\n") + wire.field(3, 1) + wire.field(20, 7))
    ),
    "wrong inner sizes": sealed(with_node("MatMul", inputs=("z", "z"))),
    "a shape that lies": sealed(body([wire.node("Concat", ["z", "z"], ["x_mean"], wire.int_attribute("axis", 1))])),
    "an encoder as a decoder": holds((DATA / "conditional" / "encoder.onnx").read_bytes()),
    "NaN": sealed(body([wire.node("Sub", ["z", "z"], ["o"]), wire.node("Log", ["o"], ["x_mean"])])),
    "NaN weights": sealed(
        body([wire.node("Mul", ["z", "w"], ["x_mean"])], [wire.tensor("w", [1], wire.floats(float("nan")))])
    ),
    "infinity": sealed(body([wire.node("Sub", ["z", "z"], ["o"]), wire.node("Reciprocal", ["o"], ["x_mean"])])),
}


def with_tensor(dims: list[int], more: bytes = b"", raw: bytes = b"") -> bytes:
    return body([wire.node("Add", ["z", "w"], ["x_mean"])], [wire.tensor("w", dims, raw, more=more)])


def _external(**entries: str) -> Case:
    more = b"".join(wire.field(13, wire.field(1, key) + wire.field(2, value)) for key, value in entries.items())
    return sealed(with_tensor([2], more + wire.field(14, 1)))


EXTERNAL = {
    "above the folder": _external(location="../canary"),
    "above the folder in disguise": _external(location="a/../../canary"),
    "absolute": _external(location="/etc/passwd"),
    "beside the model": _external(location="canary", offset="0", length="8"),
    "huge offset": _external(location="canary", offset=str(2**63), length="-1"),
    "an unknown key": _external(location="canary", __class__="x"),
    "an address in memory": _external(location="*/_ORT_MEM_ADDR_/*", offset="4096", length="8"),
    "location alone": sealed(with_tensor([2], wire.field(14, 1))),
    "in an attribute": sealed(
        with_node(
            "Constant",
            wire.field(1, "value") + wire.field(5, wire.tensor("w", [2], more=wire.field(13, b""))) + wire.field(20, 4),
        )
    ),
}

if os.geteuid() != 0:
    PATHS["unreadable"] = _at("m.onnx", lambda folder: ((f := folder / "m.onnx").write_bytes(GOOD), f.chmod(0)))

MODELS: dict[str, dict[str, Case]] = {
    "path": PATHS,
    "link": LINKS,
    "text of the manifest": MANIFEST_TEXTS,
    "meaning of the manifest": MANIFEST_MEANINGS,
    "facts of the likelihood": FACTS,
    "other bytes": OTHER_BYTES,
    "structure": STRUCTURE,
    "external data": EXTERNAL,
}

"""Sealed files: valid files are read; damaged files and files with more than arithmetic are refused."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from kvae_serve.errors import ModelFileError
from kvae_serve.runtime import locate
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed import validate
from kvae_serve.sealed.allowed_ops import ALLOWED_OPS
from kvae_serve.sealed.manifest import Manifest
from support import make_tiny_models, wire
from support.memory_bombs import ints, text

Z, X = wire.value("z", ["batch", 3]), wire.value("x_mean", ["batch", 3])
NODES = [wire.node("Sigmoid", ["z"], ["x_mean"])]


def model(nodes=NODES, inputs=(Z,), outputs=(X,), tensors=(), more=b"", **rest) -> bytes:
    return wire.model(wire.graph(list(nodes), list(inputs), list(outputs), list(tensors), more), **rest)


def read(tmp_path, data: bytes, **rest) -> onnx_file.SealedGraph:
    path = tmp_path / "file.onnx"
    path.write_bytes(data)
    return onnx_file.read(path, **rest)


def test_seal_appends_manifest_and_digest(tmp_path):
    bare, manifest = model(), {"b": [1, 2.5], "a": "é"}
    sealed = onnx_file.seal(bare, manifest)
    text = b'{"a":"\xc3\xa9","b":[1,2.5]}'
    assert sealed[: len(bare)] == bare
    assert sealed[len(bare) : -81] == bytes([0x72, len(text) + 8, 0x0A, 4]) + b"kvae" + bytes([0x12, len(text)]) + text
    digest = hashlib.sha256(sealed[:-81]).hexdigest().encode()
    assert sealed[-81:] == b"\x72\x4f\x0a\x0bkvae.sha256\x12\x40" + digest
    assert sealed == wire.seal(bare, text)
    assert read(tmp_path, sealed).manifest_json == text.decode()


def test_seal_refuses_metadata_and_nan():
    with pytest.raises(ValueError, match="metadata_props"):
        onnx_file.seal(onnx_file.seal(model(), {}), {})
    with pytest.raises(ValueError, match="JSON"):
        onnx_file.seal(model(), {"a": float("nan")})


def test_read_returns_inputs_outputs_and_parameters(tiny):
    graph = onnx_file.read(tiny / "conditional" / "decoder.onnx")
    assert graph.inputs == {"z": ("float32", ("batch", 3)), "label": ("int64", ("batch",))}
    assert graph.outputs == {"x_mean": ("float32", ("batch", 8, 6, 1))}
    weights = (make_tiny_models.W, make_tiny_models.V, make_tiny_models.BIAS)
    assert graph.num_parameters == sum(weight.size for weight in weights) + 1 + 4  # 255, and the shape of x_mean.
    assert json.loads(graph.manifest_json)["graph"] == "decoder"


def test_every_flipped_byte_is_detected(tiny):
    data = bytearray((tiny / "conditional" / "decoder.onnx").read_bytes())
    for place in range(len(data)):
        data[place] ^= 1 << place % 8
        with pytest.raises(ModelFileError, match=r"damaged|not end in a seal"):
            onnx_file.check(bytes(data), "flipped.onnx")
        data[place] ^= 1 << place % 8


@pytest.mark.parametrize("kept", [0, 1, 80, 81, 100, 1600, 3000, -82, -81, -80, -1])
def test_truncated_file_is_detected(tiny, tmp_path, kept):
    with pytest.raises(ModelFileError, match=r"damaged|not end in a seal"):
        read(tmp_path, (tiny / "conditional" / "decoder.onnx").read_bytes()[:kept])


def test_bytes_after_the_seal_are_detected(tiny, tmp_path):
    with pytest.raises(ModelFileError, match="not end in a seal"):
        read(tmp_path, (tiny / "conditional" / "decoder.onnx").read_bytes() + b"\0")


@pytest.mark.parametrize("content", [b"hello\n" * 99, b"PK\x03\x04" + bytes(200), b"\x1f\x8b" + bytes(90), bytes(5000)])
def test_other_file_types_are_refused(tmp_path, content):
    with pytest.raises(ModelFileError, match="kvae export"):
        read(tmp_path, content)


def test_git_lfs_pointer_has_its_own_message(tmp_path):
    with pytest.raises(ModelFileError, match="git lfs pull"):
        read(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n" + bytes(80))


def test_special_files_are_refused_without_blocking(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    os.mkfifo(tmp_path / "fifo.onnx")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket.onnx"))
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    for name in ("fifo.onnx", "socket.onnx", "loop.onnx", "missing.onnx", ".", "/dev/zero", "x" * 5000, "a\0b"):
        with pytest.raises(ModelFileError) as error:
            onnx_file.read(tmp_path / name)
        assert len(str(error.value)) < 400
    server.close()


def test_symbolic_link_to_a_valid_file_is_followed(tiny, tmp_path):
    good = tiny / "conditional" / "decoder.onnx"
    (tmp_path / "soft.onnx").symlink_to(good)
    assert onnx_file.read(tmp_path / "soft.onnx").data == good.read_bytes()


def test_content_of_a_linked_file_is_not_shown(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret words" * 20)
    (tmp_path / "soft.onnx").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFileError) as error:
        onnx_file.read(tmp_path / "soft.onnx")
    assert "words" not in str(error.value)


def test_large_file_is_refused_before_reading(tmp_path):
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(onnx_file.MAX_BYTES + 1)
    with pytest.raises(ModelFileError, match="at most"):
        onnx_file.read(tmp_path / "large.onnx")
    with pytest.raises(ModelFileError, match="at most"):
        read(tmp_path, onnx_file.seal(model(), {}), max_bytes=100)


def test_unprintable_name_is_escaped(tmp_path):
    with pytest.raises(ModelFileError) as error:
        onnx_file.read(tmp_path / "a\n\x1b[31mb.onnx")
    assert str(error.value).isprintable()


NESTED = wire.graph(NODES, [Z], [X])


def with_attribute(op: str, number: int, value: bytes) -> bytes:
    return model([wire.node(op, ["z"], ["x_mean"], wire.field(1, "name") + wire.field(number, value))])


def with_tensor(dims: list[int], raw: bytes = b"", kind: int = wire.FLOAT, more: bytes = b"") -> bytes:
    return model(tensors=[wire.tensor("w", dims, raw, kind, more)])


def divided(op: str, inputs: list[str]) -> bytes:
    tensors = {
        "-1": wire.tensor("-1", [1], wire.int64s(-1), wire.INT64),
        "0": wire.tensor("0", [], wire.int64s(0), wire.INT64),
        "7": wire.tensor(
            "7", [3], more=wire.field(7, wire.varint(7) + wire.varint(1) + wire.varint(2)), kind=wire.INT64
        ),
        "-1 as int32_data": wire.tensor("-1 as int32_data", [1], more=wire.field(5, 2**32 - 1), kind=6),
    }
    nodes = [
        wire.node("Cast", ["z"], [inputs[0]], wire.int_attribute("to", 6 if inputs[0] == "n32" else 7)),
        wire.node(op, inputs, ["m"]),
        wire.node("Cast", ["m"], ["x_mean"], wire.int_attribute("to", 1)),
    ]
    return model(nodes, tensors=[tensors[name] for name in inputs if name in tensors])


HOSTILE = {
    "a subgraph": (with_attribute("Sigmoid", 6, NESTED), "subgraphs"),
    "a list of subgraphs": (with_attribute("Sigmoid", 11, NESTED), "subgraphs"),
    "a loop": (model([wire.node("Loop", ["z"], ["x_mean"])]), "Loop"),
    "scan": (model([wire.node("Scan", ["z"], ["x_mean"])]), "Scan"),
    "random numbers": (model([wire.node("RandomNormalLike", ["z"], ["x_mean"])]), "RandomNormalLike"),
    "an unknown operator": (model([wire.node("Foo", ["z"], ["x_mean"])]), "Foo"),
    "no operator": (model([wire.field(1, "z") + wire.field(2, "x_mean")]), "operator ''"),
    "a custom domain of a node": (model([wire.node("Sigmoid", ["z"], ["x_mean"], domain="ai.onnx.ml")]), "ai.onnx.ml"),
    "a custom domain import": (model(opsets=(("", 18), ("com.microsoft", 1))), "2 operator sets"),
    "another domain alone": (model(opsets=(("ai.onnx.training", 18),)), "ai.onnx.training"),
    "no opset": (model(opsets=()), "0 operator sets"),
    "an old opset": (model(opsets=(("", 9),)), "opset is 9"),
    "a future opset": (model(opsets=(("", 999),)), "opset is 999"),
    "a future IR": (model(ir_version=99), "IR version is 99"),
    "functions": (model() + wire.field(25, b""), "functions"),
    "training graphs": (model() + wire.field(20, b""), "training"),
    "a sparse tensor": (model(more=wire.field(15, b"")), "sparse"),
    "a sparse attribute": (with_attribute("Constant", 22, b""), "sparse"),
    "external data": (
        with_tensor([2], more=wire.field(13, wire.field(1, "location") + wire.field(2, "x"))),
        "external",
    ),
    "external location": (with_tensor([2], wire.floats(0, 0), more=wire.field(14, 1)), "external"),
    "external data of an attribute": (
        with_attribute("Constant", 5, wire.tensor("w", [2], more=wire.field(13, b""))),
        "external",
    ),
    "too few bytes": (with_tensor([3], wire.floats(0, 0)), "expected 12"),
    "too many bytes": (with_tensor([1], wire.floats(0, 0)), "expected 4"),
    "dims without data": (with_tensor([1000]), "expected 1000"),
    "huge dims": (with_tensor([2**40]), "impossible"),
    "dims that overflow": (with_tensor([2**30, 2**30, 2**30]), "impossible"),
    "a negative dim": (with_tensor([-1]), "impossible"),
    "many dims": (with_tensor([1] * 9, wire.floats(0)), "more than 8"),
    "strings": (with_tensor([1], kind=8, more=wire.field(6, b"s")), "strings"),
    "a string type": (with_tensor([0], kind=8), "element type 8"),
    "two kinds of data": (with_tensor([2], wire.floats(0, 0), more=wire.field(4, wire.floats(1, 1))), "field"),
    "data in the wrong field": (with_tensor([1], more=wire.field(7, 1)), "wrong field"),
    "a segment": (with_tensor([2], wire.floats(0, 0), more=wire.field(3, b"")), "segments"),
    "a sequence input": (model(inputs=[wire.field(1, "z") + wire.field(2, wire.field(4, b""))]), "sequences"),
    "an input without a type": (model(inputs=[wire.field(1, "z")]), "lacks a known type"),
    "an input twice": (model(inputs=[Z, Z]), "different names"),
    "no outputs": (model(outputs=[]), "at least one"),
    "two graphs": (model(more=b"") + wire.field(7, NESTED), "twice"),
    "not contain a graph": (wire.field(1, 8) + wire.field(8, wire.field(2, 18)), "not contain a graph"),
    "an unknown field": (model() + wire.field(99, b"hidden"), "unknown field 99"),
    "a group": (model() + bytes([31 << 3 & 0x7F | 3]), "unknown|wire"),
    "a name that is no UTF-8": (model([wire.node("Sigmoid", ["z"], ["x_mean"]) + wire.field(3, b"\xff")]), "UTF-8"),
    "a long name": (model([wire.node("Sigmoid", ["z"], ["x_mean"]) + wire.field(3, "n" * 5000)]), "5000 bytes"),
    "too many nodes": (model([wire.node("Identity", ["z"], ["a"])] * 10_001), "more than 10000 nodes"),
    "other metadata": (model() + wire.field(14, wire.field(1, "other") + wire.field(2, "v")), "more than 2 entries"),
    "metadata twice": (model() + wire.field(14, wire.field(1, "kvae") + wire.field(2, "{}")), "more than 2 entries"),
    "an attribute twice": (
        model([wire.node("Softmax", ["z"], ["x_mean"], wire.int_attribute("axis", 0), wire.int_attribute("axis", 1))]),
        "twice",
    ),
    "a cycle": (
        model([wire.node("Add", ["z", "b"], ["a"]), wire.node("Add", ["a", "a"], ["b"]), *NODES]),
        "'b' before it is produced",
    ),
    "a value that nothing makes": (model([wire.node("Sigmoid", ["q"], ["x_mean"])]), "'q' before it is produced"),
    "a value made twice": (model([*NODES, *NODES]), "'x_mean', which is produced twice"),
    "a tensor that is an input too": (model(tensors=[wire.tensor("z", [1], wire.floats(0))]), "'z' is produced twice"),
    "an output that nothing makes": (model(outputs=[X, wire.value("q", ["batch", 3])]), "'q' is never produced"),
    "an attribute without its type": (
        model([wire.node("Softmax", ["z"], ["x_mean"], wire.field(1, "axis") + wire.field(3, 1))]),
        "match its declared type",
    ),
    "an attribute of another type": (
        model([wire.node("Softmax", ["z"], ["x_mean"], wire.field(1, "axis") + wire.field(3, 1) + wire.field(20, 7))]),
        "match its declared type",
    ),
    "an attribute that claims to be a subgraph": (
        model([wire.node("Sigmoid", ["z"], ["x_mean"], wire.field(1, "body") + wire.field(20, 5))]),
        "match its declared type",
    ),
    "an attribute that claims to be sparse": (
        model([wire.node("Constant", [], ["c"], wire.field(1, "sparse_value") + wire.field(20, 11)), *NODES]),
        "match its declared type",
    ),
    "an attribute of a tensor without one": (
        model([wire.node("Constant", [], ["c"], wire.field(1, "value") + wire.field(20, 4)), *NODES]),
        "match its declared type",
    ),
    "a cast to strings": (model([wire.node("Cast", ["z"], ["s"], wire.int_attribute("to", 8)), *NODES]), "strings"),
    "constant strings": (
        model(
            [wire.node("Constant", [], ["s"], wire.field(1, "value_string") + wire.field(4, "s") + wire.field(20, 3))]
        ),
        "strings",
    ),
    "a long description": (model(more=wire.field(10, "d" * 5000)), "5000 bytes"),
    "a division by what is computed": (divided("Div", ["n", "n"]), "divides integers"),
    "a division by -1": (divided("Div", ["n", "-1"]), "divides integers"),
    "a division by 0": (divided("Div", ["n", "0"]), "divides integers"),
    "a division by -1 in another field": (divided("Div", ["n32", "-1 as int32_data"]), "divides integers"),
    "a remainder by -1": (divided("Mod", ["n", "-1"]), "divides integers"),
    "an input of Max that is left out": (model([wire.node("Max", ["z", ""], ["x_mean"])]), "lacks one of its inputs"),
    "a reduction with empty axes": (
        model([wire.node("ReduceSum", ["z", ""], ["x_mean"])]),
        "lacks one of its inputs",
    ),
    "a split into fewer than it says": (
        model([wire.node("Split", ["z"], ["x_mean", "b", "c"], wire.int_attribute("num_outputs", 2))]),
        "a different number of outputs",
    ),
    "a negative batch_dims": (
        model([wire.node("GatherND", ["z", "z"], ["x_mean"], wire.int_attribute("batch_dims", -1))]),
        "-1 as 'batch_dims'",
    ),
    "a stride of 0": (
        model([wire.node("Conv", ["z", "z"], ["x_mean"], ints("strides", 1, 0))]),
        "0 as 'strides'",
    ),
    "padding of 2**40": (model([wire.node("Conv", ["z", "z"], ["x_mean"], ints("pads", 0, 2**40))]), "as 'pads'"),
    "an axis of -2**63": (
        model([wire.node("Softmax", ["z"], ["x_mean"], wire.int_attribute("axis", -(2**63)))]),
        "as 'axis'",
    ),
    "a list of 2000 numbers": (
        model([wire.node("Conv", ["z", "z"], ["x_mean"], ints("pads", *range(2000)))]),
        "more than 1000 numbers",
    ),
    "an attribute of another operator": (
        model([wire.node("Softmax", ["z"], ["x_mean"], wire.int_attribute("blocksize", 1))]),
        "unknown attribute",
    ),
    "Einsum with a lone point": (
        model([wire.node("Einsum", ["z"], ["x_mean"], text("equation", "i.j"))]),
        "an invalid equation",
    ),
    "Einsum of more inputs than terms": (
        model([wire.node("Einsum", ["z", "z"], ["x_mean"], text("equation", "ij->ji"))]),
        "a different number of inputs",
    ),
    "a convolution of data of other axes": (
        model(
            [wire.node("ConvTranspose", ["z", "k"], ["x_mean"], ints("output_padding", 0, 4))],
            tensors=[wire.tensor("k", [2, 3, 2, 2], bytes(96))],
        ),
        "an input of 2 axes for weights of 4",
    ),
    "a convolution with a list too short": (
        model(
            [
                wire.node("Reshape", ["z", "shape"], ["image"]),
                wire.node("Conv", ["image", "k"], ["x_mean"], ints("strides", 1)),
            ],
            tensors=[
                wire.tensor("shape", [4], wire.int64s(1, 1, 1, -1), 7),
                wire.tensor("k", [1, 1, 1, 1], wire.floats(1)),
            ],
        ),
        "1 numbers as 'strides' for 2 axes",
    ),
    "a recurrent layer of weights without a shape": (
        model([wire.node("LSTM", ["z", "z", "z"], ["x_mean"], wire.int_attribute("hidden_size", 3))]),
        "do not have 3 axes",
    ),
    "OneHot of a depth that is computed": (
        model([wire.node("Size", ["z"], ["n"]), wire.node("OneHot", ["z", "n", "z"], ["x_mean"])]),
        "pair of values",
    ),
    "OneHot of what may be nothing": (
        model(
            [wire.node("Slice", ["z", "0", "0"], ["none"]), wire.node("OneHot", ["none", "3", "pair"], ["x_mean"])],
            tensors=[
                wire.tensor("0", [1], wire.int64s(0), 7),
                wire.tensor("3", [1], wire.int64s(3), 7),
                wire.tensor("pair", [2], wire.floats(0, 1)),
            ],
        ),
        "empty output",
    ),
    "arithmetic in float16": (
        model(
            [
                wire.node("Cast", ["z"], ["half"], wire.int_attribute("to", 10)),
                wire.node("Neg", ["half"], ["minus"]),
                wire.node("Cast", ["minus"], ["x_mean"], wire.int_attribute("to", 1)),
            ]
        ),
        "computes with elements that are not",
    ),
    "a tensor without elements": (
        model([wire.node("ReduceSum", ["w"], ["x_mean"])], tensors=[wire.tensor("w", [2, 0, 3])]),
        "is empty",
    ),
    "random bytes": (bytes(range(1, 200)), "not a graph"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_sealed_file_is_refused_if_it_contains(name, tmp_path):
    data, reason = HOSTILE[name]
    with pytest.raises(ModelFileError, match=reason) as error:
        read(tmp_path, wire.seal(data, "{}"))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "data",
    [
        wire.field(14, wire.field(1, "kvae") + wire.field(2, "{}")) + model(),
        model(),
    ],
    ids=["manifest first", "no manifest"],
)
def test_manifest_and_digest_must_be_the_last_fields(data, tmp_path):
    sealed = data + wire.field(14, wire.field(1, "kvae.sha256") + wire.field(2, hashlib.sha256(data).hexdigest()))
    with pytest.raises(ModelFileError, match="must end in"):
        read(tmp_path, sealed)


def test_manifest_above_one_mebibyte_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="more than 1048576"):
        read(tmp_path, wire.seal(model(), " " * (2**20 + 1)))


@pytest.mark.parametrize("kind", ["raw", "float_data packed", "float_data unpacked", "int64_data", "empty"])
def test_elements_are_counted_in_each_storage_form(kind, tmp_path):
    tensors = {
        "raw": wire.tensor("w", [2, 3], wire.floats(*range(6))),
        "float_data packed": wire.tensor("w", [3], more=wire.field(4, wire.floats(1, 2, 3))),
        "float_data unpacked": wire.tensor("w", [2], more=(bytes([4 << 3 | 5]) + wire.floats(1)) * 2),
        "int64_data": wire.tensor(
            "w", [3], kind=7, more=wire.field(7, wire.varint(1) + wire.varint(300) + wire.varint(-1))
        ),
        "empty": wire.tensor("w", [0], kind=7),
    }
    assert read(tmp_path, wire.seal(model(tensors=[tensors[kind]]), "{}")).num_nodes == 1


def calls_of(work) -> int:
    """Return the number of Python calls of `work`, a measure of cost that does not depend on the machine."""
    count = 0

    def seen(_frame, event, _what):
        nonlocal count
        count += event == "call"

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_cost_of_validation_is_independent_of_tensor_size():
    large, small = (model(tensors=[wire.tensor("w", [size], bytes(4 * size))]) for size in (2**22, 2**7))
    assert validate.walk(large).num_parameters == 2**22
    assert calls_of(lambda: validate.walk(large)) <= calls_of(lambda: validate.walk(small)) + 8  # longer varints


def test_validation_of_shipped_models_is_cheap():
    """About 4,000 calls a graph, in a few milliseconds, which benchmarks/reader_speed.py measures."""
    for folder in locate.shipped().values():
        for path in Path(folder).glob("*.onnx"):
            data = path.read_bytes()
            text = validate.walk(data).metadata[0][1]
            assert calls_of(lambda data=data: validate.walk(data)) < 16_000, path
            assert calls_of(lambda text=text: Manifest.parse(text, "m")) < 1_500, path


def test_integer_division_by_positive_constants_and_float_division_are_accepted(tmp_path):
    assert read(tmp_path, wire.seal(divided("Div", ["n", "7"]), "{}")).num_nodes == 3
    floats = [wire.node("Equal", ["z", "z"], ["b"]), wire.node("Where", ["b", "z", "z"], ["w"])]
    floats += [wire.node("Div", ["w", "z"], ["x_mean"])]
    assert read(tmp_path, wire.seal(model(floats), "{}")).num_nodes == 3


def test_control_flow_and_random_operators_are_not_allowed():
    forbidden = (
        "Loop Scan If RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli Dropout"
    )
    assert not ALLOWED_OPS & set(forbidden.split())
    assert {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "OneHot", "Gather", "Softplus"} <= ALLOWED_OPS


def test_committed_models_equal_the_output_of_their_script(tiny):
    pytest.importorskip("onnx")
    for name, (_, _, graphs) in make_tiny_models.MODELS.items():
        for graph in graphs:
            assert make_tiny_models.build(name, graph) == (tiny / name / f"{graph}.onnx").read_bytes()


def test_onnx_checker_accepts_sealed_files(tiny):
    onnx = pytest.importorskip("onnx")
    for path in tiny.glob("*/*.onnx"):
        loaded = onnx.load(path)
        onnx.checker.check_model(loaded, full_check=True)
        assert [entry.key for entry in loaded.metadata_props] == ["kvae", "kvae.sha256"]

"""Sessions: operators cannot exceed the memory limit, and all outputs are finite."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kvae_serve.errors import ModelFileError, RequestError
from kvae_serve.model import load
from kvae_serve.runtime.session import mebibytes
from support import make_tiny_models, wire
from support.memory_bombs import bombs, int64s

MIB = 2**20
MANIFEST = make_tiny_models.manifest("hostile", False, "standard_normal") | {
    "graph": "decoder",
    "golden": None,
    "data": {"kind": "vector", "shape": [3], "range": None},
    "likelihood": {"name": "gaussian"},
}


def decoder(tmp_path, nodes: list[bytes], tensors: list[bytes] = (), manifest: dict = MANIFEST) -> str:
    """Sealed decoder z [batch, 3] -> x_mean [batch, 3] with these nodes."""
    z, x = wire.value("z", ["batch", 3]), wire.value("x_mean", ["batch", 3])
    path = tmp_path / "decoder.onnx"
    path.write_bytes(wire.seal(wire.model(wire.graph(nodes, [z], [x], list(tensors))), manifest))
    return str(path)


def test_memory_limit_is_per_session(tmp_path):
    nodes, tensors = bombs(1)["Expand"]
    tensors = [*tensors[:-1], int64s("size", 100 * MIB // 4)]
    path = decoder(tmp_path, nodes, tensors)
    small, large = load(path, max_memory=64 * MIB), load(path, max_memory=512 * MIB)
    z = np.zeros((1, 3), np.float32)
    for _ in range(2):
        with pytest.raises(ModelFileError, match="64 MiB"):
            small.decode(z)
        assert large.decode(z).shape == (1, 3)


def test_memory_limit_can_be_raised_by_a_variable(tmp_path, monkeypatch):
    nodes, tensors = bombs(1)["Expand"]
    path = decoder(tmp_path, nodes, [*tensors[:-1], int64s("size", 300 * MIB // 4)])
    with pytest.raises(ModelFileError, match="KVAE_MAX_MEMORY"):
        load(path).decode(np.zeros((1, 3)))
    monkeypatch.setenv("KVAE_MAX_MEMORY", "700")
    assert load(path).decode(np.zeros((1, 3))).shape == (1, 3)
    for bad in ("x", "0", "-1", "1.5", "9" * 50):
        monkeypatch.setenv("KVAE_MAX_MEMORY", bad)
        with pytest.raises(RequestError, match="KVAE_MAX_MEMORY"):
            mebibytes("KVAE_MAX_MEMORY")


def test_memory_limit_does_not_affect_sessions_of_the_user(tiny):
    import onnxruntime as ort

    load(tiny / "unconditional", max_memory=MIB * 20).sample(1)
    session = ort.InferenceSession(str(tiny / "unconditional" / "decoder.onnx"))
    assert session.run(None, {"z": np.zeros((200_000, 3), np.float32)})[0].shape == (200_000, 8, 6, 1)


@pytest.mark.parametrize("op", ["Log", "Reciprocal", "Sqrt"])
def test_nan_and_infinite_outputs_are_rejected(tmp_path, op):
    path = decoder(
        tmp_path,
        [
            wire.node("Sub", ["z", "z"], ["zero"]),
            wire.node("Sub", ["zero", "one"], ["minus"]),
            wire.node(op, ["minus" if op == "Sqrt" else "zero"], ["x_mean"]),
        ],
        [wire.tensor("one", [1], wire.floats(1))],
    )
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        load(path).decode(np.ones((1, 3)))


def test_error_of_onnx_runtime_is_reported_without_its_text(tmp_path, capfd):
    secret = "\x1b[31msecret\n"
    # An index that is out of range is found by ONNX Runtime.
    nodes = [wire.node("Gather", ["z", secret], ["x_mean"], wire.int_attribute("axis", 1))]
    tensors = [wire.tensor(secret, [3], wire.int64s(0, 1, 9), wire.INT64)]
    with pytest.raises(ModelFileError, match="ONNX Runtime") as error:
        load(decoder(tmp_path, nodes, tensors)).decode(np.zeros((1, 3)))
    assert str(error.value).isprintable()
    assert "secret" not in str(error.value)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_output_with_unexpected_shape_is_rejected(tmp_path):
    path = decoder(tmp_path, [wire.node("Concat", ["z", "z"], ["x_mean"], wire.int_attribute("axis", 0))])
    with pytest.raises(ModelFileError):
        load(path).decode(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([("z", ["batch", 4], 1)], [("x_mean", ["batch", 3], 1)]),
        ([("z", ["batch", 3], 11)], [("x_mean", ["batch", 3], 1)]),
        ([("z", [1, 3], 1)], [("x_mean", ["batch", 3], 1)]),
        ([("z", ["batch"], 1)], [("x_mean", ["batch", 3], 1)]),
        ([("q", ["batch", 3], 1)], [("x_mean", ["batch", 3], 1)]),
        ([("z", ["batch", 3], 1), ("y", ["batch"], 7)], [("x_mean", ["batch", 3], 1)]),
        ([("z", ["batch", 3], 1)], [("x", ["batch", 3], 1)]),
        ([("z", ["batch", 3], 1)], [("x_mean", ["batch", 5], 1)]),
        ([("z", ["batch", 3], 1)], [("x_mean", ["batch", 3], 10)]),
        ([("z", ["batch", 3], 1)], [("x_mean", ["batch", 3], 1), ("x_log_var", ["batch", 3], 7)]),
    ],
)
def test_graph_that_does_not_fit_its_manifest_is_rejected_on_load(tmp_path, inputs, outputs):
    values = [[wire.value(name, shape, kind) for name, shape, kind in side] for side in (inputs, outputs)]
    path = tmp_path / "decoder.onnx"
    path.write_bytes(wire.seal(wire.model(wire.graph([wire.node("Identity", ["z"], ["x_mean"])], *values)), MANIFEST))
    with pytest.raises(ModelFileError):
        load(path)


def test_flipped_bit_under_a_new_seal_does_not_crash(tiny, tmp_path):
    """A changed file with a new seal is rejected, or its outputs are finite."""
    good = (tiny / "unconditional" / "decoder.onnx").read_bytes()
    sealed = load(tiny / "unconditional" / "decoder.onnx").sealed("decoder")[0]
    model, manifest = good[: good.rindex(b"\x72", 0, good.index(b"\x0a\x04kvae\x12"))], json.loads(sealed.manifest_json)
    path, refused = tmp_path / "decoder.onnx", 0
    for place in range(0, len(model), 5):
        flipped = bytearray(model)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(wire.seal(bytes(flipped), manifest))
        try:
            assert np.isfinite(load(path).sample(1).x).all()
        except ModelFileError:
            refused += 1
    assert refused > 20


def test_memory_limit_does_not_include_results(tmp_path):
    """24 MiB of results under a limit of 4 MiB, and many stored results of one batch each."""
    path = decoder(tmp_path, [wire.node("Identity", ["z"], ["x_mean"])])
    model = load(path, max_memory=4 * MIB)
    z = np.arange(3 * 2**21, dtype=np.float32).reshape(-1, 3)
    result = model.decode(z, batch_size=2**16)
    assert result.nbytes == 24 * MIB
    assert (result == z).all()
    kept = [model.decode(z[start : start + 2**16], batch_size=2**16) for start in range(0, 2**20, 2**16)]
    assert sum(each.nbytes for each in kept) > 2 * model.session("decoder").max_memory
    assert all((each == z[2**16 * index : 2**16 * (index + 1)]).all() for index, each in enumerate(kept))
    assert all(each.flags.writeable and each.flags.owndata for each in kept)


def test_run_returns_the_requested_outputs_only(tiny):
    session = load(tiny / "unconditional").session("encoder")
    feeds = {"x": np.zeros((2, 8, 6, 1), np.float32)}
    assert list(session.run(feeds)) == ["z_mean", "z_log_var"]
    assert list(session.run(feeds, outputs=["z_log_var"])) == ["z_log_var"]

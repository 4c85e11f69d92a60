"""Linear model of a table: three normal numbers and a class given z, to test rows that are partly observed.

`python tests/support/make_linear_table.py` writes the files (it needs the onnx package); tests use committed ones.

    age, pay, debt = z W + b + noise, normals of standard deviation SIGMA;    sex = softmax(z V);    z ~ N(0, I)

The encoder is loose on purpose: it ignores the class, and its variance is LOOSE times as large.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "data" / "linear_table"
LATENT_DIM = 2
CLASSES = ["female", "male", "other"]
W = np.array([[1.0, 0.5, -1.0], [0.0, 2.0, 0.5]], np.float32)
BIAS = np.array([10.0, -3.0, 0.5], np.float32)
V = np.array([[2.0, -1.0, 0.0], [0.0, 1.0, -1.0]], np.float32)
SIGMA = np.array([0.5, 1.0, 0.25], np.float32)
LOOSE = 1.5
PRECISION = np.eye(2) + (W / SIGMA**2) @ W.T
COLUMNS = [
    {"name": "age", "kind": "numeric", "mean": 10.0, "scale": 1.25},
    {"name": "sex", "kind": "categorical", "classes": CLASSES},
    {"name": "pay", "kind": "numeric", "mean": -3.0, "scale": 2.25},
    {"name": "debt", "kind": "numeric", "mean": 0.5, "scale": 1.125},
]
NUMBERS = [0, 2, 3]
TOLERANCE = dict.fromkeys(
    ("x_mean", "x_log_var", "x_probability_sex", "z_mean", "z_log_var", "log_likelihood"), (1e-4, 1e-4)
)


def decode(z: np.ndarray) -> dict[str, np.ndarray]:
    z = np.asarray(z, np.float64)
    x_mean, x_log_var = np.zeros((len(z), 4)), np.zeros((len(z), 4))
    x_mean[:, NUMBERS] = z @ W + BIAS
    x_log_var[:, NUMBERS] = 2 * np.log(SIGMA.astype(np.float64))
    odds = np.exp(z @ V)
    x_mean[:, 1] = odds.argmax(1)
    return {"x_mean": x_mean, "x_log_var": x_log_var, "x_probability_sex": odds / odds.sum(1, keepdims=True)}


def encode(x: np.ndarray) -> dict[str, np.ndarray]:
    away = (np.asarray(x, np.float64)[:, NUMBERS] - BIAS) / SIGMA.astype(np.float64) ** 2
    mean = away @ W.T @ np.linalg.inv(PRECISION)
    log_var = np.log(LOOSE * np.diag(np.linalg.inv(PRECISION)))
    return {"z_mean": mean, "z_log_var": np.broadcast_to(log_var, mean.shape)}


def log_likelihood(x: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    out = decode(z)
    away = (x - out["x_mean"])[:, NUMBERS] / SIGMA
    log_class = np.log(out["x_probability_sex"][np.arange(len(x)), x[:, 1].astype(int)])
    return {"log_likelihood": -0.5 * (away**2 + np.log(2 * np.pi * SIGMA**2)).sum(-1) + log_class}


def manifest() -> dict:
    return {
        "format": 1,
        "model_id": "7a" * 32,
        "name": "linear_table",
        "kind": "vae",
        "latent_dim": LATENT_DIM,
        "data": {"kind": "table", "shape": [4], "range": None, "columns": COLUMNS},
        "conditions": [],
        "likelihood": {"name": "mixed", "probabilities": [None, "x_probability_sex", None, None]},
        "prior": {"name": "standard_normal"},
        "training": None,
    }


def build(graph: str) -> bytes:
    """Return the bytes of one sealed file."""
    sys.path.insert(0, str(FOLDER.parents[2] / "serve_cli"))
    from kvae_serve.sealed.file import seal
    from kvae_serve.sealed.golden import golden_inputs, record
    from kvae_serve.sealed.manifest import Manifest

    plain = manifest() | {"graph": graph}
    inputs = {"encoder": ["x"], "decoder": ["z"], "likelihood": ["x", "z"]}[graph]
    feeds = golden_inputs(Manifest.from_dict(plain), inputs)
    outputs = {"encoder": encode, "decoder": decode, "likelihood": log_likelihood}[graph](**feeds)
    return seal(_onnx_model(graph, inputs), plain | {"golden": record(outputs, TOLERANCE)})


def _onnx_model(graph: str, inputs: list[str]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    tensors: dict[str, np.ndarray] = {}
    nodes = []

    def node(op: str, output: str, *arguments: object, **attributes: object) -> str:
        names = []
        for argument in arguments:
            if not isinstance(argument, str):
                value = np.asarray(argument)
                tensors[f"c{len(tensors)}"] = value if value.dtype == np.int64 else value.astype(np.float32)
                argument = f"c{len(tensors) - 1}"
            names.append(argument)
        nodes.append(helper.make_node(op, names, output.split(), **attributes))
        return output

    place = np.zeros((3, 4))
    place[np.arange(3), NUMBERS] = 1
    if graph == "encoder":
        factor = place.T @ (W / SIGMA**2).T @ np.linalg.inv(PRECISION)
        mean = node("MatMul", "z_mean", node("Sub", "away", "x", BIAS @ place), factor)
        log_var = np.log(LOOSE * np.diag(np.linalg.inv(PRECISION)))
        node("Add", "z_log_var", node("Mul", "zero", mean, 0.0), log_var)
        outputs: dict[str, tuple] = {"z_mean": ("batch", 2), "z_log_var": ("batch", 2)}
    else:
        numbers = node("Add", "numbers", node("MatMul", "zW", "z", W @ place), BIAS @ place)
        logits = node("MatMul", "logits", "z", V)
        if graph == "decoder":
            node("TopK", "top index", logits, np.array([1], np.int64), axis=-1)
            index = node("Mul", "at", node("Cast", "class", "index", to=TensorProto.FLOAT), np.eye(4)[1])
            node("Add", "x_mean", numbers, index)
            node("Add", "x_log_var", node("Mul", "zero", numbers, 0.0), 2 * np.log(SIGMA) @ place)
            node("Softmax", "x_probability_sex", logits, axis=-1)
            outputs = {"x_mean": ("batch", 4), "x_log_var": ("batch", 4), "x_probability_sex": ("batch", 3)}
        else:
            scale = 1 / SIGMA @ place
            away = node("Mul", "away", node("Sub", "difference", "x", numbers), scale)
            each = node("Mul", "each", node("Mul", "squares", away, away), -0.5)
            total = node("ReduceSum", "total", each, np.array([1], np.int64), keepdims=0)
            total = node("Sub", "normal", total, 0.5 * np.log(2 * np.pi * SIGMA.astype(np.float64) ** 2).sum())
            chosen = node("MatMul", "chosen", "x", np.eye(4)[:, 1:2])
            equal = node("Equal", "equal", chosen, np.arange(3.0))
            hot = node("Cast", "hot", equal, to=TensorProto.FLOAT)
            picked = node("Mul", "picked", hot, node("LogSoftmax", "logs", logits, axis=-1))
            node(
                "Add",
                "log_likelihood",
                total,
                node("ReduceSum", "log_class", picked, np.array([1], np.int64), keepdims=0),
            )
            outputs = {"log_likelihood": ("batch",)}
    shapes = {"x": ("batch", 4), "z": ("batch", 2)}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            graph,
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, shapes[each]) for each in inputs],
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in outputs.items()],
            [numpy_helper.from_array(value, each) for each, value in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    return model.SerializeToString(deterministic=True)


if __name__ == "__main__":
    for each in ("encoder", "decoder", "likelihood"):
        path = FOLDER / f"{each}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build(each))
        print(path, path.stat().st_size)

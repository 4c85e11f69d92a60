"""Tiny models with closed-form outputs, an independent reference for tests of the runtime.

`python tests/support/make_tiny_models.py` writes the files (it needs the onnx package); tests use committed ones, and
the formulas below in numpy.

    logits = z W + V[label] + b              x_mean = 255 sigmoid(logits)
    z_mean = (x / 255) A + U[label]          z_log_var = (x / 255) B - 1
    log_likelihood = sum(t logits - softplus(logits)), t = x / 255
    prior: z_mean = M[label or component]    z_log_var = L[label or component]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"
LATENT_DIM = 3
SHAPE = (8, 6, 1)
NUM_VALUES = 48
# The last name looks like the index of the first. A class name takes precedence over an index.
CLASSES = ["cat", "dog", "0"]
LOG_WEIGHTS = [-1.0, 0.5, -2.0, 0.0]


def _weights(rows: int, columns: int, scale: float, phase: float) -> np.ndarray:
    return (scale * np.sin(np.arange(rows * columns) * 1.7 + phase)).reshape(rows, columns).astype(np.float32)


W = _weights(LATENT_DIM, NUM_VALUES, 1.0, 0.1)
V = _weights(len(CLASSES), NUM_VALUES, 1.5, 0.7)
BIAS = _weights(1, NUM_VALUES, 0.5, 1.3)[0]
A = _weights(NUM_VALUES, LATENT_DIM, 0.2, 2.1)
B = _weights(NUM_VALUES, LATENT_DIM, 0.1, 3.1)
U = _weights(len(CLASSES), LATENT_DIM, 0.5, 4.1)
M = _weights(len(LOG_WEIGHTS), LATENT_DIM, 2.0, 5.1)
L = _weights(len(LOG_WEIGHTS), LATENT_DIM, 0.8, 6.1)


def logits(z: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """Return logits, float64 `[rows, values]`."""
    return np.asarray(z, np.float64) @ W + BIAS + (0 if label is None else V[label])


def decode(z: np.ndarray, label: np.ndarray | None = None) -> dict[str, np.ndarray]:
    return {"x_mean": (255 / (1 + np.exp(-logits(z, label)))).reshape(len(z), *SHAPE)}


def encode(x: np.ndarray, label: np.ndarray | None = None) -> dict[str, np.ndarray]:
    scaled = np.asarray(x, np.float64).reshape(len(x), -1) / 255
    return {"z_mean": scaled @ A + (0 if label is None else U[label]), "z_log_var": scaled @ B - 1}


def log_likelihood(x: np.ndarray, z: np.ndarray, label: np.ndarray | None = None) -> dict[str, np.ndarray]:
    target, each = np.asarray(x, np.float64).reshape(len(x), -1) / 255, logits(z, label)
    return {"log_likelihood": (target * each - np.logaddexp(0, each)).sum(-1)}


def prior(index: np.ndarray) -> dict[str, np.ndarray]:
    return {"z_mean": M[index], "z_log_var": L[index]}


def manifest(name: str, conditional: bool, prior_name: str) -> dict:
    """Return the manifest of a tiny model without `graph` and `golden`."""
    return {
        "format": 1,
        "model_id": f"{sum(name.encode()):064x}",
        "name": name,
        "kind": "conditional-vae" if conditional else "vae",
        "latent_dim": LATENT_DIM,
        "data": {"kind": "image", "shape": list(SHAPE), "range": [0, 255]},
        "conditions": [{"name": "label", "kind": "categorical", "classes": CLASSES}] if conditional else [],
        "likelihood": {"name": "bernoulli"},
        "prior": {"name": prior_name} | ({"log_weights": LOG_WEIGHTS} if prior_name == "vamp" else {}),
        "training": None,
    }


# Folder -> (conditional, prior, graphs).
MODELS = {
    "conditional": (True, "standard_normal", ("encoder", "decoder", "likelihood")),
    "unconditional": (False, "standard_normal", ("encoder", "decoder", "likelihood")),
    "gaussian_prior": (True, "conditional_gaussian", ("decoder", "prior")),
    "mixture_prior": (False, "vamp", ("decoder", "prior")),
}
TOLERANCE = {
    "x_mean": (0.0255, 0.0),
    "z_mean": (1e-4, 1e-4),
    "z_log_var": (1e-4, 1e-4),
    "log_likelihood": (0.0, 1e-5),
}


def build(name: str, graph: str) -> bytes:
    """Return the bytes of one sealed file."""
    sys.path.insert(0, str(DATA.parents[1] / "serve_cli"))
    from kvae_serve.sealed.file import seal
    from kvae_serve.sealed.golden import golden_inputs, record
    from kvae_serve.sealed.manifest import Manifest

    conditional, prior_name, _ = MODELS[name]
    plain = manifest(name, conditional, prior_name) | {"graph": graph}
    model, inputs = _onnx_model(graph, conditional)
    feeds = golden_inputs(Manifest.from_dict(plain), inputs)
    label = feeds.get("label")
    outputs = {
        "decoder": lambda: decode(feeds["z"], label),
        "encoder": lambda: encode(feeds["x"], label),
        "likelihood": lambda: log_likelihood(feeds["x"], feeds["z"], label),
        "prior": lambda: prior(feeds["component"] if label is None else label),
    }[graph]()
    return seal(model, plain | {"golden": record(outputs, TOLERANCE)})


def _onnx_model(graph: str, conditional: bool) -> tuple[bytes, list[str]]:
    """Return a serialised ModelProto and the names of its inputs."""
    from onnx import TensorProto, helper, numpy_helper

    tensors: dict[str, np.ndarray] = {}
    nodes = []

    def node(op: str, output: str, *arguments: str | np.ndarray, **attributes: object) -> str:
        names = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                tensors[f"c{len(tensors)}"] = argument
                names.append(f"c{len(tensors) - 1}")
            else:
                names.append(argument)
        nodes.append(helper.make_node(op, names, [output], **attributes))
        return output

    def plus_class(name: str, values: str, table: np.ndarray) -> str:
        return (
            node("Add", f"{name}_given", values, node("Gather", f"{name}_class", table, "label"))
            if conditional
            else values
        )

    def logits_of_z() -> str:
        return plus_class("logits", node("Add", "logits", node("MatMul", "zW", "z", W), BIAS), V)

    def scaled_x() -> str:
        flat = node("Reshape", "flat", "x", np.array([-1, NUM_VALUES], np.int64))
        return node("Div", "scaled", flat, np.array(255, np.float32))

    label = ["label"] if conditional else []
    latent = ("batch", LATENT_DIM)
    if graph == "decoder":
        inputs, outputs = ["z", *label], {"x_mean": ("batch", *SHAPE)}
        image = node("Mul", "x_flat", node("Sigmoid", "p", logits_of_z()), np.array(255, np.float32))
        node("Reshape", "x_mean", image, np.array([-1, *SHAPE], np.int64))
    elif graph == "encoder":
        inputs, outputs = ["x", *label], {"z_mean": latent, "z_log_var": latent}
        scaled = scaled_x()
        node("Identity", "z_mean", plus_class("mean", node("MatMul", "xA", scaled, A), U))
        node("Sub", "z_log_var", node("MatMul", "xB", scaled, B), np.array(1, np.float32))
    elif graph == "likelihood":
        inputs, outputs = ["x", "z", *label], {"log_likelihood": ("batch",)}
        each = logits_of_z()
        terms = node("Sub", "terms", node("Mul", "t_logits", scaled_x(), each), node("Softplus", "softplus", each))
        node("ReduceSum", "log_likelihood", terms, np.array([1], np.int64), keepdims=0)
    else:
        inputs, outputs = label or ["component"], {"z_mean": latent, "z_log_var": latent}
        rows = len(CLASSES) if conditional else len(LOG_WEIGHTS)
        node("Gather", "z_mean", M[:rows], inputs[0])
        node("Gather", "z_log_var", L[:rows], inputs[0])

    shapes = {"x": ("batch", *SHAPE), "z": latent}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            graph,
            [
                helper.make_tensor_value_info(
                    name, TensorProto.FLOAT if name in shapes else TensorProto.INT64, shapes.get(name, ("batch",))
                )
                for name in inputs
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    return model.SerializeToString(deterministic=True), inputs


if __name__ == "__main__":
    for folder, (_, _, graphs) in MODELS.items():
        for each in graphs:
            path = DATA / folder / f"{each}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(build(folder, each))
            print(path, path.stat().st_size)

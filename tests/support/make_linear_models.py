"""Linear models with Gaussian noise, whose log p(x) has a closed form, to test importance sampling.

`python tests/support/make_linear_models.py` writes the files (it needs the onnx package); tests use committed ones.

    x = z W + b (+ C[label] + tilt T) + noise, a normal of standard deviation SIGMA
    prior: N(0, I), N(M[label], exp(L[label])), or the mixture of these with the weights exp(LOG_WEIGHTS)

The rows of W are orthogonal, so that under N(0, I) the posterior is a diagonal Gaussian. The encoder of `linear`
returns it. The encoders of the others are wrong on purpose: their variance is LOOSE times as large, the mean is SHRUNK.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"
LATENT_DIM, NUM_VALUES = 2, 5
CLASSES = ["low", "middle", "high"]
W = np.array([[1.0, 0.5, 0.0, -0.5, 0.25], [0.0, 0.5, 1.0, 0.5, 0.0]], np.float32)
BIAS = np.array([10.0, -3.0, 0.5, 2.0, 0.0], np.float32)
C = np.array([[0.0, 0, 0, 0, 0], [0.5, -0.5, 0.25, 0, 1], [-1, 0.5, 0.5, 0.25, 0]], np.float32)
T = np.array([0.5, 0.25, -0.5, 0.0, 1.0], np.float32)
SIGMA = 0.5
M = np.array([[0.0, 0.5], [1.0, -0.5], [-1.5, 0.0]], np.float32)
L = np.array([[0.0, -1.0], [-0.5, 0.25], [0.5, -0.25]], np.float32)
LOG_WEIGHTS = [-1.5, 0.0, -0.5]
PRECISION = 1 + (W**2).sum(1) / SIGMA**2
LOOSE, SHRUNK = 1.6, 0.9

# Folder -> (conditions, prior, exact encoder).
MODELS = {
    "linear": ((), "standard_normal", True),
    "linear_mixture": ((), "gaussian_mixture", False),
    "linear_label": (("label",), "conditional_gaussian", False),
    "linear_several": (("label", "tilt"), "standard_normal", False),
}
TOLERANCE = dict.fromkeys(("x_mean", "x_log_var", "z_mean", "z_log_var", "log_likelihood"), (1e-4, 1e-5))


def offset(given: dict[str, np.ndarray]) -> np.ndarray:
    """Return the sum of bias and conditions, `[rows or 1, values]`."""
    shift = BIAS[None].astype(np.float64)
    shift = shift + C[given["label"]] if "label" in given else shift
    return shift + given["tilt"][:, None] * T if "tilt" in given else shift


def decode(z: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    x_mean = np.asarray(z, np.float64) @ W + offset(given)
    return {"x_mean": x_mean, "x_log_var": np.full(x_mean.shape, 2 * np.log(SIGMA))}


def encode(x: np.ndarray, given: dict[str, np.ndarray], exact: bool) -> dict[str, np.ndarray]:
    mean = (x - offset(given)) @ W.T / SIGMA**2 / PRECISION
    log_var = np.broadcast_to(-np.log(PRECISION), mean.shape)
    if not exact:
        mean, log_var = SHRUNK * mean, log_var + np.log(LOOSE)
    return {"z_mean": mean, "z_log_var": log_var}


def log_likelihood(x: np.ndarray, z: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    away = (x - decode(z, given)["x_mean"]) / SIGMA
    return {"log_likelihood": -0.5 * (away**2 + np.log(2 * np.pi * SIGMA**2)).sum(-1)}


def prior(index: np.ndarray) -> dict[str, np.ndarray]:
    return {"z_mean": M[index], "z_log_var": L[index]}


def log_marginal(x: np.ndarray, given: dict[str, np.ndarray], z_mean: np.ndarray, z_log_var: np.ndarray) -> np.ndarray:
    """Return log p(x) under z ~ N(z_mean, exp(z_log_var)), each `[latent_dim]`: a Gaussian in x, float64 `[rows]`."""
    covariance = (W.T * np.exp(np.float64(z_log_var))) @ W + SIGMA**2 * np.eye(NUM_VALUES)
    away = x - (np.asarray(z_mean, np.float64) @ W + offset(given))
    distance = (away @ np.linalg.inv(covariance) * away).sum(-1)
    return -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1])


def manifest(name: str) -> dict:
    conditions, prior_name, _ = MODELS[name]
    known = {
        "label": {"name": "label", "kind": "categorical", "classes": CLASSES},
        "tilt": {"name": "tilt", "kind": "continuous", "range": [-1.0, 1.0]},
    }
    return {
        "format": 1,
        "model_id": f"{sum(name.encode()):064x}",
        "name": name,
        "kind": "conditional-vae" if conditions else "vae",
        "latent_dim": LATENT_DIM,
        "data": {"kind": "vector", "shape": [NUM_VALUES], "range": None},
        "conditions": [known[each] for each in conditions],
        "likelihood": {"name": "gaussian", "sigma": SIGMA},
        "prior": {"name": prior_name} | ({"log_weights": LOG_WEIGHTS} if prior_name == "gaussian_mixture" else {}),
        "training": None,
    }


def build(name: str, graph: str) -> bytes:
    """Return the bytes of one sealed file."""
    sys.path.insert(0, str(DATA.parents[1] / "serve_cli"))
    from kvae_serve.sealed.file import seal
    from kvae_serve.sealed.golden import golden_inputs, record
    from kvae_serve.sealed.manifest import Manifest

    conditions, _, exact = MODELS[name]
    plain = manifest(name) | {"graph": graph}
    model, inputs = _onnx_model(name, graph)
    feeds = golden_inputs(Manifest.from_dict(plain), inputs)
    given = {each: feeds[each] for each in conditions}
    outputs = {
        "decoder": lambda: decode(feeds["z"], given),
        "encoder": lambda: encode(feeds["x"], given, exact),
        "likelihood": lambda: log_likelihood(feeds["x"], feeds["z"], given),
        "prior": lambda: prior(feeds["label"] if "label" in feeds else feeds["component"]),
    }[graph]()
    return seal(model, plain | {"golden": record(outputs, TOLERANCE)})


def _onnx_model(name: str, graph: str) -> tuple[bytes, list[str]]:
    from onnx import TensorProto, helper, numpy_helper

    conditions, _, exact = MODELS[name]
    tensors: dict[str, np.ndarray] = {}
    nodes = []

    def node(op: str, output: str, *arguments: object, **attributes: object) -> str:
        names = []
        for argument in arguments:
            if isinstance(argument, str):
                names.append(argument)
            else:
                value = np.asarray(argument)
                tensors[f"c{len(tensors)}"] = value if value.dtype == np.int64 else value.astype(np.float32)
                names.append(f"c{len(tensors) - 1}")
        nodes.append(helper.make_node(op, names, [output], **attributes))
        return output

    def shift(op: str, values: str, to: str) -> str:
        """Add or subtract bias and conditions."""
        values = node(op, f"{to}_bias", values, BIAS)
        if "label" in conditions:
            values = node(op, f"{to}_label", values, node("Gather", f"{to}_class", C, "label"))
        if "tilt" in conditions:
            column = node("Unsqueeze", f"{to}_column", "tilt", np.array([1], np.int64))
            values = node(op, f"{to}_tilt", values, node("Mul", f"{to}_tilted", column, T))
        return values

    given = list(conditions)
    latent, values = ("batch", LATENT_DIM), ("batch", NUM_VALUES)
    outputs: dict[str, tuple]
    if graph == "encoder":
        inputs, outputs = ["x", *given], {"z_mean": latent, "z_log_var": latent}
        factor = (1 if exact else SHRUNK) / SIGMA**2 / PRECISION
        mean = node("MatMul", "z_mean", shift("Sub", "x", "away"), W.T * factor)
        node("Add", "z_log_var", node("Mul", "zero", mean, 0.0), -np.log(PRECISION) + (0 if exact else np.log(LOOSE)))
    elif graph == "prior":
        inputs = [*given] if given else ["component"]
        outputs = {"z_mean": latent, "z_log_var": latent}
        node("Gather", "z_mean", M, inputs[0])
        node("Gather", "z_log_var", L, inputs[0])
    else:
        x_mean = node("Identity", "x_mean", shift("Add", node("MatMul", "zW", "z", W), "x_shifted"))
        if graph == "decoder":
            inputs, outputs = ["z", *given], {"x_mean": values, "x_log_var": values}
            node("Add", "x_log_var", node("Mul", "zero", x_mean, 0.0), 2 * np.log(SIGMA))
        else:
            inputs, outputs = ["x", "z", *given], {"log_likelihood": ("batch",)}
            away = node("Div", "scaled", node("Sub", "away", "x", x_mean), SIGMA)
            each = node("Add", "each", node("Mul", "squares", away, away), np.log(2 * np.pi * SIGMA**2))
            total = node("ReduceSum", "total", each, np.array([1], np.int64), keepdims=0)
            node("Mul", "log_likelihood", total, -0.5)
    shapes = {"x": values, "z": latent}
    kinds = {"label": TensorProto.INT64, "component": TensorProto.INT64}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            graph,
            [
                helper.make_tensor_value_info(each, kinds.get(each, TensorProto.FLOAT), shapes.get(each, ("batch",)))
                for each in inputs
            ],
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in outputs.items()],
            [numpy_helper.from_array(value, each) for each, value in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    return model.SerializeToString(deterministic=True), inputs


if __name__ == "__main__":
    for folder, (_, prior_name, _) in MODELS.items():
        for each in ("encoder", "decoder", "likelihood", "prior")[: 3 if prior_name == "standard_normal" else 4]:
            path = DATA / folder / f"{each}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(build(folder, each))
            print(path, path.stat().st_size)

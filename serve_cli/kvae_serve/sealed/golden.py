"""Golden values: Keras outputs for deterministic inputs, stored in the manifest to verify a file on any machine.

The exporter computes the inputs with `golden_inputs`, runs Keras, and stores the result of `record`. `kvae verify`
computes the same inputs, runs ONNX Runtime, and calls `compare`. The rule for the inputs is in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.sealed import features, noise
from kvae_serve.sealed.manifest import MAX_GOLDEN, Data, Manifest

NUM = 3
SEED = 0

# Likelihoods over integers, whose golden x consists of integers too.
_WHOLE = ("discretized_logistic", "categorical")


class Comparison(NamedTuple):
    """Comparison of one output: the difference and the tolerance at the value that exceeds its tolerance most."""

    output: str
    difference: float
    allowed: float
    ok: bool


def golden_inputs(
    manifest: Manifest, inputs: Iterable[str], seed: int | None = None, num: int | None = None
) -> dict[str, np.ndarray]:
    """Compute the golden inputs of a graph.

    Args:
        manifest: Describes the inputs. Its `golden`, if present, provides seed and num.
        inputs: Names of the inputs of the graph: `x`, `z`, `component`, `feature` and conditions.
        seed: A different seed; the default is that of the manifest, or 0.
        num: A different number of rows; the default is that of the manifest, or 3.

    Returns:
        Name to array: float32 for `x`, `z` and continuous conditions, int64 for the others.

    Raises:
        ValueError: If the manifest does not have a condition of that name.
    """
    golden = manifest.golden or {}
    seed = golden.get("seed", SEED) if seed is None else seed
    num = golden.get("num", NUM) if num is None else num
    inputs = list(inputs)
    data, row = manifest.data, np.arange(num)
    z_words = noise.num_normal_words(manifest.latent_dim) if "z" in inputs else 0
    x_words = _num_x_words(data) if "x" in inputs else 0
    raw = noise.words(seed, noise.STREAM_GOLDEN, 0, num, z_words + x_words)
    arrays: dict[str, np.ndarray] = {}
    for name in inputs:
        condition = manifest.condition(name)
        if name == "z":
            arrays[name] = noise.words_to_normals(raw[:, :z_words], manifest.latent_dim)
        elif name == "x":
            arrays[name] = _golden_x(raw[:, z_words:], data, manifest.likelihood["name"]).reshape(num, *data.shape)
        elif name == "component":
            arrays[name] = (row % manifest.num_components).astype(np.int64)
        elif name == "feature":
            arrays[name] = (row % features.num_features(data.columns)).astype(np.int64)
        elif condition is None:
            raise ValueError(f"Unknown input {name!r}: the manifest does not have a condition of that name.")
        elif condition.categorical:
            arrays[name] = (row % len(condition.classes)).astype(np.int64)
        else:
            low, high = condition.range or (0.0, 1.0)
            arrays[name] = (low + (high - low) * (row + 1) / (num + 1)).astype(np.float32)
    return arrays


def record(
    outputs: Mapping[str, np.ndarray], tolerance: Mapping[str, tuple[Any, float]], seed: int = SEED, num: int = NUM
) -> dict[str, Any]:
    """Return the manifest's `golden`: at most 64 values of each output, at a fixed stride of the flattened array.

    Args:
        outputs: Outputs for the golden inputs, by name.
        tolerance: (atol, rtol) of each output: `|got - want| <= atol + rtol * |want|`. The largest of several atol is
            stored.
        seed: The seed of `golden_inputs`.
        num: The number of rows of `golden_inputs`.
    """
    recorded = {}
    for name, values in outputs.items():
        flat = np.asarray(values, np.float32).ravel()
        stride = -(-flat.size // MAX_GOLDEN)
        atol, rtol = tolerance[name]
        recorded[name] = {
            "stride": stride,
            "values": [float(value) for value in flat[::stride]],
            "atol": float(np.max(atol)),
            "rtol": float(rtol),
        }
    return {"seed": seed, "num": num, "outputs": recorded}


def compare(manifest: Manifest, outputs: Mapping[str, np.ndarray]) -> list[Comparison]:
    """Compare outputs with the golden values of a manifest, one `Comparison` per output in it."""
    comparisons = []
    for name, want in (manifest.golden or {"outputs": {}})["outputs"].items():
        expected = np.array(want["values"], np.float64)
        allowed = want["atol"] + want["rtol"] * np.abs(expected)
        got = np.asarray(outputs.get(name, []), np.float64).ravel()[:: want["stride"]]
        if got.shape != expected.shape:
            comparisons.append(Comparison(name, np.inf, float(allowed.min()), False))
            continue
        difference = np.abs(got - expected)
        difference[np.isnan(difference)] = np.inf
        worst = int(np.argmax(difference - allowed))
        comparisons.append(
            Comparison(name, float(difference[worst]), float(allowed[worst]), bool((difference <= allowed).all()))
        )
    return comparisons


def _num_x_words(data: Data) -> int:
    return data.num_values if data.range is not None else noise.num_normal_words(data.num_values)


def _golden_x(raw: np.ndarray, data: Data, likelihood: str) -> np.ndarray:
    """Return float32 `[num, values]` in data units."""
    if data.range is None:
        x = noise.words_to_normals(raw, data.num_values)
        if data.scale:
            rows = x.astype(np.float64).reshape(len(x), -1, len(data.scale))
            x = (np.array(data.mean) + np.array(data.scale) * rows).astype(np.float32).reshape(x.shape)
    else:
        low, high = data.range
        uniform = noise.words_to_uniforms(raw)
        if likelihood == "bernoulli":
            x = np.where(uniform < 0.5, low, high).astype(np.float32)
        elif likelihood in _WHOLE:
            x = np.floor(low + uniform * (high - low)).astype(np.float32)
        else:
            x = (low + uniform * (high - low)).astype(np.float32)
    for index, column in enumerate(data.columns):
        if column["kind"] == "categorical":
            x[:, index] = np.arange(len(x)) % len(column["classes"])
        elif "scale" in column:
            x[:, index] = column["mean"] + column["scale"] * x[:, index].astype(np.float64)
    return x

"""Golden values: what Keras gave for inputs that are made by rule, kept in the manifest to prove a file where it runs.

The exporter makes the inputs with `golden_inputs`, asks Keras, and keeps what `record` returns. `kvae verify` makes the
same inputs, asks ONNX Runtime, and lets `compare` judge. The rule is in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import MAX_GOLDEN, Data, Manifest

NUM = 3
SEED = 0

# Likelihoods over whole numbers: their golden x is whole as well.
_WHOLE = ("discretized_logistic", "categorical")


class Comparison(NamedTuple):
    """How one output fared: at its worst value, the difference and what was allowed."""

    output: str
    difference: float
    allowed: float
    ok: bool


def golden_inputs(
    manifest: Manifest, inputs: Iterable[str], seed: int | None = None, num: int | None = None
) -> dict[str, np.ndarray]:
    """Make the golden inputs of a graph.

    Args:
        manifest: says what the inputs look like. Its `golden`, where there is one, gives seed and num.
        inputs: names of the graph's inputs: `x`, `z`, `component` and conditions.
        seed: another seed; 0 where nothing says otherwise.
        num: how many rows; 3 where nothing says otherwise.

    Returns:
        Name to array: float32 for `x`, `z` and continuous conditions, int64 for classes and `component`.
    """
    golden = manifest.golden or {}
    seed = golden.get("seed", SEED) if seed is None else seed
    num = golden.get("num", NUM) if num is None else num
    inputs = list(inputs)
    data, row = manifest.data, np.arange(num)
    z_words = noise.num_normal_words(manifest.latent_dim) if "z" in inputs else 0
    x_words = _num_x_words(data) if "x" in inputs else 0
    raw = noise.words(seed, noise.STREAM_GOLDEN, 0, num, z_words + x_words)
    made: dict[str, np.ndarray] = {}
    for name in inputs:
        condition = manifest.condition(name)
        if name == "z":
            made[name] = noise.words_to_normals(raw[:, :z_words], manifest.latent_dim)
        elif name == "x":
            made[name] = _golden_x(raw[:, z_words:], data, manifest.likelihood["name"]).reshape(num, *data.shape)
        elif name == "component":
            made[name] = (row % manifest.num_components).astype(np.int64)
        elif condition is None:
            raise ValueError(f"The manifest has no condition named {name!r}.")
        elif condition.categorical:
            made[name] = (row % len(condition.classes)).astype(np.int64)
        else:
            low, high = condition.range or (0.0, 1.0)
            made[name] = (low + (high - low) * (row + 1) / (num + 1)).astype(np.float32)
    return made


def record(
    outputs: Mapping[str, np.ndarray], tolerance: Mapping[str, tuple[Any, float]], seed: int = SEED, num: int = NUM
) -> dict[str, Any]:
    """Return the manifest's `golden`: at most 64 values of each output, at a fixed stride of the flattened array.

    Args:
        outputs: what the golden inputs gave, by name.
        tolerance: (atol, rtol) for each output: `|got - want| <= atol + rtol * |want|`; of several atol the largest.
        seed: what `golden_inputs` was called with.
        num: likewise.
    """
    kept = {}
    for name, values in outputs.items():
        flat = np.asarray(values, np.float32).ravel()
        stride = -(-flat.size // MAX_GOLDEN)
        atol, rtol = tolerance[name]
        kept[name] = {
            "stride": stride,
            "values": [float(value) for value in flat[::stride]],
            "atol": float(np.max(atol)),
            "rtol": float(rtol),
        }
    return {"seed": seed, "num": num, "outputs": kept}


def compare(manifest: Manifest, outputs: Mapping[str, np.ndarray]) -> list[Comparison]:
    """Hold outputs against the manifest's golden values, one `Comparison` for each output that it names."""
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

"""Inputs and outputs that each graph must have according to its manifest: the table of docs/format.md as code."""

from __future__ import annotations

from kvae_serve.errors import ModelFileError, printable
from kvae_serve.sealed.manifest import MIXTURE_PRIORS, Manifest
from kvae_serve.sealed.validate import TensorInfo

Values = dict[str, tuple[str, tuple[int, ...]]]
"""Name to element type and shape without the batch axis."""


def inputs(manifest: Manifest) -> Values:
    """Return the inputs of the graph of a manifest, in order."""
    x, z = ("float32", manifest.data.shape), ("float32", (manifest.latent_dim,))
    if manifest.graph == "columns":
        return {"feature": ("int64", ())}
    leading: dict[str, Values] = {"encoder": {"x": x}, "decoder": {"z": z}, "prior": {}, "likelihood": {"x": x, "z": z}}
    values = leading[manifest.graph]
    for condition in manifest.conditions:
        values[condition.name] = ("int64" if condition.categorical else "float32", ())
    if manifest.graph == "prior" and manifest.prior["name"] in MIXTURE_PRIORS:
        values["component"] = ("int64", ())
    return values


def outputs(manifest: Manifest) -> Values:
    """Return the outputs that the graph of a manifest must have. A decoder may have more."""
    if manifest.graph == "decoder":
        return {"x_mean": ("float32", manifest.data.shape)}
    if manifest.graph == "likelihood":
        return {"log_likelihood": ("float32", ())}
    if manifest.graph == "columns":
        if manifest.likelihood["name"] != "mixed_autoregressive":
            raise ModelFileError(f"columns.onnx does not belong to a {manifest.likelihood['name']} likelihood.")
        return dict.fromkeys(("embedding", "effect"), ("float32", (manifest.likelihood["width"],)))
    return dict.fromkeys(("z_mean", "z_log_var"), ("float32", (manifest.latent_dim,)))


def check(
    manifest: Manifest, found_inputs: dict[str, TensorInfo], found_outputs: dict[str, TensorInfo], source: str
) -> None:
    """Raise `ModelFileError` if the inputs or outputs of a graph do not match its manifest."""
    expected_inputs, expected_outputs = inputs(manifest), outputs(manifest)
    more = set(found_outputs) - set(expected_outputs)
    if set(found_inputs) != set(expected_inputs) or set(found_outputs) - more != set(expected_outputs):
        raise ModelFileError(
            f"{source} maps {_names(found_inputs)} to {_names(found_outputs)}; {manifest.graph}.onnx must map "
            f"{_names(expected_inputs)} to {_names(expected_outputs)}."
        )
    if more and manifest.graph != "decoder":
        raise ModelFileError(f"{source} has outputs that are not allowed for {manifest.graph}.onnx: {_names(more)}.")
    for name, (dtype, shape) in expected_inputs.items():
        _check_value(name, found_inputs[name], dtype, shape, source)
    for name, (dtype, shape) in expected_outputs.items():
        _check_value(name, found_outputs[name], dtype, shape, source)
    for name in more:
        if found_outputs[name].dtype != "float32" or not found_outputs[name].shape:
            raise ModelFileError(f"{source} has the output {printable(name)}; expected float32 [batch, ...].")


def _check_value(name: str, found: TensorInfo, dtype: str, shape: tuple[int, ...], source: str) -> None:
    fits = len(found.shape) == 1 + len(shape) and all(
        not isinstance(size, int) or size == want for size, want in zip(found.shape[1:], shape, strict=True)
    )
    if found.dtype != dtype or not fits or isinstance(found.shape[0], int):
        raise ModelFileError(
            f"{source} has {printable(name)} as {found.dtype} {printable(list(found.shape))}; "
            f"expected {dtype} {['batch', *shape]}."
        )


def _names(names: object) -> str:
    return ", ".join(printable(name, 40) for name in sorted(names)) or "nothing"  # type: ignore[call-overload]

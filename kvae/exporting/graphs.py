"""Export of a model: its functions as graphs, its manifest, and the sealed ONNX files of both."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

import kvae_export
from kvae.exporting import inspect, metadata, pictures
from kvae.likelihoods import MixedAutoregressive
from kvae.objectives.objectives import Elbo
from kvae.priors import StandardNormal
from kvae_serve.sealed import noise
from kvae_serve.writers import atomic


def kind(model: keras.Model) -> str:
    """Return `vae`, `beta-vae`, `conditional-vae` or `conditional-beta-vae`. The final beta decides."""
    weighted = isinstance(model.objective, Elbo) and model.objective.beta.final != 1.0
    return ("conditional-" if _conditions(model) else "") + ("beta-" if weighted else "") + "vae"


def _conditions(model: keras.Model) -> list:
    return list(getattr(model, "conditions", []))


def manifest(model: keras.Model, name: str, training: Any = None, weights: str = "float32") -> dict[str, Any]:
    """Build the manifest that all graphs of a model share, as JSON: all but `graph` and `golden` (docs/format.md)."""
    document = {
        "format": 1,
        "name": name,
        "kind": kind(model),
        "latent_dim": model.latent_dim,
        "data": model.data.manifest(),
        "conditions": [condition.manifest() for condition in _conditions(model)],
        "likelihood": model.likelihood.manifest(),
        "prior": model.prior.manifest(),
    }
    return {**document, "model_id": _digest(document, model), "weights": weights, "training": training}


def _digest(document: dict[str, Any], model: keras.Model) -> str:
    """Return the SHA-256 of the manifest and the weights, without the names that Keras generates."""
    digest = hashlib.sha256(json.dumps({**document, "name": None}, sort_keys=True).encode())
    for part in (model.encoder, model.decoder, model.prior, model.likelihood, *_conditions(model)):
        for weight in part.weights:
            array = np.ascontiguousarray(ops.convert_to_numpy(weight), dtype="<f4")
            digest.update(f"{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def graphs(model: keras.Model) -> list[kvae_export.Graph]:
    """Return the functions of a model in data units: encoder, decoder, likelihood and learned prior."""
    shape, latent = model.data.shape, (model.latent_dim,)
    conditions_spec = {
        condition.name: ((), "int64" if condition.manifest()["kind"] == "categorical" else "float32")
        for condition in _conditions(model)
    }

    def condition_inputs(conditions: Mapping[str, Any]) -> tuple:
        return (model.condition_vector(conditions),) if conditions else ()

    def encoder(x, **conditions):
        z_mean, z_log_var = model._encode(model.data.to_unit(x), condition_inputs(conditions))
        return {"z_mean": z_mean, "z_log_var": z_log_var}

    def decoder(z, **conditions):
        parameters = model._decode(z, condition_inputs(conditions))
        x_mean = model.data.to_data(model.likelihood.mean(parameters))
        return {"x_mean": x_mean, **model.likelihood.outputs(parameters, model.data)}

    def likelihood(x, z, **conditions):
        parameters = model._decode(z, condition_inputs(conditions))
        nll = model.likelihood.nll(model.data.to_unit(x), parameters)
        return {"log_likelihood": model.data.log_jacobian(model.likelihood) - nll}

    x, z = {"x": (shape, "float32")}, {"z": (latent, "float32")}
    posterior = {"z_mean": latent, "z_log_var": latent}
    functions = [
        kvae_export.Graph("encoder", encoder, {**x, **conditions_spec}, posterior),
        kvae_export.Graph(
            "decoder", decoder, {**z, **conditions_spec}, {"x_mean": shape, **model.likelihood.output_shapes(shape)}
        ),
        kvae_export.Graph("likelihood", likelihood, {**x, **z, **conditions_spec}, {"log_likelihood": ()}),
    ]
    if isinstance(model.likelihood, MixedAutoregressive):
        vectors = dict.fromkeys(("embedding", "effect"), (model.likelihood.width,))
        functions.append(
            kvae_export.Graph("columns", model.likelihood.feature_vectors, {"feature": ((), "int64")}, vectors)
        )
    if isinstance(model.prior, StandardNormal):
        return functions
    component = {"component": ((), "int64")} if model.prior.num_components > 1 else {}
    return [
        *functions,
        kvae_export.Graph("prior", _prior(model, condition_inputs), {**conditions_spec, **component}, posterior),
    ]


def _prior(model: keras.Model, condition_inputs: Callable) -> Callable:
    """Return the Gaussian of the prior given the conditions, or of a mixture the one with the index `component`."""
    if model.prior.num_components == 1:

        def gaussian(**conditions):
            mean, log_var, _ = model.prior.components(condition_inputs(conditions), model._encode)
            return {"z_mean": mean[:, 0], "z_log_var": log_var[:, 0]}

        return gaussian
    # Computed here once, so that the file contains the Gaussians and not the encoder.
    mean, log_var, _ = (ops.convert_to_numpy(part) for part in model.prior.components((), model._encode))

    def mixture(component, **conditions):
        one_hot = ops.one_hot(component, model.prior.num_components, dtype="float32")
        return {"z_mean": ops.matmul(one_hot, mean[0]), "z_log_var": ops.matmul(one_hot, log_var[0])}

    return mixture


def probe(
    model: keras.Model, functions: list[kvae_export.Graph], examples: np.ndarray | None = None
) -> Callable[[str, int], dict[str, np.ndarray]]:
    """Return realistic inputs of the graphs, on which ONNX Runtime is compared with Keras.

    Args:
        model: The model.
        functions: Its graphs.
        examples: Real data `[num, *shape]` in data units. By default, values spread over the range.

    Returns:
        Function of (graph name, batch size) to inputs by name: z from a standard normal, x real or in range, and every
        class in turn.
    """
    names = {graph.name: set(graph.inputs) for graph in functions}

    def inputs(graph: str, batch: int) -> dict[str, np.ndarray]:
        if examples is not None and len(examples) and examples.shape[1:] == model.data.shape:
            x = np.resize(np.asarray(examples[:batch], "float32"), (batch, *model.data.shape))
        else:
            x = model.data.probe(batch)
        if graph == "likelihood" and model.likelihood.kind == "bernoulli":
            low, high = model.data.range
            x = np.where(x > (low + high) / 2, high, low).astype("float32")
        z, _ = noise.latent_noise(1, 0, batch, model.latent_dim)
        rows = np.arange(batch, dtype="int64")
        every = {"x": x, "z": z, "component": rows % model.prior.num_components}
        every["feature"] = rows % getattr(model.likelihood, "num_features", 1)
        for condition in _conditions(model):
            described = condition.manifest()
            if described["kind"] == "categorical":
                every[condition.name] = np.arange(batch, dtype="int64") % len(described["classes"])
            else:
                low, high = described["range"]
                every[condition.name] = np.linspace(low, high, batch, dtype="float32")
        return {name: values for name, values in every.items() if name in names[graph]}

    return inputs


def export(
    model: keras.Model,
    directory: str | Path,
    *,
    name: str | None = None,
    training: dict[str, Any] | None = None,
    examples: np.ndarray | None = None,
    extras: Mapping[str, bytes] | None = None,
    force: bool = False,
    weights: str = "float32",
    trained_on: Any = None,
    held_out: Any = None,
    measured: list | None = None,
) -> list[Path]:
    """Write encoder, decoder and likelihood as sealed ONNX files, with a model card and a preview.

    Each file is opened as `kvae.load` opens it and compared with Keras at batch sizes 1, 7 and 64. If they disagree,
    nothing is written.

    Args:
        model: A `kvae.VAE` or a subclass.
        directory: Folder to create.
        name: Name of the model. By default the name of the folder.
        training: Metadata of the run for the manifest, a dict of JSON values (NumPy numbers too). By default steps,
            seed, beta and versions.
        examples: Real data `[num, *shape]` to compare on. By default, values spread over the range.
        extras: Further files, name to bytes, such as the training configuration.
        force: Replace `directory` if it exists.
        weights: Storage format: `"float32"`, `"float16"` or `"int8"`. Rounded weights make a different model with a
            different `model_id`. The files are compared with Keras at the rounded weights.
        trained_on: Training data x, or a pair of x and its conditions by name. Without `held_out`, the manifest
            contains quantiles of their elbo. More new data than stated may lie below them.
        held_out: The same for data that was not trained on. The manifest then contains quantiles of their elbo, which
            `kvae score` uses to detect anomalies, and the card shows the elbo that rounded weights cost.
        measured: List to which the table of size, time and difference is appended, header first. float32 weights are
            measured only if it is given, weights that the export rounds always.

    Returns:
        Paths of the files.

    Raises:
        RequestError: If a layer does not have an ONNX form. The message names the layer.
        VerificationError: If ONNX Runtime does not reproduce Keras, or if rounded weights do not pay.
        OutputError: If `directory` exists or cannot be written.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Export needs the TensorFlow backend, got {keras.backend.backend()}. Save the model, then load and export "
            "it with KERAS_BACKEND=tensorflow. `kvae export` does this for a run."
        )
    mixed = next((layer for layer in model._flatten_layers() if layer.compute_dtype != "float32"), None)
    if mixed is not None:
        raise ValueError(
            f"The layer {mixed.name} computes in {mixed.compute_dtype}; exported files compute in float32. Build the "
            "model again under keras.config.set_dtype_policy('float32') and copy the weights."
        )
    from kvae.exporting import quantize  # imports onnx, which JAX and PyTorch train without

    directory = Path(directory)
    name = name or directory.resolve().name
    training = metadata.from_model(model) if training is None else _plain(training)
    quantize.check(weights)
    atomic.check_target(directory, force)

    def write(form: str, folder: Path, **options: Any) -> list[Path]:
        with quantize.rounded(model, form), unrolled(model):
            functions = graphs(model)
            shared, inputs = manifest(model, name, training, form), probe(model, functions, examples)
            return kvae_export.write(
                functions, shared, folder, parity_inputs=inputs, preview=pictures.samples(model, (name,)), **options
            )

    with tempfile.TemporaryDirectory() as temporary:
        float32_folder = None
        if weights != "float32" and not quantize.is_rounded(model, weights):
            float32_folder = Path(temporary) / "float32"
            write("float32", float32_folder)
            measured = [] if measured is None else measured
        inspector = inspect.inspector(float32_folder, trained_on, held_out, measured, model.data.kind)
        return write(weights, directory, extras=extras, force=force, inspect=inspector)


def check(model: keras.Model) -> None:
    """Export a model to a temporary folder, to detect before training that it cannot be exported.

    Raises:
        RequestError: If a layer does not have an ONNX form. The message names the layer.
        VerificationError: If ONNX Runtime does not reproduce Keras.
    """
    with tempfile.TemporaryDirectory() as temporary:
        export(model, Path(temporary) / "model")


@contextlib.contextmanager
def unrolled(model: keras.Model) -> Iterator[None]:
    """Unroll recurrent layers over time: sealed files contain no loops. An LSTM without a mask is an operator."""
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.RNN) and not isinstance(layer, keras.layers.LSTM) and not layer.unroll
    ]
    for layer in layers:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in layers:
            layer.unroll = False


def _plain(value: Any) -> Any:
    """Convert NumPy numbers and arrays in a tree to JSON values."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value

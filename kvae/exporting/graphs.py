"""Which functions of a model become graphs, what its manifest says, and the export of both."""

import hashlib
import json
import tempfile

import keras
import numpy as np
from keras import ops

from kvae.exporting import inspect, metadata, quantize
from kvae.objectives.objectives import Elbo
from kvae.priors import StandardNormal
from kvae_serve.sealed import noise as serve_noise
from kvae_serve.writers import atomic


def kind(model):
    """`vae`, `beta-vae`, `conditional-vae` or `conditional-beta-vae`, by where beta ends, not how it warms up."""
    weighted = isinstance(model.objective, Elbo) and model.objective.beta.final != 1.0
    return ("conditional-" if _conditions(model) else "") + ("beta-" if weighted else "") + "vae"


def _conditions(model):
    return list(getattr(model, "conditions", []))


def manifest(model, name, training=None, weights="float32"):
    """The manifest that all graphs of `model` share, as JSON, `graph` and `golden` excepted (docs/format.md)."""
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


def _digest(document, model):
    """SHA-256 of what the model is and of its weights, free of the names that Keras makes up."""
    digest = hashlib.sha256(json.dumps({**document, "name": None}, sort_keys=True).encode())
    for part in (model.encoder, model.decoder, model.prior, model.likelihood, *_conditions(model)):
        for weight in part.weights:
            array = np.ascontiguousarray(ops.convert_to_numpy(weight), dtype="<f4")
            digest.update(f"{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def graphs(model):
    """The model's functions as `kvae_export.Graph`s in data units: encoder, decoder, likelihood, learned prior."""
    from kvae_export import Graph

    shape, latent = model.data.shape, (model.latent_dim,)
    given = {
        condition.name: ((), "int64" if condition.manifest()["kind"] == "categorical" else "float32")
        for condition in _conditions(model)
    }

    def networks_see(conditions):
        return (model.condition_vector(conditions),) if conditions else ()

    def encoder(x, **conditions):
        z_mean, z_log_var = model._encode(model.data.to_unit(x), networks_see(conditions))
        return {"z_mean": z_mean, "z_log_var": z_log_var}

    def decoder(z, **conditions):
        parameters = model._decode(z, networks_see(conditions))
        x_mean = model.data.to_data(model.likelihood.mean(parameters))
        return {"x_mean": x_mean, **model.likelihood.outputs(parameters, model.data)}

    def likelihood(x, z, **conditions):
        parameters = model._decode(z, networks_see(conditions))
        nll = model.likelihood.nll(model.data.to_unit(x), parameters)
        return {"log_likelihood": model.data.log_jacobian(model.likelihood) - nll}

    x, z = {"x": (shape, "float32")}, {"z": (latent, "float32")}
    posterior = {"z_mean": latent, "z_log_var": latent}
    made = [
        Graph("encoder", encoder, {**x, **given}, posterior),
        Graph("decoder", decoder, {**z, **given}, {"x_mean": shape, **model.likelihood.output_shapes(shape)}),
        Graph("likelihood", likelihood, {**x, **z, **given}, {"log_likelihood": ()}),
    ]
    if isinstance(model.prior, StandardNormal):
        return made
    component = {"component": ((), "int64")} if model.prior.num_components > 1 else {}
    return [*made, Graph("prior", _prior(model, networks_see), {**given, **component}, posterior)]


def _prior(model, networks_see):
    """The prior's Gaussian, given the conditions, or the one that `component` picks of a mixture."""
    if model.prior.num_components == 1:

        def gaussian(**conditions):
            mean, log_var, _ = model.prior.components(networks_see(conditions), model._encode)
            return {"z_mean": mean[:, 0], "z_log_var": log_var[:, 0]}

        return gaussian
    # Encoded once, here: the file holds the Gaussians, not the encoder.
    mean, log_var, _ = (ops.convert_to_numpy(part) for part in model.prior.components((), model._encode))

    def mixture(component, **conditions):
        one_hot = ops.one_hot(component, model.prior.num_components, dtype="float32")
        return {"z_mean": ops.matmul(one_hot, mean[0]), "z_log_var": ops.matmul(one_hot, log_var[0])}

    return mixture


def probe(model, wanted, examples=None):
    """Inputs that look like what the graphs will see, for the proof that ONNX Runtime reproduces Keras.

    Args:
        model: the model.
        wanted: the graphs.
        examples: real data `[num, *shape]` in data units; values spread over the range where there are none.

    Returns:
        A function of (graph name, batch size) to the inputs by name: z from the prior, x real or in range, each
        class in turn.
    """
    names = {graph.name: set(graph.inputs) for graph in wanted}

    def inputs(graph, batch):
        if examples is not None and len(examples) and examples.shape[1:] == model.data.shape:
            x = np.resize(np.asarray(examples[:batch], "float32"), (batch, *model.data.shape))
        else:
            x = model.data.probe(batch)
        if graph == "likelihood" and model.likelihood.kind == "bernoulli":
            low, high = model.data.range
            x = np.where(x > (low + high) / 2, high, low).astype("float32")
        z, _ = serve_noise.latent_noise(1, 0, batch, model.latent_dim)
        every = {"x": x, "z": z, "component": np.arange(batch, dtype="int64") % model.prior.num_components}
        for condition in _conditions(model):
            facts = condition.manifest()
            if facts["kind"] == "categorical":
                every[condition.name] = np.arange(batch, dtype="int64") % len(facts["classes"])
            else:
                low_value, high_value = facts["range"]
                every[condition.name] = np.linspace(low_value, high_value, batch, dtype="float32")
        return {name: values for name, values in every.items() if name in names[graph]}

    return inputs


def preview(model, columns=10, seed=0):
    """A grid of samples, one row a class (or ten rows), as PNG bytes; None where the data are no pictures.

    Args:
        model: the model.
        columns: samples a row.
        seed: of z, drawn as `kvae sample` draws it.
    """
    from kvae_serve.writers import grid, png

    if model.data.kind != "image" or model.data.shape[-1] not in (1, 3):
        return None
    rows = next((c.num_classes for c in _conditions(model) if c.manifest()["kind"] == "categorical"), 10)
    given = {}
    if conditions := _conditions(model):
        z = np.tile(serve_noise.latent_noise(seed, 0, columns, model.latent_dim)[0], (rows, 1))
        for condition in conditions:
            facts = condition.manifest()
            num = len(facts.get("classes", ())) or 1
            values = np.repeat(np.arange(rows), columns) % num
            given[condition.name] = values if num > 1 else np.full(rows * columns, np.mean(facts["range"]), "float32")
    else:
        z = serve_noise.latent_noise(seed, 0, rows * columns, model.latent_dim)[0]
    vector = (model.condition_vector(given),) if given else ()
    images = ops.convert_to_numpy(model.data.to_data(model.likelihood.mean(model._decode(z, vector))))
    return png.encode(grid.grid(images, columns, model.data.range))


def export(
    model,
    directory,
    *,
    name=None,
    training=None,
    examples=None,
    extras=None,
    force=False,
    weights="float32",
    trained_on=None,
    held_out=None,
    measured=None,
):
    """Write encoder, decoder and likelihood as sealed ONNX files, with a model card and a preview.

    Each file is first run by the reader that serves it and compared with Keras at batch sizes 1, 3 and 64; nothing
    appears at `directory` unless all of them agree.

    Args:
        model: a `kvae.VAE` or one of its kin.
        directory: the folder to make.
        name: the model's name; by default the folder's.
        training: facts of the run for the manifest, a dict of JSON values (NumPy numbers too); by default what the
            model itself knows: steps, seed, beta, versions.
        examples: real data `[num, *shape]` to compare on; in-range values by default.
        extras: more files for people, name to bytes, such as the training configuration.
        force: replace `directory` if it exists.
        weights: how the files store them: `"float32"`, `"float16"` or `"int8"`. Rounded weights are another model, of
            another `model_id`: the files are proved against Keras with the same rounded weights.
        trained_on: training data `x`, or a pair of it and its conditions by name: the manifest gets quantiles of their
            elbo, by which `kvae score` tells anomalies.
        held_out: likewise, data that was not trained on: the card says what the weights' form costs in elbo.
        measured: a list that receives the lines of the card's table of size, time and difference (the head first).
            Float32 weights are measured only where it is given, others always.

    Returns:
        Paths of what was written.

    Raises:
        RequestError: where a layer has no ONNX form; the message names it.
        VerificationError: where ONNX Runtime does not reproduce Keras, or rounded weights win nothing.
        OutputError: where `directory` exists or cannot be written.
    """
    from pathlib import Path

    import kvae_export as exporter

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Export runs on TensorFlow, this process on {keras.backend.backend()}: save the model, then load and "
            "export it in a process with KERAS_BACKEND=tensorflow; kvae export does that with a run."
        )
    mixed = next((layer for layer in model._flatten_layers() if layer.compute_dtype != "float32"), None)
    if mixed is not None:
        raise ValueError(
            f"{mixed.name} computes in {mixed.compute_dtype}, a file holds float32: build the model again "
            "under keras.config.set_dtype_policy('float32') and give it these weights."
        )
    name = name or Path(directory).resolve().name
    training = metadata.from_model(model) if training is None else _plain(training)
    quantize.check(weights)
    atomic.refuse_existing(Path(directory), force)

    def write(form, folder, **more):
        with quantize.rounded(model, form):
            made = graphs(model)
            shared, inputs = manifest(model, name, training, form), probe(model, made, examples)
            return exporter.write(made, shared, folder, parity_inputs=inputs, preview=preview(model), **more)

    with tempfile.TemporaryDirectory() as aside:
        whole = None
        if weights != "float32":
            whole = Path(aside) / "float32"
            write("float32", whole)
            measured = [] if measured is None else measured
        inspector = inspect.inspector(whole, trained_on, held_out, measured, model.data.kind)
        return write(weights, directory, extras=extras, force=force, inspect=inspector)


def _plain(value):
    """JSON values of a tree that may hold NumPy numbers and arrays."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value

"""Gaussian mixture that is fitted to the posteriors of an exported model, and becomes the prior of a copy of it.

A VAE does not fill its prior evenly, so part of the samples are decoded from z that no example has. The average
posterior of the training data is the best prior of a trained model (Hoffman and Johnson 2016, ELBO surgery).
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kvae import mixtures
from kvae_serve.errors import InputDataError, RequestError, VerificationError, printable
from kvae_serve.numbers import integer
from kvae_serve.readers.dataset import evenly_spaced

if TYPE_CHECKING:
    from kvae_serve.model import Model

COMPONENTS, COMPONENTS_PER_CLASS = 100, 40
"""Default number of Gaussians: of the whole mixture, and of each class."""

_EXAMPLES_PER_DIM = 5
"""Least number of examples per Gaussian and latent dimension, if the number of Gaussians is a default."""

_MAX_FITTED, _MIN_DRAWS, _MAX_MEASURED = 60_000, 20_000, 1_000
_NUM_SAMPLES = 100
_MOST = 999_999


class Request(NamedTuple):
    """Kind of mixture: one for each class or one for all, and the number of Gaussians (None: chosen by the data)."""

    per_class: bool = False
    num_components: int | None = None


class FittedPrior(NamedTuple):
    """Result of `fit_prior`.

    Attributes:
        paths: Paths of the files, graphs first.
        about: Number of Gaussians and of examples, as JSON.
        metrics: elbo and nll of the model with its former and with its new prior, in nats per example.
        conditions: Conditions of the model, as in the manifest.
    """

    paths: list[Path]
    about: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    conditions: list[dict[str, Any]]

    def lines(self) -> list[str]:
        """Return the metrics as lines of text."""
        rows = [("Prior", "elbo", "nll"), *((name, *map(_nats, row.values())) for name, row in self.metrics.items())]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return [*table, f"In nats per example, on {self.about['measured']} examples that the mixture is not fitted to."]


def parse(text: str) -> Request:
    """Read `gmm`, `gmm:K`, `gmm-per-class` or `gmm-per-class:K`.

    Raises:
        RequestError: The text is none of them.
    """
    match = re.fullmatch(r"gmm(-per-class)?(?::(\d{1,6}))?", text)
    if match is None or match[2] == "0":
        raise RequestError(
            f"The prior is {printable(text, 60)!r}; expected gmm, gmm:K, gmm-per-class or gmm-per-class:K."
        )
    return Request(bool(match[1]), int(match[2]) if match[2] else None)


def fit_prior(
    model: str | Path | Model,
    directory: str | Path,
    x: Any,
    conditions: Any = None,
    *,
    per_class: bool = False,
    num_components: int | None = None,
    held_out: Any = None,
    seed: int = 0,
    name: str | None = None,
    force: bool = False,
    measure: Callable[[Model], object] = lambda model: None,
) -> FittedPrior:
    """Fit a Gaussian mixture to the posteriors of training data, and write a copy of the model with it as the prior.

    Encoder and decoder do not change, so it takes seconds. Samples resemble the data more.

    Args:
        model: An exported model with encoder, decoder and likelihood: a loaded one, a folder or a shipped name.
        directory: Folder to create.
        x: Training data `[num, *shape]` in data units. At most 60,000 examples, evenly spaced, are used.
        conditions: Each condition by name, `[num]`; classes as indices.
        per_class: Fit a mixture to each class of the categorical condition. All have the same weights.
        num_components: Number of Gaussians, of each class if `per_class`. By default 100, or 40 of each class, and
            fewer for few examples.
        held_out: Pair of validation data x and conditions, to measure on and for the quantiles of `kvae score`. By
            default up to 1,000 examples of `x` are not fitted but measured, and the quantiles are of all of `x`.
        seed: Seed of the draws from the posteriors and of the initial means.
        name: Name of the copy; by default that of the model.
        force: Replace `directory` if it exists. It may be the folder of the model.
        measure: Called with the new model before the files appear.

    Returns:
        The files, and the elbo and the nll (100 draws) with and without the mixture.

    Raises:
        RequestError: The model does not have a class condition, or an argument is out of range.
        InputDataError: The data do not fit the model, or a class has too few examples.
        VerificationError: The mixture makes the nll worse. Nothing is written.

    Example:
        >>> data = kvae.data.load("mnist-sample")
        >>> fitted = kvae.fit_prior("mnist", "mnist-gmm", data.x, data.conditions, num_components=5)
        >>> kvae.load("./mnist-gmm").manifest.prior["name"]
        'gaussian_mixture'
    """
    import kvae_export.folder
    from kvae.exporting import inspect
    from kvae_serve.model import load
    from kvae_serve.runtime import conditions as conditions_of
    from kvae_serve.writers import atomic

    atomic.check_target(directory, force)
    if num_components is not None:
        num_components = integer(num_components, "num_components", 1, _MOST)
    seed = integer(seed, "seed", 0)
    if held_out is not None and (not isinstance(held_out, Sequence) or len(held_out) != 2):
        raise RequestError("held_out is not a pair; expected (x, conditions), with None for no conditions.")
    for each in (conditions, None if held_out is None else held_out[1]):
        if each is not None and not isinstance(each, Mapping):
            raise RequestError(
                f"conditions is a {type(each).__name__}; expected each condition by name, such as {{'label': labels}}."
            )
    model = load(model) if isinstance(model, (str, Path)) else model
    for graph in ("encoder", "decoder", "likelihood"):
        model.need(graph)
    x = np.asarray(x) if isinstance(x, Sequence) else x
    if len(x) < (fewest := 2 if held_out is None else 1):
        raise InputDataError(f"The number of examples in x is {len(x)}; expected at least {fewest}.")
    condition = _class_condition(model) if per_class else None
    columns = conditions_of.columns(model.manifest, conditions, len(x))
    scored, split = (x, columns), "training"
    if held_out is not None:
        held_out = held_out[0], conditions_of.columns(model.manifest, held_out[1], len(held_out[0]))
        scored, split = held_out, "validation"
    else:
        x, columns, held_out = _hold_out(x, columns)
    rows = evenly_spaced(len(x), _MAX_FITTED)
    z_mean, z_log_var = _posteriors(model, x, columns, rows)
    labels = np.zeros(len(rows), np.int64) if condition is None else columns[condition.name][rows]
    num_groups = 1 if condition is None else len(condition.classes)
    if num_components is None:
        smallest = min(np.bincount(labels)[np.unique(labels)])
        most = COMPONENTS_PER_CLASS if per_class else COMPONENTS
        num_components = int(min(most, max(1, smallest // (_EXAMPLES_PER_DIM * z_mean.shape[1]))))
    groups = _draws(z_mean, z_log_var, labels, None if condition is None else condition.classes, num_components, seed)
    mixture = mixtures.fit(list(groups.values()), num_components, seed)
    # A class without examples keeps N(0, I).
    mean, log_var = np.zeros((2, num_groups, num_components, z_mean.shape[1]), np.float32)
    mean[list(groups)], log_var[list(groups)] = mixture.mean, mixture.log_var
    about = {"components": num_components, "per_class": per_class, "examples": len(rows)}
    changes = _changes(model, mixture.log_weights, mean, log_var, about, name)
    metrics: dict[str, dict[str, float]] = {}

    def inspected(new: Model) -> kvae_export.folder.Inspection:
        limited = evenly_spaced(len(held_out[0]), _MAX_MEASURED)
        about["measured"] = len(limited)
        for title, each in (("before", model), ("fitted", new)):
            metrics[title] = _measure(each, held_out[0][limited], _take(held_out[1], limited))
        before, after = metrics["before"]["nll"], metrics["fitted"]["nll"]
        if after > before:
            fewer = f"fewer than {num_components} Gaussians, or more data" if num_components > 1 else "more data"
            raise VerificationError(
                f"The mixture makes the nll worse: {after:.2f} nats, {before:.2f} before. Nothing was written. Use "
                f"{fewer}."
            )
        measure(new)
        entries = {"score": inspect.quantiles(new, scored[0], scored[1] or None, split=split)}
        return _inspection(model, new, entries, metrics, about)

    function = _graph(model, mean, log_var, None if condition is None else condition.name)
    extras = {
        each: Path(model.path, each).read_bytes()
        for each in ("config.toml", "history.csv")
        if Path(model.path, each).is_file()
    }
    paths = kvae_export.folder.replace_prior(
        model, function, changes, directory, parity_inputs=_probe(model, num_components), extras=extras, force=force,
        inspect=inspected,
    )  # fmt: skip
    return FittedPrior(paths, about, metrics, model.manifest.to_dict()["conditions"])


def _class_condition(model: Model) -> Any:
    categorical = [each for each in model.manifest.conditions if each.categorical]
    if len(categorical) != 1:
        names = ", ".join(printable(each.name, 40) for each in categorical) or "none"
        raise RequestError(
            f"A mixture per class needs one condition with classes; {printable(model.manifest.name, 60)} has {names}. "
            "Use gmm for one mixture."
        )
    return categorical[0]


def _hold_out(x: Any, columns: Mapping[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray], tuple[Any, Any]]:
    """Split off a tenth of the examples, at most `_MAX_MEASURED`, evenly spaced."""
    held = evenly_spaced(len(x), max(1, min(_MAX_MEASURED, len(x) // 10)))
    rest = np.setdiff1d(np.arange(len(x)), held)
    return x[rest], _take(columns, rest), (x[held], _take(columns, held))


def _take(columns: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(values)[rows] for name, values in (columns or {}).items()}


def _posteriors(
    model: Model, x: Any, columns: Mapping[str, np.ndarray], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and log variance of q(z|x) of some rows, as the evaluation computes them."""
    from kvae_serve.evaluation.binarization import binarization_mode, binarized
    from kvae_serve.inference.inputs import data_rows
    from kvae_serve.inference.sampling import encode
    from kvae_serve.readers.checks import check_units

    manifest = model.manifest
    mode = binarization_mode(manifest, None)
    check_units(np.asarray(x[:256]), manifest.data.range, "x")
    parts = []
    for start in range(0, len(rows), 1024):
        chosen = rows[start : start + 1024]
        part = binarized(data_rows(x[chosen], manifest.data, start), manifest, mode, 0, start)
        parts.append(encode(model, {"x": part} | _take(columns, chosen)))
    return tuple(np.concatenate([part[name] for part in parts]) for name in ("z_mean", "z_log_var"))  # type: ignore[return-value]


def _draws(
    z_mean: np.ndarray,
    z_log_var: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str] | None,
    num_components: int,
    seed: int,
) -> dict[int, np.ndarray]:
    """Return draws from the posteriors of each class. A small class has several draws from each posterior."""
    random = np.random.default_rng(seed)
    groups = {}
    classes, counts = np.unique(labels, return_counts=True)
    for label, count in zip(classes, counts, strict=True):
        if count < num_components:
            there = f"there are {count}" if names is None else f"class {printable(names[label], 40)} has {count}"
            raise InputDataError(f"{num_components} Gaussians need at least as many examples; {there}. Use fewer.")
        mean, sigma = z_mean[labels == label], np.exp(z_log_var[labels == label] / 2)
        repeats = max(1, _MIN_DRAWS // len(classes) // count)
        groups[int(label)] = (mean + sigma * random.standard_normal((repeats, *mean.shape))).reshape(-1, mean.shape[1])
    return groups


def _changes(
    model: Model,
    log_weights: np.ndarray,
    mean: np.ndarray,
    log_var: np.ndarray,
    about: dict[str, Any],
    name: str | None,
) -> dict[str, Any]:
    """Return the keys of the manifest that differ from those of the model."""
    manifest = model.manifest
    prior = {"name": "gaussian_mixture", "log_weights": [float(each) for each in log_weights]}
    digest = hashlib.sha256(json.dumps([manifest.model_id, prior]).encode())
    for table in (mean, log_var):
        digest.update(table.astype("<f4").tobytes())
    return {
        "name": manifest.name if name is None else name,
        "prior": prior,
        "model_id": digest.hexdigest(),
        "training": {**(manifest.training or {}), "fitted_prior": dict(about)},
    }


def _graph(model: Model, mean: np.ndarray, log_var: np.ndarray, condition: str | None) -> Any:
    """Return the graph of a mixture with means and log variances `[groups, num_components, latent_dim]`."""
    import kvae_export
    from kvae.backends import startup

    startup.open_quietly("tensorflow")
    from keras import ops

    num_components, latent_dim = mean.shape[1:]
    means, log_vars = (table.reshape(-1, latent_dim) for table in (mean, log_var))

    def prior(component: Any, **conditions: Any) -> dict[str, Any]:
        index = component if condition is None else conditions[condition] * num_components + component
        one_hot = ops.one_hot(index, len(means), dtype="float32")
        return {"z_mean": ops.matmul(one_hot, means), "z_log_var": ops.matmul(one_hot, log_vars)}

    inputs: dict[str, Any] = {
        each.name: ((), "int64" if each.categorical else "float32") for each in model.manifest.conditions
    }
    posterior = {"z_mean": (latent_dim,), "z_log_var": (latent_dim,)}
    return kvae_export.Graph("prior", prior, inputs | {"component": ((), "int64")}, posterior)


def _probe(model: Model, num_components: int) -> Callable[[str, int], dict[str, np.ndarray]]:
    """Return inputs of the prior on which ONNX Runtime is compared: every class and component in turn."""

    def inputs(graph: str, batch: int) -> dict[str, np.ndarray]:
        rows = np.arange(batch, dtype=np.int64)
        values: dict[str, np.ndarray] = {"component": rows // 3 % num_components}
        for each in model.manifest.conditions:
            low, high = each.range or (0.0, 1.0)
            values[each.name] = (
                rows % len(each.classes) if each.categorical else np.linspace(low, high, batch, dtype=np.float32)
            )
        return values

    return inputs


def _measure(model: Model, x: Any, columns: Mapping[str, np.ndarray]) -> dict[str, float]:
    from kvae_serve.evaluation import evaluate

    figures = evaluate(model, x, columns or None, importance_samples=_NUM_SAMPLES)["figures"]
    return {name: figures[name]["mean"] for name in ("elbo", "nll")}


def _weights(source: Model) -> list[str]:
    """Return the section about the stored weights of the card of the original model, if it has one."""
    card = Path(source.path, "README.md")
    text = card.read_text("utf-8") if card.is_file() else ""
    section = re.search(r"^## Weights\n.*?(?=^## )", text, re.DOTALL | re.MULTILINE)
    return [f"{section[0].strip()} Bytes and elbo are those before the prior was fitted."] if section else []


def _inspection(
    source: Model,
    model: Model,
    entries: Mapping[str, Any],
    metrics: Mapping[str, Any],
    about: Mapping[str, Any],
) -> Any:
    """Return what the files and the card state about the new model: quantiles of scores, metrics, a preview."""
    from kvae_export.folder import Inspection

    manifest = model.manifest
    kind = f"{about['components']} Gaussians" + (" per class" if about["per_class"] else "")
    rows = [
        "| Prior | elbo | nll |",
        "| --- | --- | --- |",
        f"| before | {_nats(metrics['before']['elbo'])} | {_nats(metrics['before']['nll'])} |",
        f"| fitted, {kind} | {_nats(metrics['fitted']['elbo'])} | {_nats(metrics['fitted']['nll'])} |",
    ]
    section = (
        f"## Prior\n\nThe prior is a mixture of {kind}, fitted after training to draws from the posteriors of "
        f"{about['examples']:,} training examples. Metrics under Training are those before the fit.\n\n"
        + "\n".join(rows)
        + f"\n\nIn nats per example, on {about['measured']} examples that the mixture is not fitted to, by "
        "`kvae export --prior`."
    )
    picture = _preview(model) if manifest.data.kind == "image" and manifest.data.shape[-1] in (1, 3) else None
    return Inspection(entries, (), [*_weights(source), section], {} if picture is None else {"preview.png": picture})


def _preview(model: Model) -> bytes:
    """Draw samples as a PNG file, with a row for each of the first classes."""
    manifest = model.manifest
    values: dict[str, Any] = {}
    for each in manifest.conditions:
        if each.categorical and not values:
            values[each.name] = np.arange(min(30, len(each.classes)))
        else:
            values[each.name] = 0 if each.categorical else float(np.mean(each.range or (0.0, 1.0)))
    draws = model.sample(10 if manifest.conditions else 100, conditions=values or None, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "preview.png")
        draws.save(path)
        return path.read_bytes()


def _nats(value: float) -> str:
    return f"{value:.2f}"

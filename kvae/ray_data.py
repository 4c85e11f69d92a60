"""Bulk inference on several machines with Ray Data: sample, score and encode, with one model per actor.

A draw depends on the seed and its row number only, a score or a code on its example only. All actors together
therefore give the rows of a single process, bit for bit on processors of one kind. `Sampler`, `Scorer` and `Encoder`
are classes for `map_batches`. They run exported files and import neither Keras nor TensorFlow.

```python
import ray
from kvae.ray_data import Scorer, sample

sample("mnist", 100_000, label="all", seed=0).write_parquet("digits")
examples = ray.data.read_parquet("digits")
actors = ray.data.ActorPoolStrategy(size=8)
scores = examples.map_batches(Scorer, fn_constructor_kwargs={"model": "mnist"}, compute=actors, batch_size=1024)
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kvae_serve.errors import InputDataError, MissingExtraError, ModelFileError, printable
from kvae_serve.inference import scoring, thresholds
from kvae_serve.model import Model, load

if TYPE_CHECKING:
    import ray.data

Batch = dict[str, np.ndarray]

ID = "id"
"""Column with the row number of a draw within its job, from 0, as `ray.data.range` names it."""

BATCH_SIZE = 1024
"""Rows per batch of an actor."""


def sample(
    model: str | os.PathLike[str] | Model,
    num: int,
    *,
    seed: int,
    label: Any = None,
    conditions: Mapping[str, Any] | None = None,
    start: int = 0,
    temperature: float = 1.0,
    draw: bool = False,
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> ray.data.Dataset:
    """Return draws as a lazy dataset with the columns `id`, `x`, `z`, and an index or number for each condition.

    Row i equals row i of `kvae.load(model).sample(...)` with the same arguments. Rows arrive in the order in which
    they are finished; `dataset.sort("id")` restores their order.

    Args:
        model: A folder that exists on every node at this path, or the name of a shipped model. An actor that finds a
            different model there raises ModelFileError.
        num: Number of draws per label (or per combination of conditions).
        seed: 0 to 2**64 - 1, the same for all actors.
        label: As in `Model.sample`.
        conditions: As in `Model.sample`.
        start: Index of the first draw per label, for drawing a large set in several jobs.
        temperature: As in `Model.sample`.
        draw: As in `Model.sample`.
        batch_size: Rows per batch of an actor.
        **options: Options of `Dataset.map_batches`, such as `compute=ray.data.ActorPoolStrategy(size=8)`.

    Returns:
        `ray.data.Dataset`; x is `[*data_shape]` in data units and z float32 `[latent_dim]` in each row.

    Raises:
        RequestError: As in `Model.sample`, before any actor starts.
        ModelFileError: If the model does not exist.
        MissingExtraError: If Ray is not installed.
    """
    try:
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"kvae.ray_data.sample needs {error.name}, which is not installed: pip install 'kvae-onnx[ray]'."
        ) from error
    opened = _open(model, 1, None)
    request = {
        "num": num, "seed": seed, "label": label, "conditions": conditions, "start": start,
        "temperature": temperature, "draw": draw,
    }  # fmt: skip
    rows = opened.plan(**request).rows
    return ray.data.range(rows).map_batches(
        Sampler,
        fn_constructor_kwargs={"model": model, "model_id": opened.manifest.model_id, **request},
        batch_size=batch_size,
        **options,
    )


class Sampler:
    """Class for `map_batches` that draws the rows with the numbers in a column `id`, as in `ray.data.range`.

    Args:
        model: Folder, file or name of a shipped model, or the result of `kvae.load`.
        num: Number of draws per label (or per combination of conditions) in the whole job.
        seed: 0 to 2**64 - 1, the same for all actors.
        threads: Threads of one run.
        model_id: Expected id of the model; any model if None.
        **request: `label`, `conditions`, `start`, `temperature` and `draw` of `Model.sample`.

    Example:
        >>> import numpy as np
        >>> from kvae.ray_data import Sampler
        >>> batch = Sampler("mnist", 100, seed=0, label=3)({"id": np.array([7, 8])})
        >>> batch["x"].shape
        (2, 28, 28, 1)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        num: int,
        *,
        seed: int,
        threads: int = 1,
        model_id: str | None = None,
        **request: Any,
    ) -> None:
        self._plan = _open(model, threads, model_id).plan(num, seed=seed, **request)

    def __call__(self, batch: Batch) -> Batch:
        """Return the columns of `batch`, plus `x`, `z` and each condition."""
        return batch | self._plan.at(_column(batch, ID))


class _ExampleActor:
    """Base class of actors that run a model on a column of examples and their conditions."""

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        x: str,
        label: Any,
        conditions: Mapping[str, Any] | None,
        threads: int,
        model_id: str | None,
    ) -> None:
        self._model = _open(model, threads, model_id)
        self._x = x
        self._fixed = self._model.with_label(label, conditions)
        self._rows = 0  # So far; the first batch shows whether pixels were divided by 255.

    def _split(self, batch: Batch) -> tuple[np.ndarray, dict[str, Any], Batch]:
        """Return the examples, their conditions, and all columns except the examples."""
        x = _column(batch, self._x)
        names = [each.name for each in self._model.manifest.conditions]
        in_columns = {name: batch[name] for name in names if name in batch and name not in self._fixed}
        return x, self._fixed | in_columns, {name: values for name, values in batch.items() if name != self._x}


class Scorer(_ExampleActor):
    """Class for `map_batches` that replaces x by `elbo`, `reconstruction` and `kl`, float64 in nats.

    Args:
        model: Folder, file or name of a shipped model, or the result of `kvae.load`.
        x: Column of examples, in data units, each with the shape of the model's data.
        label: Class of all rows; by default the column `label`.
        conditions: Values for all rows, by name of condition; by default the columns of these names.
        num_samples: Draws of z per example. The default is that of `kvae score`: the number behind the quantiles in
            the model, or 16.
        seed: Seed of the draws. The default is that of the quantiles, or 0.
        threshold: Adds a column `anomaly`, True if the elbo is below it: a number of nats, or a quantile such as
            `"q0.01"`.
        threads: Threads of one run.
        model_id: Expected id of the model; any model if None.

    Example:
        >>> import kvae
        >>> from kvae.ray_data import Scorer
        >>> x = kvae.data.load("mnist-sample").x[:2]
        >>> scores = Scorer("mnist", label=3)({"x": x})
        >>> sorted(scores)
        ['elbo', 'kl', 'reconstruction']
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        x: str = "x",
        label: Any = None,
        conditions: Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
        threshold: str | float | None = None,
        threads: int = 1,
        model_id: str | None = None,
    ) -> None:
        super().__init__(model, x, label, conditions, threads, model_id)
        manifest = self._model.manifest
        default = thresholds.draws(manifest)
        self._num_samples = default[0] if num_samples is None else num_samples
        self._seed = default[1] if seed is None else seed
        self._threshold = None
        if threshold is not None:
            self._threshold = thresholds.threshold(str(threshold), manifest, self._num_samples, self._seed).elbo

    def __call__(self, batch: Batch) -> Batch:
        """Return all columns of `batch` except x, plus the scores."""
        x, conditions, others = self._split(batch)
        parts = scoring.stream(
            self._model, x, conditions, num_samples=self._num_samples, seed=self._seed, look_at_units=not self._rows
        )
        scores = scoring.Scores(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        self._rows += len(x)
        anomaly = {} if self._threshold is None else {"anomaly": scores.elbo < self._threshold}
        return others | scores._asdict() | anomaly


class Encoder(_ExampleActor):
    """Class for `map_batches` that replaces x by `z_mean` and `z_log_var`, float32 `[latent_dim]` per row.

    Args:
        model: Folder, file or name of a shipped model, or the result of `kvae.load`.
        x: Column of examples, in data units, each with the shape of the model's data.
        label: Class of all rows; by default the column `label`.
        conditions: Values for all rows, by name of condition; by default the columns of these names.
        threads: Threads of one run.
        model_id: Expected id of the model; any model if None.

    Example:
        >>> import kvae
        >>> from kvae.ray_data import Encoder
        >>> x = kvae.data.load("mnist-sample").x[:2]
        >>> Encoder("mnist", label=3)({"x": x})["z_mean"].shape
        (2, 16)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        x: str = "x",
        label: Any = None,
        conditions: Mapping[str, Any] | None = None,
        threads: int = 1,
        model_id: str | None = None,
    ) -> None:
        super().__init__(model, x, label, conditions, threads, model_id)

    def __call__(self, batch: Batch) -> Batch:
        """Return all columns of `batch` except x, plus `z_mean` and `z_log_var`."""
        x, conditions, others = self._split(batch)
        feeds = self._model.feeds(conditions, None, x=x, first=self._rows)
        self._rows += len(x)
        return others | self._model.run("encoder", feeds, outputs=["z_mean", "z_log_var"])


def _open(model: str | os.PathLike[str] | Model, threads: int, model_id: str | None) -> Model:
    opened = model if isinstance(model, Model) else load(model, threads=threads)
    actual = opened.manifest.model_id
    if model_id is not None and actual != model_id:
        raise ModelFileError(
            f"{printable(opened.path)} is a different model on this node, {actual[:12]}, expected {model_id[:12]}. "
            "Copy the same files to every node."
        )
    return opened


def _column(batch: Batch, name: str) -> np.ndarray:
    if name not in batch:
        raise InputDataError(
            f"A batch does not have the column {printable(name, 40)}; its columns are "
            f"{', '.join(printable(each, 40) for each in batch)}. Rename one, or name it with x."
        )
    values = batch[name]
    if values.dtype.kind == "O" and len(values):  # A column of lists; some file formats store arrays like this.
        try:
            return np.stack([np.asarray(each) for each in values])
        except ValueError as error:
            raise InputDataError(f"{printable(name, 40)} has rows of different shapes, expected one shape.") from error
    return values

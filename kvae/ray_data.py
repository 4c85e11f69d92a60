"""Bulk inference past one machine, on Ray Data: draw, score and encode, with the model opened once per actor.

What is drawn depends on the seed and the row's number alone, a score or a code on its example alone: all actors
together make what one process makes, bit for bit on processors of one kind. `Sampler`, `Scorer` and `Encoder` are
classes for `map_batches`; they run the exported files, so neither Keras nor TensorFlow is opened.

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

from kvae_serve.errors import InputDataError, MissingExtraError, ModelFileError, printable
from kvae_serve.model import Model, load

if TYPE_CHECKING:
    import numpy as np
    import ray.data

    Batch = dict[str, np.ndarray]

ID = "id"
"""Column of a draw's number among all of its job, 0 on: what `ray.data.range` calls it."""

BATCH_SIZE = 1024
"""Rows that an actor is handed at a time; it runs them some at a time."""


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
    """Return draws as a dataset, made when it is consumed: `id`, `x`, `z`, and an index or number of each condition.

    Row i is row i of `kvae.load(model).sample(...)` with the same arguments, label by label. Rows come in the order in
    which they are done; `dataset.sort("id")` brings them into their own.

    Args:
        model: a folder that every node has at this path, or the name of a shipped model. An actor that finds another
            model there refuses it.
        num: how many for each label (or each combination of conditions).
        seed: 0 to 2**64 - 1. All actors need the same one, so it is to be given.
        label: as of `Model.sample`.
        conditions: as of `Model.sample`.
        start: index of the first row of each label, so that parts of a job equal the whole.
        temperature: as of `Model.sample`.
        draw: as of `Model.sample`.
        batch_size: rows that an actor is handed at a time.
        options: of `Dataset.map_batches`, such as `compute=ray.data.ActorPoolStrategy(size=8)`.

    Raises:
        RequestError: as of `Model.sample`, before any actor starts.
        ModelFileError: there is no such model here.
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"kvae.ray_data.sample needs {error.name}, which is not installed: pip install 'kvae-onnx[ray]'."
        ) from error
    opened = _open(model, 1, None)
    given = {
        "num": num, "seed": seed, "label": label, "conditions": conditions, "start": start,
        "temperature": temperature, "draw": draw,
    }  # fmt: skip
    rows = opened.plan(**given).rows
    return ray.data.range(rows).map_batches(
        Sampler,
        fn_constructor_kwargs={"model": model, "model_id": opened.manifest.model_id, **given},
        batch_size=batch_size,
        **options,
    )


class Sampler:
    """Draws the rows whose numbers it is handed, in a column `id` as `ray.data.range` makes it.

    Args:
        model: folder, file or name of a shipped model, or what `kvae.load` gave.
        num: how many there are of each label (or each combination of conditions) in the whole job.
        seed: 0 to 2**64 - 1, one for all actors.
        threads: threads within one run.
        model_id: refuse a model with another one.
        request: `label`, `conditions`, `start`, `temperature` and `draw` of `Model.sample`.
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
        """Return the columns of `batch` with `x`, `z` and each condition beside them."""
        return batch | self._plan.at(_column(batch, ID))


class _OverExamples:
    """What runs a model on a column of examples and their conditions."""

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
        self._said = self._model.with_label(label, conditions)
        self._seen = 0  # Rows; the first batch tells whether pixels were divided by 255.

    def _take(self, batch: Batch) -> tuple[np.ndarray, dict[str, Any], Batch]:
        """Return the examples, their conditions, and the columns that stay."""
        x = _column(batch, self._x)
        names = [each.name for each in self._model.manifest.conditions]
        in_columns = {name: batch[name] for name in names if name in batch and name not in self._said}
        return x, self._said | in_columns, {name: values for name, values in batch.items() if name != self._x}


class Scorer(_OverExamples):
    """Scores examples: adds `elbo`, `reconstruction` and `kl`, float64 in nats, to their columns, and drops x.

    Args:
        model: folder, file or name of a shipped model, or what `kvae.load` gave.
        x: the column of examples, in data units, each shaped as the model's data.
        label: class of all rows; a column `label` where None. So for each condition.
        conditions: a value for all rows, by name of condition.
        num_samples: draws of z; 16, or what the model's quantiles hold for, where None, as `kvae score` has it.
        seed: of the draws; 0, or as above, where None.
        threshold: adds `anomaly`, whether the elbo is below that: a number of nats, or a quantile such as `"q0.01"`.
        threads: threads within one run.
        model_id: refuse a model with another one.
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
        from kvae_serve.inference import scoring, thresholds

        super().__init__(model, x, label, conditions, threads, model_id)
        manifest = self._model.manifest
        kept = thresholds.draws(manifest) or (scoring.NUM_SAMPLES, scoring.SEED)
        self._samples = kept[0] if num_samples is None else num_samples
        self._seed = kept[1] if seed is None else seed
        self._below = None
        if threshold is not None:
            self._below = thresholds.threshold(str(threshold), manifest, self._samples, self._seed).elbo

    def __call__(self, batch: Batch) -> Batch:
        """Return the columns of `batch` but x, and the scores beside them."""
        import numpy as np

        from kvae_serve.inference import scoring

        x, conditions, others = self._take(batch)
        parts = scoring.stream(
            self._model, x, conditions, num_samples=self._samples, seed=self._seed, look_at_units=not self._seen
        )
        scores = scoring.Scores(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        self._seen += len(x)
        anomaly = {} if self._below is None else {"anomaly": scores.elbo < self._below}
        return others | scores._asdict() | anomaly


class Encoder(_OverExamples):
    """Encodes examples: adds `z_mean` and `z_log_var`, float32 `[latent_dim]` a row, to their columns, and drops x.

    Args:
        model: folder, file or name of a shipped model, or what `kvae.load` gave.
        x: the column of examples, in data units, each shaped as the model's data.
        label: class of all rows; a column `label` where None. So for each condition.
        conditions: a value for all rows, by name of condition.
        threads: threads within one run.
        model_id: refuse a model with another one.
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
        """Return the columns of `batch` but x, and the codes beside them."""
        x, conditions, others = self._take(batch)
        feeds = self._model.feeds(conditions, None, x=x, first=self._seen)
        self._seen += len(x)
        return others | self._model.run("encoder", feeds, wanted=["z_mean", "z_log_var"])


def _open(model: str | os.PathLike[str] | Model, threads: int, model_id: str | None) -> Model:
    opened = model if isinstance(model, Model) else load(model, threads=threads)
    found = opened.manifest.model_id
    if model_id is not None and found != model_id:
        raise ModelFileError(
            f"{printable(opened.path)} is another model on this node, {found[:12]}, expected {model_id[:12]}. Copy "
            "the same files to every node."
        )
    return opened


def _column(batch: Batch, name: str) -> np.ndarray:
    if name not in batch:
        raise InputDataError(
            f"A batch has no column {printable(name, 40)}, but {', '.join(printable(each, 40) for each in batch)}. "
            "Rename one, or say which by x."
        )
    values = batch[name]
    if values.dtype.kind == "O" and len(values):  # A column of lists, as some files hold arrays.
        import numpy as np

        try:
            return np.stack([np.asarray(each) for each in values])
        except ValueError as error:
            raise InputDataError(
                f"{printable(name, 40)} has rows of different shapes, expected one for all."
            ) from error
    return values

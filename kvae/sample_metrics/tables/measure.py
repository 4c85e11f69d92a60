"""Quality of a model's rows from paths, as in `kvae evaluate --sample-metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics.matched_samples import like
from kvae.sample_metrics.tables.columns import position
from kvae.sample_metrics.tables.comparison import table_figures
from kvae_serve import cells
from kvae_serve.errors import InputDataError, MissingExtraError, RequestError, printable
from kvae_serve.numbers import is_integer
from kvae_serve.readers import MissingSplitError, read_for
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.sealed.noise import MAX_SEED

NUM, MIN_ROWS = 5000, 30
"""Default and least number of samples, and of test rows."""


class MeasuredTable(NamedTuple):
    """Result of `measure_table`: `figures` as from `table_figures`, and `about`, its settings as JSON."""

    figures: dict[str, dict[str, Any]]
    about: dict[str, Any]


def measure_table(
    model: Any,
    data: str | Path,
    *,
    split: str | None = None,
    num: int | None = None,
    train_data: str | Path | None = None,
    target: str | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    report: Callable[[str], object] = lambda line: None,
) -> MeasuredTable:
    """Compare the rows that a model of a table draws with real rows.

    The conditions of a model are columns here. Samples have the conditions of the test rows.

    Args:
        model: A model of a table from `kvae.load`.
        data: Real rows: the test split if there is one, else all.
        split: Split of `data`; "test" by default.
        num: Number of samples and of test rows; by default 5,000, or all.
        train_data: Rows that the model was trained on; the training split of `data` by default.
        target: Column to predict; by default the first categorical condition, if there is one.
        seed: Seed of the samples and of the choice of rows.
        temperature: Temperature of the prior.
        report: Receives a line before each long step.

    Raises:
        RequestError: The model is not a model of a table, the target does not exist, or there are too few rows.
        InputDataError: The rows are missing or bad.
        MissingExtraError: scikit-learn is not installed.
    """
    manifest = model.manifest
    if manifest.data.kind != "table":
        raise RequestError(f"{printable(manifest.name, 60)} models {manifest.data.kind} data; expected a table.")
    if find_spec("sklearn") is None:
        raise MissingExtraError(
            "Figures of samples need scikit-learn, which is not installed. "
            "Install it with: pip install 'kvae-onnx[evaluate]'"
        )
    if not is_integer(seed) or not 0 <= seed <= MAX_SEED:
        raise RequestError(f"The seed is {printable(repr(seed), 40)}; expected an integer from 0 to 2**64 - 1.")
    columns = all_columns(manifest)
    categorical = [each.name for each in manifest.conditions if each.categorical]
    target = target if target is not None else next(iter(categorical), None)
    if target is not None:
        position(columns, target)
    train, test = _both(data, split, train_data, manifest)
    if len(test.x) < MIN_ROWS:
        raise RequestError(f"{printable(data)} has {len(test.x)} test rows; expected at least {MIN_ROWS}. Add rows.")
    if num is None:
        num = min(NUM, len(test.x))
    if not is_integer(num) or not MIN_ROWS <= num <= len(test.x):
        raise RequestError(
            f"The number of samples is {printable(num, 40)}; expected {MIN_ROWS} to {len(test.x)}, the number of test "
            f"rows in {printable(data)}."
        )
    chosen = np.sort(np.random.Generator(np.random.Philox(key=[seed, 0])).permutation(len(test.x))[:num])
    conditions = {each.name: test.conditions[each.name][chosen] for each in manifest.conditions}
    report(f"Comparing {num} samples with real rows of {test.source}")
    drawn = like(model, conditions, num, seed, temperature=temperature, draw=True)
    results = table_figures(
        rows(train.x, train.conditions, manifest),
        rows(test.x[chosen], conditions, manifest),
        rows(as_written(drawn, manifest.data.columns), conditions, manifest),
        columns,
        target=target,
        seed=int(seed) % 2**32,  # the widest seed of scikit-learn
    )
    about = {
        "n": num,
        "seed": int(seed),
        "temperature": float(temperature),
        "rows": "draws from p(x given z)",
        "train": printable(train.source),
        "train_rows": len(train.x),
        "test": printable(test.source),
        "target": target,
    }
    return MeasuredTable(results, about)


def all_columns(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the columns of a model's table, followed by its conditions as columns."""
    conditions = [
        {"name": each.name, "kind": "categorical", "classes": list(each.classes)}
        if each.categorical
        else {"name": each.name, "kind": "numeric"}
        for each in manifest.conditions
    ]
    return [*manifest.data.columns, *conditions]


def rows(x: np.ndarray, conditions: Mapping[str, np.ndarray], manifest: Manifest) -> np.ndarray:
    """Return data and conditions as float64 `[rows, columns]`, in the order of `all_columns`."""
    values = [np.asarray(conditions[each.name], np.float64)[:, None] for each in manifest.conditions]
    return np.concatenate([np.asarray(x, np.float64), *values], axis=1)


def as_written(x: np.ndarray, columns: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return samples as a file would contain them: numbers rounded and bounded as in the training table, float64."""
    written = np.asarray(x, np.float64).copy()
    for at, column in enumerate(columns):
        if column["kind"] == "numeric":
            written[:, at] = cells.in_units(column, written[:, at]) - column.get("offset", 0.0)
    return written


def _both(data: str | Path, split: str | None, train_data: str | Path | None, manifest: Manifest) -> tuple[Any, Any]:
    """Return training and test rows."""
    try:
        test = read_for(data, manifest, split or "test")  # type: ignore[arg-type]
    except MissingSplitError as error:
        if train_data is None:
            raise RequestError(
                f"{printable(data)} is not split into training and test rows. Give training rows with --train-data."
            ) from error
        test = read_for(data, manifest)
    train = read_for(data if train_data is None else train_data, manifest, "train")
    for each in (train, test):
        if missing := [one.name for one in manifest.conditions if one.name not in each.conditions]:
            raise InputDataError(
                f"{printable(each.source)} lacks {printable(missing[0], 40)}, a condition of the model. "
                "Give rows that have it."
            )
    return train, test

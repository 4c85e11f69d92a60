"""Comparison of synthetic rows with real rows: all figures, each with its baseline."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.tables.associations import pair_trends
from kvae.sample_metrics.tables.columns import Columns, checked, position
from kvae.sample_metrics.tables.downstream import downstream_score
from kvae.sample_metrics.tables.nearest import closest_distances, exact_copies
from kvae.sample_metrics.tables.shapes import column_shapes
from kvae.sample_metrics.tables.two_sample import two_sample_auc
from kvae.sample_metrics.tables.validity import lost_classes, valid_cells

CLOSE = 0.05
"""Quantile of the test rows' distances that defines a close row."""

RESAMPLES = 10
"""Resamples of the samples for the standard errors of column shapes and pair trends."""

_WORST = 10


def table_figures(
    train: Any, test: Any, samples: Any, columns: Columns, *, target: str | None = None, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Compare synthetic rows with real test rows, and with the training rows.

    The baseline of a similarity is that of training rows, at most as many as there are samples. The baseline of a
    comparison with the training rows is that of test rows.

    Args:
        train: Rows that the model was trained on, `[rows, columns]`.
        test: Real rows that it was not trained on, `[any, columns]`.
        samples: Synthetic rows, `[any, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.
        target: Column to predict in `downstream`; without it that figure is skipped.
        seed: Seed of resampling, folds and classifiers.

    Returns:
        A dict `{"value", "floor", "n", ...}` by name; `floor` is the baseline. `column_shapes` and `pair_trends` (means
        over columns and pairs, with their parts), `two_sample_auc`, `downstream`, `valid_rows` (shares of rows without
        an invalid value), `distance_to_closest_record` (medians), `close_rows` (share of rows that are closer to a
        training row than 95 % of the test rows), `exact_copies` (share of rows that equal a training row) and
        `lost_classes` (their number).

    Raises:
        InputDataError: The rows do not fit the columns.
        RequestError: The target does not exist.
        ModuleNotFoundError: scikit-learn, part of the extra `evaluate`, is not installed.

    Example:
        >>> columns = [{"name": "x", "kind": "numeric"}, {"name": "y", "kind": "categorical", "classes": "ab"}]
        >>> train, test, far = (np.random.default_rng(k).integers(2, size=(90, 2)) for k in range(3))
        >>> far[:, 0] += 9
        >>> figures = kvae.sample_metrics.table_figures(train, test, far, columns)
        >>> figures["valid_rows"]["value"], figures["valid_rows"]["floor"]
        (0.0, 1.0)
    """
    # Files contain float64 and draws float32, so that the same number could differ between real rows and samples.
    train, test, samples = (
        checked(rows, columns, name).astype(np.float32).astype(np.float64)
        for rows, name in ((train, "train"), (test, "test"), (samples, "samples"))
    )
    if target is not None:
        position(columns, target)
    num = len(samples)
    like = train[np.sort(np.random.default_rng(seed).permutation(len(train))[:num])]
    results: dict[str, dict[str, Any]] = {
        "column_shapes": _similarity(column_shapes, test, samples, like, columns, seed),
        "pair_trends": _similarity(pair_trends, test, samples, like, columns, seed),
    }
    one, other = (two_sample_auc(test, rows, columns, seed) for rows in (samples, like))
    results["two_sample_auc"] = {
        "value": one.auc,
        "floor": other.auc,
        "n": num + len(test),
        "standard_error": one.standard_error,
    }
    results["downstream"] = _downstream(samples, like, test, columns, target, seed)
    valid = [valid_cells(train, rows, columns) for rows in (samples, test)]
    results["valid_rows"] = _share(valid[0].all(axis=1), valid[1].all(axis=1)) | {
        "columns": {str(each["name"]): float(share) for each, share in zip(columns, valid[0].mean(axis=0), strict=True)}
    }
    near = [closest_distances(train, rows, columns) for rows in (samples, test)]
    limit = float(np.quantile(near[1], CLOSE))
    results["distance_to_closest_record"] = {"value": _median(near[0]), "floor": _median(near[1]), "n": num}
    # Not strictly below: test rows often have many exact copies, and then the limit is 0.
    results["close_rows"] = _share(near[0] <= limit, near[1] <= limit)
    results["exact_copies"] = _share(*(exact_copies(train, rows, columns) for rows in (samples, test)))
    lost, total = lost_classes(train, samples, columns)
    results["lost_classes"] = {"value": lost, "floor": lost_classes(train, test, columns)[0], "n": num, "of": total}
    if not total:
        results["lost_classes"] = _left_out("none of the columns contains classes")
    return results


def _similarity(
    compare: Any, test: np.ndarray, samples: np.ndarray, like: np.ndarray, columns: Columns, seed: int
) -> dict[str, Any]:
    parts = compare(test, samples, columns)
    if not parts:
        return _left_out("the table has one column")
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        again = samples[rng.integers(len(samples), size=len(samples))]
        means.append(np.mean(list(compare(test, again, columns).values())))
    worst = sorted(parts, key=lambda name: (parts[name], name))[:_WORST]
    return {
        "value": float(np.mean(list(parts.values()))),
        "floor": float(np.mean(list(compare(test, like, columns).values()))),
        "n": len(samples),
        "standard_error": float(np.std(means, ddof=1)),
        "worst": [[name, parts[name]] for name in worst],
    }


def _downstream(
    samples: np.ndarray, like: np.ndarray, test: np.ndarray, columns: Columns, target: str | None, seed: int
) -> dict[str, Any]:
    if target is None:
        return _left_out("no target column was chosen")
    value, floor = (downstream_score(rows, test, columns, target, seed) for rows in (samples, like))
    about = {"target": target, "metric": value.metric, "trained_on": len(samples)}
    return {"value": value.value, "floor": floor.value, "n": len(test)} | about


def _share(samples: Any, real: Any) -> dict[str, Any]:
    share = float(samples.mean())
    error = float(np.sqrt(share * (1.0 - share) / len(samples)))
    return {"value": share, "floor": float(real.mean()), "n": len(samples), "standard_error": error}


def _median(values: np.ndarray) -> float:
    return float(np.median(values))


def _left_out(reason: str) -> dict[str, Any]:
    return {"value": None, "floor": None, "left_out": reason}

"""Use of samples: train on synthetic rows, test on real rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics.tables.columns import Columns, checked, is_number, one_thread, position, tree_inputs

#: Rows above which scikit-learn holds out a tenth of each class to stop early, and so needs two rows of each.
_EARLY_STOPPING_ROWS = 10_000


class Downstream(NamedTuple):
    """Result of `downstream_score`: its value, and "auc" or "r2"."""

    value: float
    metric: str


def downstream_score(train: Any, test: Any, columns: Columns, target: str, seed: int = 0) -> Downstream:
    """Predict a column of real test rows by gradient boosting that was trained on other rows.

    Args:
        train: Rows to train on, such as samples, `[any, columns]`.
        test: Real rows to test on, `[rows, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.
        target: Name of the column to predict. Rows in which it is missing are left out.
        seed: Seed of the training.

    Returns:
        `Downstream`: for a class the area under the ROC curve, averaged over its values (one against the rest); for a
        number R squared. It is 0.5 or 0 if there is nothing to learn from or to test on.

    Raises:
        RequestError: The target does not exist.
        ModuleNotFoundError: scikit-learn, part of the extra `evaluate`, is not installed.

    Reference: Esteban et al. (2017), https://arxiv.org/abs/1706.02633, section 4.2 (TSTR).

    Example:
        >>> columns = [{"name": "x", "kind": "numeric"}, {"name": "y", "kind": "categorical", "classes": "ab"}]
        >>> rows = np.stack([np.arange(100), np.arange(100) >= 50], axis=1)
        >>> kvae.sample_metrics.downstream_score(rows, rows, columns, "y")
        Downstream(value=1.0, metric='auc')
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import r2_score

    train, test = checked(train, columns, "train"), checked(test, columns, "test")
    at = position(columns, target)
    train, test = (rows[~np.isnan(rows[:, at])] for rows in (train, test))
    others = [index for index in range(len(columns)) if index != at]
    options = {"categorical_features": tree_inputs([columns[index] for index in others]), "random_state": seed}
    x, y, x_test, y_test = train[:, others], train[:, at], test[:, others], test[:, at]
    if is_number(columns[at]):
        if not others or not len(y) or len(y_test) < 2:
            return Downstream(0.0, "r2")
        with one_thread():
            predicted = HistGradientBoostingRegressor(**options).fit(x, y).predict(x_test)
        return Downstream(float(r2_score(y_test, predicted)), "r2")
    if len(y) > _EARLY_STOPPING_ROWS:
        classes, counts = np.unique(y, return_counts=True)
        several = np.isin(y, classes[counts > 1])
        x, y = x[several], y[several]
    if not others or len(np.unique(y)) < 2:
        return Downstream(0.5, "auc")
    model = HistGradientBoostingClassifier(**options)
    with one_thread():
        probabilities = model.fit(x, y).predict_proba(x_test)
    probability = dict(zip(model.classes_.tolist(), probabilities.T, strict=True))
    return Downstream(_mean_auc(y_test, probability), "auc")


def _mean_auc(y: np.ndarray, probability: dict[float, np.ndarray]) -> float:
    """Return the mean AUC of one class against the rest; a class that training lacked has 0.5."""
    from sklearn.metrics import roc_auc_score

    classes = np.unique(y).tolist()
    if len(classes) < 2:
        return 0.5
    constant = np.zeros(len(y))
    return float(np.mean([roc_auc_score(y == each, probability.get(each, constant)) for each in classes]))

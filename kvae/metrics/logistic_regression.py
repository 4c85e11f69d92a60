"""Logistic regression in the two forms that published results use."""

from __future__ import annotations

from typing import Any

from kvae.metrics.validation import import_sklearn
from kvae_serve.errors import RequestError

CLASSIFIERS = ("multinomial", "one_vs_rest")


def check_classifier(classifier: str) -> None:
    """Raise `RequestError` if the form does not exist."""
    if classifier not in CLASSIFIERS:
        raise RequestError(f"classifier must be one of {', '.join(CLASSIFIERS)}, got {classifier!r}.")


def logistic_regression(classifier: str, seed: int, metric: str) -> Any:
    """Return a logistic regression of scikit-learn with C = 1.

    `"multinomial"` is the current default (one softmax, lbfgs). `"one_vs_rest"` was the default when the published
    results were computed (one model per class, liblinear). Their results differ by 0.02 to 0.06.
    """
    linear = import_sklearn("sklearn.linear_model", metric)
    if classifier == "multinomial":
        return linear.LogisticRegression(max_iter=1000, random_state=seed)
    binary = linear.LogisticRegression(solver="liblinear", max_iter=1000, random_state=seed)
    return import_sklearn("sklearn.multiclass", metric).OneVsRestClassifier(binary)

"""Logistic regression, in the two forms that published figures come from."""

from __future__ import annotations

from typing import Any

from kvae.metrics.validation import need
from kvae_serve.errors import RequestError

CLASSIFIERS = ("multinomial", "one_vs_rest")


def check_classifier(classifier: str) -> None:
    """Raise `RequestError` where there is no such form."""
    if classifier not in CLASSIFIERS:
        raise RequestError(f"classifier must be one of {', '.join(CLASSIFIERS)}, got {classifier!r}.")


def logistic_regression(classifier: str, seed: int, what: str) -> Any:
    """Return a logistic regression of scikit-learn, with its C of 1.

    `"multinomial"` is what scikit-learn fits today (one softmax, lbfgs); `"one_vs_rest"` is what it fitted when the
    published figures were made (a machine for each class, liblinear). They were seen 0.02 to 0.06 apart.
    """
    linear = need("sklearn.linear_model", what)
    if classifier == "multinomial":
        return linear.LogisticRegression(max_iter=1000, random_state=seed)
    machine = linear.LogisticRegression(solver="liblinear", max_iter=1000, random_state=seed)
    return need("sklearn.multiclass", what).OneVsRestClassifier(machine)

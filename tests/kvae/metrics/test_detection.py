"""Figures of the detection of anomalies against scikit-learn, ties included."""

import numpy as np
import pytest

from kvae.metrics import detection_curves, detection_figures
from kvae_serve.errors import InputDataError

metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_figures_equal_those_of_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    labels = (rng.random(500) < 0.1).astype(int)
    scores = (rng.normal(size=500) + 1.5 * labels).round(decimals)
    found = detection_figures(scores, labels, num_resamples=0)
    assert found["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert found["average_precision"]["value"] == pytest.approx(metrics.average_precision_score(labels, scores))
    if decimals == 6:
        num = labels.sum()
        highest = np.argsort(-scores)[:num]
        assert found["precision_at_rate"]["value"] == pytest.approx(labels[highest].mean())
    rate, recall, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    curves = detection_curves(scores, labels)
    assert np.trapezoid(curves.recall, curves.false_positive_rate) == pytest.approx(metrics.auc(rate, recall), abs=2e-3)
    assert (curves.recall[-1], curves.false_positive_rate[-1]) == (1.0, 1.0)


def test_bootstrap_interval_covers_the_true_auroc():
    """AUROC of N(1, 1) against N(0, 1) is Phi(1 / sqrt 2) = 0.7602."""
    rng, inside = np.random.default_rng(0), 0
    for seed in range(60):
        scores = np.concatenate([rng.normal(size=150), rng.normal(1, 1, 60)])
        found = detection_figures(scores, np.repeat([0, 1], (150, 60)), num_resamples=300, seed=seed)["auroc"]
        inside += found["low"] <= 0.7602 <= found["high"]
    assert inside >= 52  # 57 expected; P(below 52) is under 2 %


def test_figures_of_equal_scores_are_those_of_chance():
    found = detection_figures(np.zeros(100), np.repeat([0, 1], (90, 10)))
    assert {name: each["value"] for name, each in found.items()} == {
        "auroc": 0.5, "average_precision": pytest.approx(0.1), "precision_at_rate": pytest.approx(0.1)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [([1.0, 2.0], [1], "shapes"), ([1.0, np.nan], [1, 0], "finite"), ([1.0, 2.0], [1, 1], "both 0"),
     ([1.0, 2.0, 3.0], [0, 1, 2], "both 0")],
)  # fmt: skip
def test_wrong_arguments_are_one_clear_error(scores, labels, message):
    with pytest.raises(InputDataError, match=message):
        detection_figures(scores, labels)

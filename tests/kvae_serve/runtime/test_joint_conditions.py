"""Conditions drawn together: their joint shares are those of the combinations in the manifest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kvae_serve.errors import ModelFileError
from kvae_serve.runtime import conditions
from kvae_serve.sealed.manifest import Manifest
from support import make_tiny_models

NUM = 40_000
RNG = np.random.default_rng(0)
AGE = np.sort(RNG.gamma(4.0, 10.0, 5000))
INCOME = (np.arange(5000) + RNG.normal(0, 800, 5000) > 3500).astype(int)  # the older, the richer
SEX = np.where(RNG.random(5000) < 0.2 + 0.6 * INCOME, 1, 0)
QUANTILES = np.quantile(AGE, np.linspace(0, 1, 101)).tolist()


def manifest(joint=True):
    entries = [
        {
            "name": "income", "kind": "categorical", "classes": ["low", "high"],
            "shares": [1 - INCOME.mean(), INCOME.mean()],
        },
        {"name": "age", "kind": "continuous", "range": [QUANTILES[0], QUANTILES[-1]], "quantiles": QUANTILES},
        {"name": "sex", "kind": "categorical", "classes": ["f", "m"], "shares": [1 - SEX.mean(), SEX.mean()]},
    ]  # fmt: skip
    if joint is True:
        rows = np.column_stack([INCOME, conditions.joint_index(AGE, QUANTILES), SEX])
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        entries[-1]["joint"] = np.column_stack([counts, distinct]).tolist()
    elif joint:
        entries[-1]["joint"] = joint
    base = make_tiny_models.manifest("conditional", True, "standard_normal")
    return Manifest.from_dict(base | {"graph": "decoder", "golden": None, "conditions": entries})


def drawn(document, names, **fixed):
    chosen = [each for each in document.conditions if each.name in names]
    uniforms = np.random.default_rng(1).random((NUM, 3))
    columns = {name: np.full(NUM, value) for name, value in fixed.items()}
    return conditions.from_data(document, columns, chosen, uniforms)


def test_conditions_are_drawn_together():
    found = drawn(manifest(), ("income", "age", "sex"))
    for income, sex in itertools.product((0, 1), (0, 1)):
        share = ((income == INCOME) & (sex == SEX)).mean()
        assert ((found["income"] == income) & (found["sex"] == sex)).mean() == pytest.approx(share, abs=0.01)
    for income in (0, 1):
        expected = AGE[income == INCOME]
        assert found["age"][found["income"] == income].mean() == pytest.approx(expected.mean(), rel=0.02)
    np.testing.assert_allclose(np.quantile(found["age"], [0.1, 0.5, 0.9]), np.quantile(AGE, [0.1, 0.5, 0.9]), rtol=0.02)


def test_conditions_are_drawn_given_the_fixed_ones():
    found = drawn(manifest(), ("age", "sex"), income=1)
    assert found["sex"].mean() == pytest.approx(SEX[INCOME == 1].mean(), abs=0.01)
    assert found["age"].mean() == pytest.approx(AGE[INCOME == 1].mean(), rel=0.02)
    found = drawn(manifest(), ("income",), age=QUANTILES[-1], sex=0)
    oldest_women = (np.quantile(AGE, 0.9) <= AGE) & (SEX == 0)
    assert found["income"].mean() == pytest.approx(INCOME[oldest_women].mean(), abs=0.01)


def test_values_that_do_not_occur_together_are_drawn_independently():
    document = manifest(joint=[[3, 0, 0, 0], [1, 1, 9, 1]])
    assert drawn(document, ("sex",), income=0, age=QUANTILES[-1])["sex"].mean() == pytest.approx(0.25, abs=0.01)


def test_draws_without_combinations_are_independent():
    found = drawn(manifest(joint=False), ("income", "sex"))
    both = (found["income"] & found["sex"]).mean()
    assert both == pytest.approx(INCOME.mean() * SEX.mean(), abs=0.01)


@pytest.mark.parametrize(
    "joint",
    [
        [[1, 0, 0]], [[0, 0, 0, 0]], [[1, 2, 0, 0]], [[1, 0, 10, 0]], [[1, 0, -1, 0]], [[1, 0, 0.5, 0]], [1], "x",
        [[1, 0, 0, 0]] * 1001,
    ],
)  # fmt: skip
def test_invalid_combinations_are_refused(joint):
    with pytest.raises(ModelFileError):
        manifest(joint=joint)

"""Metrics that fit models or draw batches: compared with independent code, known codes and chance."""

import numpy as np
import pytest

from kvae import metrics
from kvae.data.sprites import render
from kvae_serve.errors import InputDataError, RequestError

ensemble = pytest.importorskip("sklearn.ensemble")
linear_model = pytest.importorskip("sklearn.linear_model")
sklearn_metrics = pytest.importorskip("sklearn.metrics")
svm = pytest.importorskip("sklearn.svm")

SIZES = (3, 6, 5, 4)


def draw(num, sizes=SIZES, seed=0):
    factors = np.random.default_rng(seed).integers(sizes, size=(num, len(sizes)))
    return (factors - (np.array(sizes) - 1) / 2) / np.sqrt((np.array(sizes) ** 2 - 1) / 12), factors


# A rotation that spreads each factor evenly over all codes.
ROTATION = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


PERFECT, FACTORS = draw(900)
ROTATED = PERFECT @ ROTATION
NOISY = ROTATED + 0.3 * np.random.default_rng(1).normal(size=ROTATED.shape)
TRAIN, TEST = slice(0, 600), slice(600, None)


def split_rows(codes, factors=FACTORS):
    return codes[TRAIN], factors[TRAIN], codes[TEST], factors[TEST]


def plain_sap(train, y_train, test, y_test):
    gaps = []
    for j in range(y_train.shape[1]):
        scores = []
        for i in range(train.shape[1]):
            machine = svm.LinearSVC(C=0.01, class_weight="balanced", random_state=5)
            machine.fit(train[:, i : i + 1], y_train[:, j])
            scores.append((machine.predict(test[:, i : i + 1]) == y_test[:, j]).mean())
        second, first = sorted(scores)[-2:]
        gaps.append(first - second)
    return np.mean(gaps)


def plain_dci(train, y_train, test, y_test):
    columns, hits = [], []
    for j in range(y_train.shape[1]):
        model = ensemble.GradientBoostingClassifier(random_state=7).fit(train, y_train[:, j])
        columns.append(model.feature_importances_)
        hits.append((model.predict(test) == y_test[:, j]).mean())
    importance = np.array(columns).T

    def score(rows):
        total = 0.0
        for row in rows:
            p = row / row.sum()
            entropy = -sum(each * np.log(each) for each in p if each > 0) / np.log(len(row))
            total += (1 - entropy) * row.sum() / rows.sum()
        return total

    return score(importance), score(importance.T), np.mean(hits)


def plain_explicitness(train, y_train, test, y_test):
    mean, sd = train.mean(0), train.std(0)
    areas = []
    for j in range(y_train.shape[1]):
        model = linear_model.LogisticRegression().fit((train - mean) / sd, y_train[:, j])
        probabilities = model.predict_proba((test - mean) / sd)
        one_hot = y_test[:, j][:, None] == model.classes_
        areas.append(sklearn_metrics.roc_auc_score(one_hot, probabilities))
    return np.mean(areas)


def check_against_plain_code(codes, factors=FACTORS):
    rows = split_rows(codes, factors)
    assert metrics.sap(*rows) == pytest.approx(plain_sap(*rows), abs=0.01)
    scores, expected = metrics.dci(*rows), plain_dci(*rows)
    assert scores[:3] == pytest.approx(expected, abs=0.02)
    np.testing.assert_allclose(scores.importance.sum(axis=0), 1.0)
    assert metrics.explicitness(*rows) == pytest.approx(plain_explicitness(*rows), abs=0.005)


def test_sap_dci_and_explicitness_equal_plain_code():
    check_against_plain_code(NOISY[:, :3], FACTORS[:, [0, 3]])


@pytest.mark.long
@pytest.mark.parametrize("codes", [PERFECT, NOISY], ids=["perfect", "noisy"])
def test_sap_dci_and_explicitness_of_all_factors_equal_plain_code(codes):
    check_against_plain_code(codes)


def test_perfect_codes_score_1_except_in_discrete_sap():
    rows = split_rows(PERFECT)
    assert metrics.dci(*rows, estimator="random_forest")[:4] == pytest.approx((1, 1, 1, 1), abs=1e-6)
    assert metrics.explicitness(*rows) == pytest.approx(1.0, abs=1e-3)
    # One linear cut cannot separate many classes: the discrete SAP of perfect codes of dSprites is about 0.25.
    codes, factors = draw(6000, render.SIZES)
    assert 0.2 < metrics.sap(codes, factors) < 0.3
    assert metrics.sap(codes, factors, continuous=True) > 0.99


def test_rotated_codes_are_entangled_and_still_informative():
    rows = split_rows(ROTATED)
    found = metrics.dci(*rows, estimator="random_forest")
    assert found.disentanglement < 0.02
    assert found.completeness < 0.02
    assert found.informativeness > 0.6
    assert metrics.sap(*rows) < 0.08
    assert metrics.explicitness(*rows) == pytest.approx(metrics.explicitness(*split_rows(PERFECT)), abs=0.01)


def test_noise_scores_at_chance():
    rows = split_rows(np.random.default_rng(3).normal(size=PERFECT.shape))
    found = metrics.dci(*rows, estimator="random_forest")
    assert found.disentanglement < 0.05
    assert found.informativeness == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.04)
    assert metrics.explicitness(*rows) == pytest.approx(0.5, abs=0.05)
    assert metrics.sap(*rows) < 0.06


def test_dead_codes_have_defined_values():
    dead = np.broadcast_to([0.1, -3.0, 0.0, 1e9], PERFECT.shape)
    rows = split_rows(dead)
    for estimator, columns in (("gradient_boosting", [0, 3]), ("random_forest", [0, 1, 2, 3])):
        found = metrics.dci(*split_rows(dead, FACTORS[:, columns]), estimator=estimator)
        assert (found.disentanglement, found.completeness) == (0.0, 0.0)
        assert 0.15 < found.informativeness < 0.36
    assert metrics.sap(*rows) == 0.0
    assert metrics.explicitness(*rows) == 0.5
    assert metrics.explicitness(*rows, classifier="one_vs_rest") == 0.5
    both = np.hstack([PERFECT, dead])
    assert metrics.dci(*split_rows(both), estimator="random_forest").disentanglement == pytest.approx(1.0, abs=1e-6)
    assert metrics.explicitness(*split_rows(both)) == pytest.approx(
        metrics.explicitness(*split_rows(PERFECT)), abs=1e-6
    )
    # The second best code of a factor scores like a guess in both sets.
    assert metrics.sap(*split_rows(both)) == pytest.approx(metrics.sap(*split_rows(PERFECT)), abs=0.06)


def test_one_vs_rest_classifier_gives_a_different_score():
    rows = split_rows(PERFECT)
    older = metrics.explicitness(*rows, classifier="one_vs_rest")
    assert older == pytest.approx(metrics.explicitness(*rows), abs=0.1)
    assert older != metrics.explicitness(*rows)


def test_values_missing_in_train_or_test_rows():
    codes, factors = np.repeat(np.eye(4), 20, axis=0), np.repeat(np.arange(4), 20)[:, None]
    test_codes, test_factors = np.eye(4)[[0, 0, 1, 2]], np.array([[0], [0], [1], [9]])
    # 0 and 1 are separated perfectly; 9 is not in the training rows and counts as chance.
    assert metrics.explicitness(codes, factors, test_codes, test_factors) == pytest.approx((1 + 1 + 0.5) / 3)
    assert metrics.explicitness(codes, factors, test_codes[:2], test_factors[:2]) == 0.5


def test_split_depends_on_the_seed_and_not_on_the_global_generator():
    order = np.argsort(FACTORS[:, 0], kind="stable")  # A split of sorted rows by position would not see class 2.
    codes, factors = NOISY[order], FACTORS[order]
    few = codes[::3], factors[::3, [0, 3]]
    runs = []
    for state in (0, 1):
        np.random.seed(state)
        before = np.random.get_state()[1].copy()
        runs.append(
            (
                metrics.sap(*few, seed=4),
                metrics.explicitness(*few, seed=4),
                metrics.dci(*few, seed=4, estimator="random_forest")[:4],
                metrics.dci(codes[::30], factors[::30, 2:], seed=2**64 - 1)[:4],
                metrics.beta_vae_score(lambda f: f, (3, 3), seed=4, num_train=50, num_test=50),
                metrics.factor_vae_score(lambda f: f, (3, 3), seed=4, num_train=50, num_test=50),
            )
        )
        assert (np.random.get_state()[1] == before).all()
    assert runs[0] == runs[1]
    assert metrics.sap(*few, seed=5) != runs[0][0]
    assert metrics.sap(codes, factors) == pytest.approx(metrics.sap(*split_rows(NOISY)), abs=0.06)


def test_invalid_splits_and_settings_are_rejected():
    with pytest.raises(RequestError, match="together"):
        metrics.sap(PERFECT, FACTORS, PERFECT)
    with pytest.raises(InputDataError, match="same columns"):
        metrics.dci(PERFECT, FACTORS, PERFECT[:, 1:], FACTORS)
    with pytest.raises(InputDataError, match="single value in the training rows"):
        metrics.explicitness(PERFECT[:2], [[0], [0]], PERFECT[:2], [[0], [1]])
    with pytest.raises(RequestError, match="estimator must be one of"):
        metrics.dci(PERFECT, FACTORS, estimator="lasso")
    with pytest.raises(RequestError, match="classifier must be one of"):
        metrics.explicitness(PERFECT, FACTORS, classifier="svm")
    with pytest.raises(RequestError, match="seed"):
        metrics.sap(PERFECT, FACTORS, seed=-1)
    with pytest.raises(InputDataError, match="expected at least 2"):
        metrics.dci(PERFECT, FACTORS[:, :1])


# Scores that draw batches.

FEW = {"num_train": 800, "num_test": 800}


def plain_factor_vae(sampler, sizes, num_train, num_test, batch_size=64, prune_sd=0.05):
    """Compute the published procedure vote by vote, with different draws."""
    random = np.random.default_rng(99)

    def batch(rows):
        return np.stack([random.integers(size, size=rows) for size in sizes], axis=1)

    variance = np.var(sampler(batch(10_000)), axis=0, ddof=1)
    active = [i for i in range(len(variance)) if np.sqrt(variance[i]) >= prune_sd]

    def votes(num):
        cast = []
        for _ in range(num):
            fixed = int(random.integers(len(sizes)))
            factors = batch(batch_size)
            factors[:, fixed] = factors[0, fixed]
            local = np.var(sampler(factors), axis=0, ddof=1)
            cast.append((fixed, min(active, key=lambda i: local[i] / variance[i])))
        return cast

    train = votes(num_train)
    predicted = {code: max(range(len(sizes)), key=lambda factor: train.count((factor, code))) for code in active}
    return np.mean([predicted[code] == fixed for fixed, code in votes(num_test)])


def test_factor_vae_score_equals_plain_code_within_sampling_noise():
    # Two active codes cannot predict three factors; the third code is pruned.
    mix = np.array([[1, 0.3, 0.02], [0.8, 1, 0.01], [0.2, 0.9, 0]])
    sizes = (3, 6, 5)

    def sampler(factors):
        return (factors / np.array(sizes)) @ mix

    expected = plain_factor_vae(sampler, sizes, 600, 600)
    assert 0.4 < expected < 0.95
    assert metrics.factor_vae_score(sampler, sizes, **FEW) == pytest.approx(expected, abs=0.06)


def scaled(factors, sizes=SIZES):
    return factors / np.sqrt((np.array(sizes) ** 2 - 1) / 12)


def test_scores_of_perfect_permuted_and_rotated_codes():
    for score in (metrics.factor_vae_score, metrics.beta_vae_score):
        assert score(scaled, SIZES, **FEW) == 1.0
        assert score(lambda f: scaled(f)[:, [2, 0, 3, 1]] * [1, -5, 2, 1], SIZES, **FEW) == 1.0
        # All factors move each code equally, so the codes do not identify the fixed one.
        assert score(lambda f: scaled(f) @ ROTATION, SIZES, **FEW) == pytest.approx(0.25, abs=0.06)
    # The beta-VAE score saturates: it stays high if a rotation slightly favours one factor.
    uneven = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    assert metrics.beta_vae_score(lambda f: scaled(f) @ uneven, SIZES, **FEW) > 0.9


def test_noise_and_dead_codes_score_at_chance_or_zero():
    random = np.random.default_rng(0)

    def noise(factors):
        return random.normal(size=(len(factors), 5))

    assert metrics.factor_vae_score(noise, SIZES, num_train=4000, num_test=4000) == pytest.approx(0.25, abs=0.04)
    assert metrics.beta_vae_score(noise, SIZES, num_train=2000, num_test=2000) == pytest.approx(0.25, abs=0.04)

    def dead(factors):
        return np.ones((len(factors), 3))

    assert metrics.factor_vae_score(dead, SIZES, **FEW) == 0.0
    assert metrics.factor_vae_score(dead, SIZES, prune_sd=0, **FEW) == 0.0
    assert metrics.beta_vae_score(dead, SIZES, **FEW) == pytest.approx(0.25, abs=0.05)


def test_pruning_excludes_a_nearly_dead_code():
    # A nearly constant code follows factor 0 as well as the first code does; without pruning it gets votes.
    def sampler(factors):
        return np.hstack([scaled(factors), 1e-3 * factors[:, :1], np.zeros((len(factors), 2))])

    assert metrics.factor_vae_score(sampler, SIZES, **FEW) == 1.0
    assert metrics.factor_vae_score(sampler, SIZES, prune_sd=0.0, **FEW) == 1.0
    assert metrics.factor_vae_score(lambda f: 0.01 * scaled(f), SIZES, **FEW) == 0.0
    assert metrics.factor_vae_score(lambda f: 0.01 * scaled(f), SIZES, prune_sd=0.0, **FEW) == 1.0


def test_grid_sampler_equals_the_function_that_encoded_the_grid():
    factors = np.stack(np.unravel_index(np.random.default_rng(0).permutation(360), SIZES), axis=1)
    sampler, sizes = metrics.grid_sampler(scaled(factors) @ ROTATION, factors * 10)
    assert sizes == SIZES
    for score in (metrics.factor_vae_score, metrics.beta_vae_score):
        direct = score(lambda f: scaled(f) @ ROTATION, SIZES, num_train=200, num_test=200, seed=3)
        assert score(sampler, sizes, num_train=200, num_test=200, seed=3) == direct
    with pytest.raises(InputDataError, match="expected each of the 360 combinations"):
        metrics.grid_sampler(scaled(factors)[1:], factors[1:])
    with pytest.raises(InputDataError, match="once"):
        metrics.grid_sampler(scaled(factors), np.vstack([factors[1:], factors[1]]))


def test_batches_fix_exactly_one_factor():
    seen = []

    def sampler(factors):
        seen.append(factors)
        return factors + 0.0

    metrics.factor_vae_score(sampler, SIZES, num_train=7, num_test=5, batch_size=16, num_variance=40)
    assert [len(each) for each in seen] == [40, 7 * 16, 5 * 16]
    assert all((each >= 0).all() and (each < SIZES).all() for each in seen)
    for batch in np.concatenate(seen[1:]).reshape(12, 16, 4):
        assert ((batch == batch[0]).all(axis=0)).sum() == 1
    seen.clear()
    metrics.beta_vae_score(sampler, SIZES, num_train=40, num_test=5, batch_size=16)
    first, second = seen[0].reshape(2, 40, 16, 4)
    assert ((first == second).all(axis=1).sum(axis=1) == 1).all()


def test_invalid_samplers_and_sizes_are_rejected():
    with pytest.raises(InputDataError, match="The sampler returned codes"):
        metrics.factor_vae_score(lambda f: f[:3] + 0.0, SIZES)
    with pytest.raises(InputDataError, match="NaN"):
        metrics.beta_vae_score(lambda f: f * np.nan, SIZES)
    for sizes in ((3,), (3, 1), [], (3.5, 2), 5):
        with pytest.raises(RequestError, match="factor_sizes"):
            metrics.factor_vae_score(scaled, sizes)
    with pytest.raises(RequestError, match="batch_size must be an integer of at least 2"):
        metrics.factor_vae_score(scaled, SIZES, batch_size=1)
    with pytest.raises(RequestError, match="num_train"):
        metrics.beta_vae_score(scaled, SIZES, num_train=0)
    with pytest.raises(RequestError, match="num_train is 1; all points fix the same factor"):
        metrics.beta_vae_score(scaled, SIZES, num_train=1)
    with pytest.raises(RequestError, match="prune_sd"):
        metrics.factor_vae_score(scaled, SIZES, prune_sd=float("nan"))

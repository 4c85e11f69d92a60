"""Quantile form of numeric columns: knots, scores, the density of a row, missing numbers, and exported models."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import stats

import kvae
from kvae import likelihoods, networks
from kvae.data import quantiles
from kvae.data.table import TableSpec

COLUMNS = [
    {"name": "spend", "kind": "numeric", "missing": "NA"},
    {"name": "age", "kind": "numeric", "type": "integer", "missing": "?"},
    {"name": "weight", "kind": "numeric"},
    {"name": "missing", "kind": "categorical", "classes": ["a", "b"]},
]


def rows(num=3000, seed=0):
    """Return zero-inflated numbers, integers, normal numbers and classes; some of the first two are missing."""
    rng = np.random.default_rng(seed)
    spend = np.where(rng.uniform(size=num) < 0.4, 0.0, np.exp(rng.normal(3, 1, num)))
    age = rng.integers(20, 30, num).astype("f8")
    spend[rng.uniform(size=num) < 0.2] = np.nan
    age[rng.uniform(size=num) < 0.1] = np.nan
    return np.stack([spend, age, rng.normal(70, 9, num), rng.integers(0, 2, num)], 1).astype("f4")


X = rows()
SPEC = TableSpec.learn(COLUMNS, X, numbers="quantile")


def of(values, **more):
    return quantiles.Quantiles([{**quantiles.learn(values), **more}])


@pytest.mark.parametrize("num", [60, 20_000])
def test_scores_of_a_heavy_tail_are_standard_normal_and_convert_back(num):
    values = np.random.default_rng(1).standard_t(2, num).astype("f4")[:, None]
    scores = ops.convert_to_numpy(of(values).to_scores(values))
    assert stats.kstest(scores[:, 0], "norm").pvalue > 0.5
    np.testing.assert_allclose(of(values).to_values(scores), values, rtol=1e-3, atol=1e-4)


def test_scores_beyond_the_data_continue_and_values_stop_at_the_ends():
    values = np.linspace(-1, 1, 2001).astype("f4")[:, None]
    form = of(values)
    far = ops.convert_to_numpy(form.to_scores(np.array([[-50.0], [50.0]], "f4")))
    assert far[0, 0] < -40
    assert far[1, 0] > 40
    np.testing.assert_array_equal(form.to_values(far), [[-1], [1]])


def test_interval_of_an_atom_has_the_share_of_its_value():
    rng = np.random.default_rng(2)
    values = np.where(rng.uniform(size=5000) < 0.3, 0.0, rng.exponential(size=5000))
    learned = quantiles.learn(values)
    knots, scores = np.array(learned["knots"]), np.array(learned["scores"])
    assert (knots == 0).sum() == 2
    assert np.ptp(stats.norm.cdf(scores[knots == 0])) == pytest.approx((values == 0).mean(), abs=2e-3)
    assert len(knots) < 150


def test_few_values_are_atoms_and_the_scores_return_only_them():
    values = np.round(np.random.default_rng(3).normal(size=4000), 1)
    form = of(values)
    drawn = ops.convert_to_numpy(form.to_values(np.random.default_rng(4).normal(size=(20_000, 1)).astype("f4")))
    found = np.isin(drawn, values.astype("f4")).mean()
    assert found > 0.997  # Gaps between atoms have the probability 0.001 together.
    assert stats.ks_2samp(drawn[:, 0], values.astype("f4")).statistic < 0.015


def test_forms_follow_from_the_values():
    assert [column.get("form") for column in SPEC.columns] == ["quantile", "classes", "quantile", None]
    assert SPEC.columns[1]["atoms"] == list(range(20, 30))
    ages = X[:, 1][~np.isnan(X[:, 1])]
    assert SPEC.columns[1]["shares"] == pytest.approx([(ages == age).mean() for age in range(20, 30)], rel=1e-5)
    assert SPEC.columns[3]["shares"] == pytest.approx([(X[:, 3] == 0).mean(), (X[:, 3] == 1).mean()], rel=1e-5)
    assert SPEC.unit_shape == (2 + 10 + 2 + 2,)
    again = TableSpec.from_config(SPEC.get_config())
    assert again.manifest() == SPEC.manifest()
    sparse = TableSpec.learn(COLUMNS[1:2], np.arange(60.0)[:, None], numbers="quantile")
    assert sparse.columns[0]["form"] == "quantile"
    constant = TableSpec.learn(COLUMNS[2:3], np.full((9, 1), 7.0), numbers="quantile")
    assert "form" not in constant.columns[0]


def test_features_of_missing_numbers_are_zeros_and_their_mask():
    features = SPEC.unit_array(np.array([[np.nan, np.nan, 70, 1], [0, 25, 70, 0]], "f4"))
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features[0, [0, *range(2, 12)]], np.zeros(11))
    np.testing.assert_array_equal(features[:, 14:], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(features[1, 2:14], [0] * 5 + [1] + [0] * 4 + [1, 0])


def test_rows_return_from_their_features():
    x = X[~np.isnan(X).any(1)][:500]
    np.testing.assert_allclose(SPEC.to_data(SPEC.to_unit(x)), x, rtol=2e-3, atol=2e-3)
    assert np.isfinite(ops.convert_to_numpy(SPEC.to_data(SPEC.to_unit(X)))).all()


@pytest.mark.parametrize("sigma", ["optimal", "element", 0.4])
def test_probability_of_a_number_integrates_to_1(sigma):
    spec = TableSpec.learn(COLUMNS[:1], X[:, :1], numbers="quantile")
    mixed = likelihoods.Mixed.from_spec(spec, sigma)
    parameters = np.array([[0.7, -1.2, -1.5][: 2 + mixed.num_extra]], "f4")

    def probability(values):
        values = np.asarray(values, "f4")[:, None]
        at = ops.convert_to_tensor(np.tile(parameters, (len(values), 1)))
        return np.exp(-np.asarray(mixed.nll(spec.to_unit(values), at), "f8") + spec.log_jacobian(mixed))

    missing, zero = probability([np.nan, 0.0])
    # The midpoint rule between knots, because the density jumps at them.
    ends = np.array([-900.0, *np.unique(spec.columns[0]["knots"]), 9000.0])
    middles = ends[:-1, None] + np.diff(ends)[:, None] * (np.arange(100) + 0.5) / 100
    density = probability(middles.ravel()).reshape(middles.shape)
    total = missing + zero + (density.mean(axis=1) * np.diff(ends)).sum()
    assert missing == pytest.approx(1 / (1 + np.exp(1.2)), rel=1e-5)
    assert total == pytest.approx(1.0, abs=2e-3)


def test_probability_of_atoms_equals_scipy():
    values = np.repeat([1.5, 2.5, 4.0], [50, 30, 20])[:, None]
    spec = TableSpec.learn(COLUMNS[2:3], values, numbers="quantile")
    mixed = likelihoods.Mixed.from_spec(spec, 0.5)
    nll = mixed.nll(spec.to_unit(np.array([[1.5], [2.5], [4.0]])), ops.full((3, 1), 0.3))
    ends = np.reshape(spec.columns[0]["scores"], (3, 2))
    np.testing.assert_allclose(
        np.exp(-np.asarray(nll)), np.diff(stats.norm.cdf(ends, 0.3, 0.5), axis=1)[:, 0], rtol=1e-4
    )


def test_missing_number_costs_only_its_probability():
    mixed = likelihoods.Mixed.from_spec(SPEC)
    parameters = np.random.default_rng(5).normal(size=(1, 16)).astype("f4")
    row = np.array([[np.nan, np.nan, 70.0, 1]], "f4")

    def nll(row, parameters):
        return float(mixed.nll(SPEC.to_unit(row), ops.convert_to_tensor(parameters))[0])

    changed = parameters.copy()
    changed[:, [0, *range(2, 12)]] += 1.0  # The mean of the first number and the logits of the second.
    assert nll(row, changed) == pytest.approx(nll(row, parameters), rel=1e-6)
    changed = parameters.copy()
    changed[:, 14:] = 3.0
    expected = np.log1p(np.exp(parameters[0, 14:])) - parameters[0, 14:] - np.log1p(np.exp(-3.0))
    assert nll(row, parameters) - nll(row, changed) == pytest.approx(expected.sum(), rel=1e-4)


def test_unseen_class_is_unlikely():
    mixed = likelihoods.Mixed.from_spec(SPEC)
    at = ops.zeros((3, 16))
    known, unseen, other = np.asarray(
        mixed.nll(SPEC.to_unit(np.array([[0, 25, 70, 0], [0, 25.5, 70, 0], [0, 25, 70, -1]], "f4")), at)
    )
    assert unseen - known == pytest.approx(6 * np.log(10) - np.log(10), rel=1e-4)  # 25 lends nothing: 24 and 26 occur.
    assert other - known == pytest.approx(6 * np.log(10) - np.log(2), rel=1e-4)


def model(sigma="element"):
    likelihood = likelihoods.Mixed.from_spec(SPEC, sigma)
    made = kvae.VAE(
        networks.dense_encoder(SPEC.unit_shape, 2, (12,)),
        networks.dense_decoder(SPEC.unit_shape, 2, (12,), num_extra=likelihood.num_extra),
        data=SPEC,
        likelihood=likelihood,
    )
    rng = np.random.default_rng(6)
    for part in (made.encoder, made.decoder):
        for weight in part.weights:
            weight.assign(rng.normal(0, 0.5, weight.shape))
    return made


def test_gradients_of_rows_with_missing_numbers_are_finite():
    made = model()
    with tf.GradientTape() as tape:
        parameters = made.decoder(np.zeros((len(X), 2), "f4"))
        loss = tf.reduce_mean(made.likelihood.nll(SPEC.to_unit(X), parameters, training=True))
    assert all(np.isfinite(each).all() for each in tape.gradient(loss, made.decoder.trainable_variables))


@pytest.mark.parametrize("sigma", [pytest.param("optimal", marks=pytest.mark.long), "element"])
def test_exported_model_equals_keras_and_draws_from_its_likelihood(sigma, tmp_path):
    made = model(sigma)
    made.export(tmp_path / "m", examples=X[:64])
    served = kvae.load(tmp_path / "m")
    assert all(check.ok for check in served.verify())
    z = np.random.default_rng(7).normal(size=(64, 2)).astype("f4")
    parameters = made.decoder(z)
    nll = np.asarray(made.likelihood.nll(SPEC.to_unit(X[:64]), parameters))
    expected = SPEC.log_jacobian(made.likelihood) - nll
    np.testing.assert_allclose(
        served.run("likelihood", {"x": X[:64], "z": z})["log_likelihood"], expected, rtol=1e-4, atol=1e-3
    )

    draws = served.sample(20_000, seed=1, temperature=0.0, draw=True)
    at = {name: value[0].astype("f8") for name, value in served.run("decoder", {"z": draws.z[:1]}).items()}
    spend, age, weight, label = draws.x.T
    assert np.isnan(spend).mean() == pytest.approx(at["x_probability_missing"][0], abs=0.01)
    assert np.isnan(age).mean() == pytest.approx(at["x_probability_missing"][1], abs=0.01)
    assert not np.isnan(draws.x[:, 2:]).any()
    shares = [(age[~np.isnan(age)] == value).mean() for value in range(20, 30)]
    np.testing.assert_allclose(shares, at["x_probability_age"], atol=0.02)
    assert label.mean() == pytest.approx(at["x_probability_missing_3"][1], abs=0.01)
    # The distribution function of a draw is that of its score at the last knot that is not above the value.
    for values, index in ((spend[~np.isnan(spend)], 0), (weight, 2)):
        knots, scores = SPEC.columns[index]["knots"], SPEC.columns[index]["scores"]
        normal = stats.norm(at["x_score"][index], np.exp(at["x_log_var"][index] / 2))
        for share in (0.2, 0.5, 0.8):
            knot = int(share * len(knots))
            assert (values <= np.float32(knots[knot])).mean() == pytest.approx(normal.cdf(scores[knot]), abs=0.015)
    assert np.nanmin(spend) >= np.nanmin(X[:, 0])
    assert np.nanmax(spend) <= np.nanmax(X[:, 0])


def test_infinity_and_missing_numbers_of_complete_columns_are_rejected():
    with pytest.raises(ValueError, match="weight contains NaN"):
        SPEC.check(np.array([[0, 25, np.nan, 0]], "f4"), "fit")
    with pytest.raises(ValueError, match="spend contains NaN or infinity"):
        SPEC.check(np.array([[np.inf, 25, 70, 0]], "f4"), "fit")
    SPEC.check(X, "fit")

"""Tables: features, density of a row, and models of tables that are trained, saved, exported and sampled."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

import kvae
from kvae import likelihoods, networks, priors
from kvae.data.spec import DataSpec
from kvae.data.table import TableSpec
from kvae_serve import cells
from kvae_serve.errors import InputDataError
from kvae_serve.readers import ReadOptions, csv, frames

# Numbers and classes alternate, so that the order of columns differs from that of features.
COLUMNS = [
    {"name": "Colour", "kind": "categorical", "classes": ["red", "green", "blue"]},
    {"name": "income", "kind": "numeric", "mean": 60_000.0, "scale": 20_000.0},
    {"name": "colour", "kind": "categorical", "classes": ["no", "yes"]},
    {"name": "width", "kind": "numeric", "mean": -0.5, "scale": 0.01},
]
SPEC = TableSpec(COLUMNS)
ROWS = np.array([[2, 100_000, 0, -0.52], [0, 60_000, 1, -0.5]], "f4")
FEATURES = np.array([[2, -2, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 1]], "f4")


def changed(rows, column, value):
    rows = rows.copy()
    rows[0, column] = value
    return rows


def test_features_equal_values_by_hand_and_convert_back():
    np.testing.assert_allclose(SPEC.to_unit(ROWS), FEATURES, atol=1e-4)
    np.testing.assert_allclose(SPEC.to_data(SPEC.to_unit(ROWS)), ROWS, rtol=1e-6)
    # Probabilities become the most likely class.
    soft = ops.convert_to_tensor(np.array([[0, 0, 0.2, 0.5, 0.3, 0.4, 0.6]], "f4"))
    np.testing.assert_allclose(SPEC.to_data(soft), [[1, 60_000, 1, -0.5]], rtol=1e-6)
    np.testing.assert_allclose(SPEC.unit_mean(ROWS), FEATURES.mean(axis=0), atol=1e-4)


def test_tables_of_one_kind_of_column_convert_back():
    numbers = TableSpec([COLUMNS[1], COLUMNS[3]])
    np.testing.assert_allclose(numbers.to_data(numbers.to_unit(ROWS[:, [1, 3]])), ROWS[:, [1, 3]], rtol=1e-6)
    classes = TableSpec([COLUMNS[0], COLUMNS[2]])
    np.testing.assert_array_equal(classes.to_data(classes.to_unit(ROWS[:, [0, 2]])), ROWS[:, [0, 2]])
    assert classes.log_jacobian(likelihoods.Mixed.from_spec(classes)) == 0


def test_scales_are_learned_from_rows():
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(0, 3, 500), rng.normal(60, 20, 500), np.full(500, 7.0)], 1).astype("f4")
    spec = TableSpec.learn([COLUMNS[0], {"name": "b", "kind": "numeric"}, {"name": "c", "kind": "numeric"}], x)
    assert spec.columns[1]["mean"] == pytest.approx(x[:, 1].mean(), rel=1e-6)
    assert spec.columns[1]["scale"] == pytest.approx(x[:, 1].std(), rel=1e-5)
    assert (spec.columns[2]["mean"], spec.columns[2]["scale"]) == (7, 1)
    shares = [pytest.approx((x[:, 0] == index).mean(), rel=1e-5) for index in range(3)]
    assert spec.columns[0] == {**COLUMNS[0], "shares": shares}
    spec.order, spec.header, spec.delimiter = ["a", "b", "c"], ["a", " b", " c"], ", "
    again = TableSpec.from_config(spec.get_config())
    assert again.manifest() == spec.manifest()
    assert (again.manifest()["header"], again.manifest()["delimiter"]) == (["a", " b", " c"], ", ")


@pytest.mark.parametrize("sigma", ["optimal", "shared", 0.3])
def test_density_of_a_row_equals_scipy_per_data_unit(sigma):
    mixed = likelihoods.Mixed.from_spec(SPEC, sigma)
    if mixed.log_var is not None:
        mixed.log_var.assign(2 * np.log([0.3, 0.3]))
    rng = np.random.default_rng(1)
    parameters = rng.normal(size=(2, 7)).astype("f4")
    got = SPEC.log_jacobian(mixed) - np.asarray(mixed.nll(SPEC.to_unit(ROWS), ops.convert_to_tensor(parameters)))
    p = parameters.astype("f8")
    expected = (
        stats.norm.logpdf(ROWS[:, 1], 60_000 + 20_000 * p[:, 0], 0.3 * 20_000)
        + stats.norm.logpdf(ROWS[:, 3], -0.5 + 0.01 * p[:, 1], 0.3 * 0.01)
        + np.log(np.exp(p[:, 2:5]) / np.exp(p[:, 2:5]).sum(1, keepdims=True))[[0, 1], [2, 0]]
        + np.log(np.exp(p[:, 5:7]) / np.exp(p[:, 5:7]).sum(1, keepdims=True))[[0, 1], [0, 1]]
    )
    np.testing.assert_allclose(got, expected, rtol=2e-4)


def test_density_of_a_row_integrates_to_1():
    spec = TableSpec([COLUMNS[0], COLUMNS[1], COLUMNS[2]])
    mixed = likelihoods.Mixed.from_spec(spec, 0.5)
    parameters = np.array([[0.4, 1.0, -2.0, 0.3, 0.7, -0.1]], "f4")
    income = np.linspace(-60_000, 200_000, 2001)
    total = 0.0
    for colour, other in itertools.product(range(3), range(2)):
        rows = np.stack([np.full(2001, colour), income, np.full(2001, other)], 1).astype("f4")
        nll = mixed.nll(spec.to_unit(rows), ops.convert_to_tensor(np.tile(parameters, (2001, 1))))
        total += integrate.simpson(np.exp(spec.log_jacobian(mixed) - np.asarray(nll, "f8")), x=income)
    assert total == pytest.approx(1.0, rel=1e-4)


def test_optimal_sigma_is_separate_for_each_column():
    mixed = likelihoods.Mixed([["a", 0], ["b", 0]])
    x = np.random.default_rng(2).normal(size=(400, 2)).astype("f4") * [0.1, 2.0]
    for _ in range(3):
        mixed.nll(ops.convert_to_tensor(x, "float32"), ops.zeros((400, 2)), training=True)
    # A running mean from 0 with the momentum 0.95.
    np.testing.assert_allclose(mixed.log_var, (1 - 0.95**3) * np.log((x**2).mean(0)), rtol=1e-5)


def test_output_names_are_valid_and_unique():
    mixed = likelihoods.Mixed([["Größe (cm)", 3], ["n", 0], ["ä", 2], ["A", 2], ["a", 2], ["2nd", 2], ["a 4", 2]])
    assert mixed.probability_names == [
        "x_probability_gr_e_cm", None, "x_probability_2", "x_probability_a", "x_probability_a_4", "x_probability_2nd",
        "x_probability_a_4_6",
    ]  # fmt: skip


def test_initial_bias_gives_the_data_mean():
    mixed = likelihoods.Mixed.from_spec(SPEC)
    mean = np.array([0.1, -0.2, 0.5, 0.3, 0.2, 0.75, 0.25])
    np.testing.assert_allclose(mixed.mean(ops.convert_to_tensor(mixed.initial_bias(mean)[None])), [mean], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TableSpec([]), "expected at least one"),
        (lambda: TableSpec([COLUMNS[0], COLUMNS[0]]), "all with different names"),
        (lambda: TableSpec([{"name": "a", "kind": "numeric"}]), "needs a mean"),
        (lambda: TableSpec([{"name": "a", "kind": "numeric", "mean": 0, "scale": 0.0}]), "positive scale"),
        (lambda: TableSpec([{"name": "a", "kind": "categorical", "classes": ["x", "x"]}]), "needs classes"),
        (lambda: TableSpec([{"name": "a", "kind": "text"}]), "numeric or categorical"),
        (lambda: SPEC.check(ROWS[:, :2], "fit"), r"shape \[batch, 4\]"),
        (lambda: SPEC.check(ROWS[:0], "fit"), "no examples"),
        (lambda: SPEC.check(changed(ROWS, 0, 3), "fit"), "Colour contains 3, expected the index of a class, 0 to 2"),
        (lambda: SPEC.check(changed(ROWS, 1, np.nan), "fit"), "income contains NaN"),
        (lambda: likelihoods.Mixed([]), "pairs"),
        (lambda: likelihoods.Mixed([["a", 0]], "diagonal"), "optimal"),
        (lambda: likelihoods.Mixed([["a", 0]], -1.0), "positive number"),
        (lambda: likelihoods.Mixed([["a", 0]]).check(ROWS, SPEC, "fit"), r"Mixed\.from_spec\(spec\)"),
        (lambda: make_model(likelihood=likelihoods.Gaussian()), "does not model table data"),
        (lambda: make_model(data=DataSpec((7,)), likelihood=likelihoods.Mixed.from_spec(SPEC)), "and only there"),
    ],
)
def test_invalid_columns_rows_and_likelihoods_are_rejected(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def make_model(conditions=(), prior=None, seed=0, **changes):
    given = sum(condition.dim for condition in conditions)
    encoder = networks.dense_encoder((7,), 2, (12,), condition_dim=given)
    decoder = networks.dense_decoder((7,), 2, (12,), condition_dim=given)
    arguments = {"data": SPEC, "likelihood": likelihoods.Mixed.from_spec(SPEC), "prior": prior, **changes}
    made = (
        kvae.ConditionalVAE(encoder, decoder, conditions=list(conditions), **arguments)
        if conditions
        else kvae.VAE(encoder, decoder, **arguments)
    )
    rng = np.random.default_rng(seed)
    for part in (made.encoder, made.decoder):
        for weight in part.weights:
            weight.assign(rng.normal(0, 0.4, weight.shape))
    return made


def some_rows(num, seed=0):
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, 3, num),
        rng.normal(60e3, 20e3, num),
        rng.integers(0, 2, num),
        rng.normal(-0.5, 0.01, num),
    ]
    return np.stack(columns, axis=1).astype("f4")


def given_rows(num):
    return {"label": np.arange(num) % 3, "age": np.linspace(18, 90, num, dtype="f4")}


CONDITIONS = [kvae.Categorical("label", ["p", "q", "r"]), kvae.Continuous("age", 18, 90)]


@pytest.mark.parametrize(
    "conditions", [pytest.param((), marks=pytest.mark.long), CONDITIONS], ids=["plain", "conditional"]
)
def test_exported_table_model_equals_keras(conditions, tmp_path):
    made = make_model(conditions)
    made.export(tmp_path / "m")
    served = kvae.load(tmp_path / "m")
    assert [check.ok for check in served.verify()] == [True] * len(served.verify())
    assert served.manifest.data.columns == tuple(COLUMNS)
    x, z = some_rows(9), np.random.default_rng(3).normal(size=(9, 2)).astype("f4")
    given = given_rows(9) if conditions else {}
    vector = (made.condition_vector(given),) if given else ()
    z_mean, _ = made._encode(SPEC.to_unit(x), vector)
    np.testing.assert_allclose(served.encode(x, given)[0], z_mean, rtol=1e-4, atol=1e-4)
    parameters = np.asarray(made._decode(z, vector), "f8")
    outputs = served.run("decoder", {"z": z, **given})
    np.testing.assert_allclose(outputs["x_mean"][:, 1], 60e3 + 20e3 * parameters[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(outputs["x_mean"][:, 0], parameters[:, 2:5].argmax(1))
    np.testing.assert_array_equal(outputs["x_mean"][:, 2], parameters[:, 5:].argmax(1))
    expected = np.exp(parameters[:, 2:5]) / np.exp(parameters[:, 2:5]).sum(1, keepdims=True)
    np.testing.assert_allclose(outputs["x_probability_colour"], expected, rtol=1e-4)
    assert outputs["x_probability_colour_2"].shape == (9, 2)
    np.testing.assert_allclose(outputs["x_log_var"][0], [0, 2 * math.log(2e4), 0, 2 * math.log(0.01)], rtol=1e-4)
    nll = np.asarray(made.likelihood.nll(SPEC.to_unit(x), ops.convert_to_tensor(parameters, "float32")))
    np.testing.assert_allclose(
        served.log_likelihood(x, z, given), SPEC.log_jacobian(made.likelihood) - nll, rtol=1e-4, atol=1e-3
    )
    with pytest.raises(InputDataError, match="row 0 of column Colour"):
        served.encode(changed(x, 0, 5), given)


def test_sampled_rows_are_in_data_units(tmp_path):
    made = make_model()
    made.export(tmp_path / "m")
    served = kvae.load(tmp_path / "m")
    draws = served.sample(4000, seed=1, temperature=0.0, draw=True)
    assert draws.x.shape == (4000, 4)
    outputs = {name: value[0] for name, value in served.run("decoder", {"z": draws.z[:1]}).items()}
    for column in (1, 3):
        normal = stats.norm(outputs["x_mean"][column], np.exp(outputs["x_log_var"][column] / 2))
        assert stats.kstest(draws.x[:, column], normal.cdf).pvalue > 0.001
    for column, name in ((0, "x_probability_colour"), (2, "x_probability_colour_2")):
        found = np.bincount(draws.x[:, column].astype(int), minlength=len(outputs[name])) / 4000
        np.testing.assert_allclose(found, outputs[name], atol=0.03)
    means = served.sample(3, seed=1)
    assert set(means.x[:, 0]) <= {0, 1, 2}


@pytest.mark.parametrize(
    "prior",
    [
        pytest.param(priors.GaussianMixture(2, 3), marks=pytest.mark.long),
        priors.VampPrior((7,), 3, pseudo_inputs=-2 * np.ones((3, 7)), bounded=False),
    ],
    ids=lambda each: each.kind,
)
def test_learned_priors_export_with_tables(prior, tmp_path):
    made = make_model(prior=prior)
    if prior.kind == "vamp":  # standardised numbers are not bounded by 0 and 1
        np.testing.assert_allclose(prior.logits, -2 * np.ones((3, 7)))
    made.export(tmp_path / "m")
    assert kvae.load(tmp_path / "m").sample(5, seed=0, draw=True).x.shape == (5, 4)


def test_table_model_is_saved_and_loaded(tmp_path):
    made = make_model(CONDITIONS)
    made.compile("adam", run_eagerly=True)
    made.fit(some_rows(64), given_rows(64), batch_size=32, verbose=0)
    made.save(tmp_path / "m.keras")
    again = kvae.load_model(tmp_path / "m.keras")
    again.run_eagerly = True
    assert again.data.manifest() == SPEC.manifest()
    inputs = (some_rows(5), given_rows(5))
    np.testing.assert_array_equal(again(inputs), made(inputs))
    first, second = (each.evaluate(*inputs, verbose=0, return_dict=True) for each in (made, again))
    assert first == second
    with pytest.raises(ValueError, match="expected the index of a class"):
        made.fit(changed(some_rows(4), 0, 9), given_rows(4))


@pytest.mark.long
def test_table_model_learns_the_dependence_between_columns():
    # The mean of `size` depends on `kind`, and the share of `kind` on the condition.
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    num = 4000
    label = rng.integers(0, 2, num)
    kind = (rng.uniform(size=num) < np.where(label, 0.7, 0.4)).astype(int)
    size = rng.normal(np.where(kind, 170.0, 100.0), 5.0)
    x = np.stack([size, kind], 1).astype("f4")
    columns = [{"name": "size", "kind": "numeric"}, {"name": "kind", "kind": "categorical", "classes": ["a", "b"]}]
    spec = TableSpec.learn(columns, x)
    made = kvae.ConditionalVAE(
        networks.dense_encoder(spec.unit_shape, 2, (32,), condition_dim=2),
        networks.dense_decoder(spec.unit_shape, 2, (32,), condition_dim=2),
        conditions=kvae.Categorical("label", 2),
        data=spec,
        likelihood=likelihoods.Mixed.from_spec(spec),
    )
    made.compile(keras.optimizers.Adam(5e-3))
    made.fit(x, label, epochs=30, batch_size=100, verbose=0)
    elbo = made.evaluate(x, label, batch_size=1000, verbose=0, return_dict=True)["elbo"]
    # Upper bound: minus the entropy of a normal of sigma 5 and a coin of 0.7 or 0.4.
    entropy = 0.5 * math.log(2 * math.pi * math.e * 25) + np.mean([stats.entropy([p, 1 - p]) for p in (0.7, 0.4)])
    assert -entropy - 0.7 < elbo < -entropy + 0.05
    z = rng.normal(size=(4000, 2)).astype("f4")
    for value, share in ((0, 0.4), (1, 0.7)):
        vector = made.condition_vector({"label": np.full(4000, value)})
        mean = np.asarray(made.likelihood.mean(made._decode(z, (vector,))))
        drawn = rng.uniform(size=4000) < mean[:, 2]
        sizes = np.asarray(spec.to_data(ops.convert_to_tensor(mean)))[:, 0]
        assert drawn.mean() == pytest.approx(share, abs=0.08)
        assert np.median(sizes[drawn]) == pytest.approx(170, abs=10)
        assert np.median(sizes[~drawn]) == pytest.approx(100, abs=10)


def test_values_that_occur_often_are_drawn_with_all_of_their_digits():
    rng = np.random.default_rng(0)
    cities = np.array([51.50735091, -0.1277583, 40.71277601])
    numbers = np.where(rng.random(600) < 0.6, rng.choice(cities, 600), rng.uniform(-90, 90, 600).round(8))
    data = csv.infer(frames.from_frame({"lat": numbers.tolist(), "kind": ["a", "b", "c"] * 200}, "a"), ReadOptions())
    assert len(data.columns[0]["exact"]) > 100
    spec = TableSpec.learn(data.columns, data.x, numbers="quantile")
    assert spec.columns[0]["exact"] == sorted(cities.tolist())
    scores = ops.convert_to_tensor(np.pad(rng.normal(size=(4000, 1)).astype("f4"), ((0, 0), (0, 3))))
    texts = cells.texts(spec.columns[0], np.asarray(spec.to_data(scores))[:, 0])
    share = np.isin(texts, [f"{each:.8f}" for each in cities]).mean()
    assert share == pytest.approx(0.6, abs=0.04)
    assert "exact" not in TableSpec.learn(data.columns, data.x, numbers="standard").columns[0]

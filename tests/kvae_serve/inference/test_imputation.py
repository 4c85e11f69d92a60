"""Draws of missing values against closed forms and quadrature of linear models."""

import numpy as np
import pytest

from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.model import load
from support import make_linear_models as linear
from support import make_linear_table as table

X = np.array([11.0, -3.5, 1.5, 3.0, 0.7])
PATTERNS = ([1, 0, 1, 0, 1], [0, 0, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0])


def conditional(mean, covariance, observed):
    """Return mean and covariance of the missing values of a Gaussian, given those of X, and log p of the latter."""
    known, unknown = np.flatnonzero(observed), np.flatnonzero(~observed)
    gain = covariance[np.ix_(unknown, known)] @ np.linalg.inv(covariance[np.ix_(known, known)])
    away = X[known] - mean[known]
    seen = covariance[np.ix_(known, known)]
    log_prob = -0.5 * (away @ np.linalg.inv(seen) @ away + np.linalg.slogdet(2 * np.pi * seen)[1])
    rest = covariance[np.ix_(unknown, unknown)] - gain @ covariance[np.ix_(known, unknown)]
    return mean[unknown] + gain @ away, rest, log_prob


def components(name, label=None):
    """Return log weight, mean and covariance of x under each component of the prior of a linear model."""
    W, noise = linear.W.astype(np.float64), linear.SIGMA**2 * np.eye(5)
    if linear.MODELS[name][1] == "standard_normal":
        chosen = [(0.0, np.zeros(2), np.zeros(2))]
    else:
        chosen = list(zip(linear.LOG_WEIGHTS, linear.M, linear.L, strict=True))
        chosen = chosen if label is None else [chosen[label]]
    shift = linear.BIAS + (0 if label is None else linear.C[label])
    return [(weight, m @ W + shift, (W.T * np.exp(log_var)) @ W + noise) for weight, m, log_var in chosen]


def draws(name, observed, rows=400, num=4, **options):
    x = np.where(observed, X, np.nan)
    return load(table.FOLDER.parent / name).impute(np.tile(x, (rows, 1)), num=num, seed=3, **options)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("name", ["linear", "linear_mixture", "linear_label"])
def test_draws_have_moments_of_the_conditional_gaussian(name, pattern):
    observed = np.array(pattern, bool)
    label = 1 if name == "linear_label" else None
    found = draws(name, observed, label=label)
    parts = [(weight, *conditional(mean, cov, observed)) for weight, mean, cov in components(name, label)]
    weights = np.exp([weight + log_prob for weight, _, _, log_prob in parts])
    weights /= weights.sum()
    mean = sum(w * part[1] for w, part in zip(weights, parts, strict=True))
    second = sum(w * (part[2] + np.outer(part[1], part[1])) for w, part in zip(weights, parts, strict=True))
    covariance = second - np.outer(mean, mean)
    values = found.x.reshape(-1, 5).astype(np.float64)
    assert (values[:, observed] == X[observed].astype(np.float32)).all()
    missing = values[:, ~observed]
    # 1,600 draws, of which four share the draws of z: the error of a mean is about 1/30 of its deviation.
    scale = np.sqrt(np.diag(covariance))
    assert (missing.mean(axis=0) - mean) / scale == pytest.approx(0, abs=0.15)
    assert np.cov(missing.T).reshape(len(mean), -1) / np.outer(scale, scale) == pytest.approx(
        covariance / np.outer(scale, scale), abs=0.2
    )
    assert found.effective.min() > 10
    assert found.effective.max() <= 256


def posterior_grid(age, debt):
    """Return a grid of z and its probabilities given two numbers of the linear table, by quadrature."""
    axis = np.linspace(-6, 6, 241)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    out = table.decode(z)
    log_prob = -0.5 * (z**2).sum(axis=1)
    for at, value in ((0, age), (3, debt)):
        log_prob -= 0.5 * ((value - out["x_mean"][:, at]) ** 2 * np.exp(-out["x_log_var"][:, at]))
    weights = np.exp(log_prob - log_prob.max())
    return out, weights / weights.sum()


def test_class_and_number_of_a_table_have_their_probabilities_by_quadrature():
    out, weights = posterior_grid(10.8, 0.2)
    x = np.tile([10.8, np.nan, np.nan, 0.2], (600, 1))
    drawn = load(table.FOLDER).impute(x, num=3, seed=1).x.reshape(-1, 4)
    shares = np.bincount(drawn[:, 1].astype(int), minlength=3) / len(drawn)
    assert shares == pytest.approx(weights @ out["x_probability_sex"], abs=0.04)
    mean = weights @ out["x_mean"][:, 2]
    deviation = np.sqrt(weights @ (out["x_mean"][:, 2] ** 2) + 1.0 - mean**2)
    assert drawn[:, 2].mean() == pytest.approx(mean, abs=0.1 * deviation)
    assert drawn[:, 2].std() == pytest.approx(deviation, rel=0.08)


def test_an_observed_class_moves_the_numbers():
    model = load(table.FOLDER)
    means = []
    for sex in (0, 1):
        x = np.tile([np.nan, sex, np.nan, np.nan], (400, 1))
        means.append(model.impute(x, seed=0).x[0, :, 0].mean())
    axis = np.linspace(-6, 6, 241)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    out = table.decode(z)
    for sex in (0, 1):
        weights = np.exp(-0.5 * (z**2).sum(axis=1)) * out["x_probability_sex"][:, sex]
        assert means[sex] == pytest.approx(weights @ out["x_mean"][:, 0] / weights.sum(), abs=0.2)


def test_draws_of_a_row_do_not_depend_on_other_rows_or_their_number():
    model = load(table.FOLDER)
    x = np.array([[10.0, np.nan, -3, 0.5], [11, 1, np.nan, np.nan], [np.nan, 2, -4, 1], [9, 0, -3, 0]])
    whole = model.impute(x, num=3, seed=7)
    assert (whole.x[:, 3] == x[3].astype(np.float32)).all()
    for row in range(3):
        alone = model.impute(x[row : row + 1], seed=7, start=row, batch_size=5)
        assert (alone.x[0, 0] == whole.x[0, row]).all()
        assert (alone.z[0, 0] == whole.z[0, row]).all()
    other = model.impute(x, num=3, seed=8)
    assert (other.z[:, :3] != whole.z[:, :3]).all()
    assert (other.x[:, 1:3] != whole.x[:, 1:3]).any(axis=-1).all()  # Of row 0 only a class is missing.


def test_mask_replaces_nan_and_ignores_the_values_below_it():
    model = load(table.FOLDER)
    x = np.array([[10.0, 1, -3, 0.5]])
    observed = np.array([[True, False, True, False]])
    by_nan = model.impute(np.where(observed, x, np.nan), seed=2)
    assert (model.impute(x, observed=observed, seed=2).x == by_nan.x).all()


def test_unsuitable_models_and_inputs_are_refused(tiny):
    model = load(table.FOLDER)
    with pytest.raises(RequestError, match="has a bernoulli likelihood; values can be filled in for tables"):
        load(tiny / "unconditional").impute(np.full((1, 8, 6, 1), np.nan))
    with pytest.raises(InputDataError, match="expected the index of a class"):
        model.impute([[10.0, 5, np.nan, 0.5]])
    with pytest.raises(InputDataError, match=r"observed has the type int64 .*expected bool \[1, 4\]"):
        model.impute([[10.0, 1, 0, 0.5]], observed=[[1, 0, 1, 1]])
    with pytest.raises(RequestError, match="num_samples is 3"):
        model.impute([[10.0, 1, np.nan, 0.5]], num_samples=3)


def test_frames_and_dicts_are_imputed_like_arrays_and_keep_their_index():
    pandas = pytest.importorskip("pandas")
    model = load(table.FOLDER)
    columns = {"age": [9.5, np.nan], "sex": ["male", None], "debt": [0.25, 1.0], "pay": [np.nan, -2.0]}
    frame = pandas.DataFrame(columns, index=["p", "q"])
    x = model.impute(np.array([[9.5, 1, np.nan, 0.25], [np.nan, np.nan, -2.0, 1.0]]), seed=0).x[0]
    result = model.impute(frame, seed=0)
    assert list(result.index) == ["p", "q"]
    numbers = ["age", "pay", "debt"]
    np.testing.assert_allclose(result[numbers].to_numpy(), x[:, table.NUMBERS], rtol=1e-6)
    assert result["sex"].tolist() == [table.CLASSES[int(each)] for each in x[:, 1]]
    filled = frame.fillna(result)
    assert not filled.isna().any().any()
    assert filled.loc["p", "pay"] == result.loc["p", "pay"]
    pandas.testing.assert_frame_equal(model.impute(columns, seed=0), result.reset_index(drop=True))
    assert list(model.reconstruct(frame.assign(sex="male").fillna(1.0)).index) == ["p", "q"]
    assert len(model.impute(frame.drop(columns="age"), num=2, seed=0)) == 2


def test_observed_values_that_the_model_cannot_write_are_kept(monkeypatch):
    model = load(table.FOLDER)
    model.impute(np.array([[9.5, 1, np.nan, 0.25]]), seed=0)  # The graphs are loaded before their manifest changes.
    monkeypatch.setitem(model.manifest.data.columns[0], "maximum", 11.0)
    monkeypatch.setitem(model.manifest.data.columns[3], "decimals", 1)
    columns = {"age": [9.5, 50.0], "sex": ["male", "robot"], "debt": [0.25, 0.5], "pay": [np.nan, np.nan]}
    for num in (1, 2):
        results = model.impute(columns, num=num, seed=0)
        for result in results if num > 1 else [results]:
            assert {name: list(result[name]) for name in ("age", "sex", "debt")} == {
                name: columns[name] for name in ("age", "sex", "debt")
            }
            assert np.isfinite(np.array(result["pay"])).all()


def test_dicts_are_imputed_as_dicts_without_pandas(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    result = load(table.FOLDER).impute({"age": [9.5], "sex": ["male"], "debt": [0.25]}, seed=0)
    assert {name: len(values) for name, values in result.items()} == {"age": 1, "sex": 1, "pay": 1, "debt": 1}
    assert np.isfinite(result["pay"]).all()

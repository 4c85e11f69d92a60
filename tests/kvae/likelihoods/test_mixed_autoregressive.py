"""Rows whose columns depend on each other given z: densities, draws and imputation against sums over all rows."""

import itertools

import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

import kvae
from kvae.exporting.keras_model import KerasModel
from kvae.likelihoods import MixedAutoregressive
from kvae.training.defaults import default_settings, starting_config
from kvae_serve.errors import ModelFileError, RequestError
from kvae_serve.inference.likelihoods import get_likelihood
from kvae_serve.sealed import noise

COLUMNS = [
    {"name": "code", "kind": "numeric"},
    {"name": "colour", "kind": "categorical", "classes": ["red", "green", "blue"]},
    {"name": "size", "kind": "numeric"},
    {"name": "loss", "kind": "numeric"},
]


def rows(num=600):
    """Return rows of an integer of four values, a class, a normal number, and one that is often 0 or missing."""
    rng = np.random.default_rng(0)
    code = rng.choice([1, 2, 5, 9], num)
    loss = np.where(rng.random(num) < 0.4, 0.0, rng.exponential(size=num))
    loss[rng.random(num) < 0.2] = np.nan
    return np.stack([code, rng.integers(0, 3, num), rng.normal(20, 4, num), loss], axis=1)


def table_model(seed=3, uses_z=True):
    """Return a model with random weights, in which every column depends on those before it."""
    spec = kvae.TableSpec.learn(COLUMNS, rows(), numbers="quantile")
    size = {name: spec.columns[2][name] for name in ("name", "kind", "mean", "scale")}
    spec = kvae.TableSpec([*spec.columns[:2], size, spec.columns[3]])
    assert [column.get("form") for column in spec.columns] == ["classes", None, None, "quantile"]
    likelihood = MixedAutoregressive(**MixedAutoregressive.arguments(spec), width=6, components=3)
    model = kvae.VAE.dense(data=spec, latent_dim=2, hidden=(8,), likelihood=likelihood, name="table")
    rng = np.random.default_rng(seed)
    likelihood.effect.assign(0.5 * rng.normal(size=likelihood.effect.shape))
    likelihood.embedding.assign(0.5 * rng.normal(size=likelihood.embedding.shape))
    for weight in model.decoder.weights:
        spread = 0.7 if uses_z or "parameters/bias" in weight.path else 0.0
        weight.assign(spread * rng.normal(size=weight.shape))
    return model


MODEL = table_model()


def log_prob(model, x, z):
    """Return log p(x|z) of rows with Keras, float64 `[rows]`."""
    parameters = model._decode(np.tile(np.float32(z), (len(x), 1)))
    nll = model.likelihood.nll(model.data.to_unit(np.asarray(x, "f4")), parameters)
    return np.asarray(model.data.log_jacobian(model.likelihood) - nll, "f8")


def by_hand(model, row, z):
    """Return log p of each column of a row, computed feature by feature in float64."""
    like, spec = model.likelihood, model.data
    p = np.asarray(model._decode(np.float32([z])), "f8")[0]
    embedding, effect = np.asarray(like.embedding, "f8"), np.asarray(like.effect, "f8")
    # Features: size, loss, codes 1 2 5 9, three colours, loss is missing.
    slices = {"code": range(2, 6), "colour": range(6, 9), "size": [0], "loss": [1]}
    numbers = p[10:].reshape(3, 3, 2)  # offset, log variance and logit of three normals of size and loss
    state, result = np.zeros(6), []
    knots, scores = np.float32(spec.columns[3]["knots"]).astype("f8"), np.array(spec.columns[3]["scores"])
    for name, at in (("code", 0), ("colour", 1), ("size", 2), ("loss", 3)):
        index = list(slices[name])
        change = state @ effect[index].T
        if name in ("code", "colour"):
            logits = p[index]
            one_hot = np.array([1, 2, 5, 9] if name == "code" else [0, 1, 2]) == row[at]
            share = spec.columns[0]["unseen"]["share"] if name == "code" else [0, 0, 0]
            log_p = logits + change - np.logaddexp.reduce(logits + change)
            result.append((log_p + np.log1p(-np.array(share)))[one_hot][0])
            residual = one_hot - np.exp(logits - np.logaddexp.reduce(logits))
        else:
            number = index[0]
            offset, log_var, logit = numbers[:, :, number]
            weight = np.exp(logit - np.logaddexp.reduce(logit))
            mean, deviation = p[number] + offset, np.exp(log_var / 2)
            if name == "size":
                score = (row[at] - spec.columns[2]["mean"]) / spec.columns[2]["scale"]
                density = stats.norm.pdf(score, mean + change, deviation)
                result.append(np.log(weight @ density) - np.log(spec.columns[2]["scale"]))
            else:
                missing_logit = p[9] + state @ effect[9]
                if np.isnan(row[at]):
                    result.append(stats.logistic.logcdf(missing_logit))
                    return np.array(result)
                if row[at] == 0:
                    low, high = scores[knots == 0]
                    density = np.diff(stats.norm.cdf([low, high], (mean + change)[:, None], deviation[:, None]))[:, 0]
                else:
                    piece = np.searchsorted(knots, row[at], side="right") - 1
                    slope = (scores[piece + 1] - scores[piece]) / (knots[piece + 1] - knots[piece])
                    score = scores[piece] + slope * (row[at] - knots[piece])
                    density = slope * stats.norm.pdf(score, mean + change, deviation)
                result.append(np.log(weight @ density) + stats.logistic.logcdf(-missing_logit))
            residual = [score - weight @ mean] if name == "size" else [0]
        state = state + residual @ embedding[index]
    return np.array(result)


def test_density_equals_the_formula_computed_column_by_column():
    x = [[5, 2, 18.5, 0.0], [1, 0, 27.0, np.nan], [9, 1, 20.0, 0.85], [2, 2, 11.0, 2.2]]
    z = [0.4, -1.1]
    expected = [by_hand(MODEL, row, z).sum() for row in x]
    assert log_prob(MODEL, x, z) == pytest.approx(expected, abs=3e-3)


def test_density_of_all_rows_sums_and_integrates_to_1():
    z, size = [0.0, 0.5], np.linspace(-40, 80, 601)
    shares = MODEL.data.columns[0]["unseen"]["share"]
    total = 0.0
    for (at, code), colour in itertools.product(enumerate([1, 2, 5, 9]), range(3)):
        x = np.stack([np.full(601, code), np.full(601, colour), size, np.full(601, np.nan)], axis=1)
        # The last column sums to 1 given the others, so the probability that it is missing is divided out. Integers
        # keep the part of their probability that they do not lend to unseen ones.
        log_missing = np.array([by_hand(MODEL, row, z)[3] for row in x])
        density = np.exp(log_prob(MODEL, x, z) - log_missing) / (1 - shares[at])
        total += integrate.simpson(density, x=size)
    assert total == pytest.approx(1.0, abs=2e-3)


def drawn(model, z, num=40_000):
    served = KerasModel(model)
    outputs = served.run("decoder", {"z": np.float32([z])})
    likelihood = get_likelihood(served)
    words = noise.words(0, noise.STREAM_DRAW, 0, num, likelihood.num_words(served.manifest.data))
    return likelihood.draw({k: np.repeat(v, num, axis=0) for k, v in outputs.items()}, words, served.manifest.data)


def test_draws_have_the_joint_probabilities_of_the_density():
    z = [0.4, -1.1]
    x = drawn(MODEL, z)
    shares = MODEL.data.columns[0]["unseen"]["share"]
    expected, observed = [], []
    for (at, code), colour in itertools.product(enumerate([1, 2, 5, 9]), range(3)):
        probability = np.exp(by_hand(MODEL, [code, colour, 20.0, np.nan], z)[:2].sum()) / (1 - shares[at])
        expected.append(probability)
        observed.append(((x[:, 0] == code) & (x[:, 1] == colour)).mean())
    assert sum(expected) == pytest.approx(1.0, abs=1e-5)
    error = np.sqrt(np.array(expected) * (1 - np.array(expected)) / len(x))
    assert (np.abs(np.array(observed) - expected) < 5 * error + 1e-6).all()


def test_drawn_numbers_have_the_distribution_of_the_density():
    z = [0.4, -1.1]
    x = drawn(MODEL, z)
    code, colour = stats.mode(x[:, :2]).mode.tolist()
    size = x[(x[:, 0] == code) & (x[:, 1] == colour), 2]
    grid = np.linspace(-40, 80, 6001)
    density = np.exp([by_hand(MODEL, [code, int(colour), each, np.nan], z)[2] for each in grid])
    cdf = integrate.cumulative_simpson(density, x=grid, initial=0)
    assert cdf[-1] == pytest.approx(1, abs=1e-3)
    assert stats.kstest(size, lambda at: np.interp(at, grid, cdf)).pvalue > 1e-4
    near = np.abs(x[:, 2] - 20) < 1
    expected = np.mean([np.exp(by_hand(MODEL, [*row[:3], np.nan], z)[3]) for row in x[near][:3000].astype("f8")])
    assert np.isnan(x[near][:3000, 3]).mean() == pytest.approx(expected, abs=0.05)


def test_parts_of_scores_of_the_files_add_up_and_equal_the_formula(tmp_path):
    MODEL.export(tmp_path / "table")
    served = kvae.load(tmp_path / "table")
    assert served.graphs == ("encoder", "decoder", "likelihood", "columns")
    x = rows(40)
    x[0, 0], x[1, 3] = 3.0, 4.5  # an integer that training lacks, and a number beyond the highest knot
    scores = served.score(x.astype("f4"), parts=True)
    assert scores.reconstruction_parts.sum(axis=1) == pytest.approx(scores.reconstruction, abs=2e-3)
    z = np.array([0.3, -0.2])
    expected = by_hand(MODEL, x[5], z).sum()
    found = served.run("likelihood", {"x": np.float32(x[5:6]), "z": np.float32(z[None])})["log_likelihood"][0]
    assert found == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_draws_of_a_row_have_the_same_bits_in_any_number_of_rows(size):
    served = KerasModel(MODEL)
    z = np.random.default_rng(0).normal(size=(300, 2)).astype("f4")
    outputs, likelihood, data = served.run("decoder", {"z": z}), get_likelihood(served), served.manifest.data
    words = noise.words(0, noise.STREAM_DRAW, 0, 300, likelihood.num_words(data))
    whole = likelihood.draw(outputs, words, data)
    parts = [
        likelihood.draw({name: each[at : at + size] for name, each in outputs.items()}, words[at : at + size], data)
        for at in range(0, 300, size)
    ]
    assert whole.tobytes() == np.concatenate(parts).tobytes()


def test_filled_rows_follow_whether_an_earlier_value_is_missing():
    spec = kvae.TableSpec([MODEL.data.columns[3], MODEL.data.columns[1]])
    likelihood = MixedAutoregressive(**MixedAutoregressive.arguments(spec), width=1, components=1)
    model = kvae.VAE.dense(data=spec, latent_dim=1, hidden=(4,), likelihood=likelihood, name="flag")
    for weight in model.decoder.weights:
        weight.assign(np.zeros(weight.shape))
    # Features: loss, three colours, loss is missing. A missing loss makes blue likely, a present one red.
    likelihood.embedding.assign([[0], [0], [0], [0], [1]])
    likelihood.effect.assign([[0], [-20], [0], [20], [0]])
    x = np.array([[0.5, np.nan], [1.5, np.nan]] * 200)
    filled = model.impute(x, seed=0).x[0]
    # p(missing) is 0.5, so the residual of a present loss is -0.5, and that of red's logit is +10.
    assert (filled[:, 1] == 0).mean() > 0.99
    assert (filled[:, 0] == x[:, 0].astype("f4")).all()


def test_imputed_classes_have_the_posterior_by_enumeration():
    model = table_model(seed=5, uses_z=False)
    x = np.tile([np.nan, 2.0, np.nan, np.nan], (1500, 1))
    filled = model.impute(x, seed=1).x[0]
    joint = np.array([np.exp(by_hand(model, [code, 2, 20.0, np.nan], [0, 0])[:2].sum()) for code in (1, 2, 5, 9)])
    joint /= 1 - np.array(model.data.columns[0]["unseen"]["share"])
    posterior = joint / joint.sum()
    assert np.ptp(posterior) > 0.1
    observed = [(filled[:, 0] == code).mean() for code in (1, 2, 5, 9)]
    assert observed == pytest.approx(posterior, abs=0.06)
    assert (filled[:, 1] == 2).all()
    assert not np.isnan(filled).any()


def test_columns_that_determine_each_other_agree_in_drawn_rows():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 6, 2000)
    columns = [{"name": name, "kind": "categorical", "classes": list("abcdef")} for name in ("code", "text")]
    x = np.stack([code, (code * 5) % 6], axis=1).astype("f4")
    spec = kvae.TableSpec.learn(columns, x)
    shares = {}
    for kind in (kvae.likelihoods.Mixed, MixedAutoregressive):
        sigma = "element" if kind is MixedAutoregressive else "optimal"
        model = kvae.VAE.dense(data=spec, latent_dim=1, hidden=(4,), likelihood=kind.from_spec(spec, sigma), seed=0)
        model.compile(kvae.optimizers.Adam(0.02))
        model.fit(x, epochs=8, batch_size=50, verbose=0)
        drawn = model.sample(1000, seed=0).x
        shares[kind] = ((drawn[:, 0] * 5) % 6 == drawn[:, 1]).mean()
    assert shares[MixedAutoregressive] > 0.97
    assert shares[kvae.likelihoods.Mixed] < 0.9


def test_sigma_selects_independent_columns(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "\n".join(f"{i / 7:.3f},{'xyz'[i % 3]}" for i in range(1000)))
    data = kvae.data.load(tmp_path / "x.csv")
    for sigma, expected in (
        ("auto", "mixed_autoregressive"),
        ("element", "mixed_autoregressive"),
        ("optimal", "mixed"),
    ):
        config = starting_config(data, {"sigma": sigma})
        assert default_settings(data, config).model.likelihood == expected
    (tmp_path / "small.csv").write_text("\n".join((tmp_path / "x.csv").read_text().splitlines()[:1000]))
    small = kvae.data.load(tmp_path / "small.csv")
    chosen = default_settings(small, starting_config(small, {}))
    assert (chosen.model.likelihood, chosen.training.learning_rate) == ("mixed", 1e-3)
    with pytest.raises(RequestError, match=r"--sigma is 0\.5, but .* or add --likelihood mixed"):
        default_settings(data, starting_config(data, {"sigma": "0.5", "likelihood": "mixed_autoregressive"}))


@pytest.mark.parametrize(("name", "shape"), [("x_score", (3, 4)), ("x_probability_colour", (3,))])
def test_decoder_without_parameters_of_the_columns_is_refused(name, shape):
    served = KerasModel(MODEL)
    outputs = served.run("decoder", {"z": np.float32([[0, 0]])})
    assert outputs[name].shape == (1, *shape)
    likelihood = get_likelihood(served)
    words = noise.words(0, noise.STREAM_DRAW, 0, 1, likelihood.num_words(served.manifest.data))
    for values in (None, outputs[name][..., :-1]):
        damaged = {**outputs, name: values}
        with pytest.raises(ModelFileError, match=f"{name} (is missing|has the shape)"):
            likelihood.draw(damaged, words, served.manifest.data)


@pytest.mark.parametrize(("classes", "width"), [(100, 64), (1000, 12), (3000, 8)])
def test_default_width_limits_the_size_of_the_matrices(classes, width):
    assert MixedAutoregressive([["a", classes], ["b", 0]]).width == width - (classes == 1000)


def test_width_and_components_below_1_are_refused():
    with pytest.raises(ValueError, match="width is 0 and components is 5; expected at least 1"):
        MixedAutoregressive([["a", 0]], width=0)
    with pytest.raises(ValueError, match="sigma of MixedAutoregressive is 'optimal'; expected element"):
        MixedAutoregressive.from_spec(MODEL.data, "optimal")
    assert ops.shape(MODEL.likelihood.effect) == (10, 6)

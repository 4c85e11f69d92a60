"""Gaussian mixtures fitted to the posteriors of exported models, on linear models with closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest

import kvae
from kvae.__main__ import run as main
from kvae.exporting import fitted_prior
from kvae_serve.errors import InputDataError, RequestError, VerificationError
from kvae_serve.inference.densities import Prior
from support import make_linear_models as linear

RNG = np.random.default_rng(3)
MEANS = np.array([[-3.0, 0.0], [2.0, 2.0], [1.0, -3.0]])


def draws(num, labels=None):
    """Data whose z are around MEANS, by label if there are labels."""
    group = RNG.integers(3, size=num) if labels is None else labels
    z = MEANS[group] + 0.3 * RNG.normal(size=(num, 2))
    given = {} if labels is None else {"label": labels}
    x = linear.decode(z, given)["x_mean"] + linear.SIGMA * RNG.normal(size=(num, linear.NUM_VALUES))
    return x.astype("f4")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fitted") / "out"
    return directory, kvae.fit_prior(linear.DATA / "linear", directory, draws(3000), num_components=3)


def test_fitted_mixture_brings_the_nll_close_to_that_of_the_process(fitted):
    directory, result = fitted
    x = draws(1000)
    # The process is a mixture of three Gaussians, whose log p(x) is known.
    parts = [linear.log_marginal(x, {}, mean, np.full(2, 2 * np.log(0.3))) for mean in MEANS]
    truth = -(np.logaddexp.reduce(parts, axis=0) - np.log(3)).mean()
    model = kvae.load(directory)
    nll = model.evaluate(x, importance_samples=100)["figures"]["nll"]["mean"]
    before = -linear.log_marginal(x, {}, np.zeros(2), np.zeros(2)).mean()
    assert truth - 0.02 < nll < truth + 0.5 < before - 1
    assert result.metrics["before"]["nll"] == pytest.approx(before, abs=0.2)
    assert result.metrics["fitted"]["nll"] == pytest.approx(nll, abs=0.2)


@pytest.mark.parametrize("num", [0, -1, 1.5, "a"])
def test_number_of_gaussians_is_checked_first(num, tmp_path):
    with pytest.raises(RequestError, match=r"num_components is .*; expected an integer"):
        kvae.fit_prior("mnist", tmp_path / "out", np.zeros((2, 28, 28, 1)), num_components=num)


def test_conditions_need_names(tmp_path):
    for held_out in (None, (np.zeros((2, 28, 28, 1)), np.zeros(2))):
        conditions = np.zeros(2) if held_out is None else {"label": np.zeros(2)}
        with pytest.raises(RequestError, match="expected each condition by name"):
            kvae.fit_prior("mnist", tmp_path / "out", np.zeros((2, 28, 28, 1)), conditions, held_out=held_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": np.zeros((5, 28, 28, 1))}, "held_out is not a pair"),
        (
            {"held_out": (np.zeros((5, 28, 28, 1)), {"label": np.zeros(4, int)})},
            r"label has the shape \[4\]; .* each of 5 rows",
        ),
        ({"x": [], "conditions": {"label": []}}, "number of examples in x is 0; expected at least 2"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
    ],
)
def test_arguments_of_the_fit_are_checked(changes, message, tmp_path):
    request = {"x": np.zeros((4, 28, 28, 1)), "conditions": {"label": np.zeros(4, int)}, **changes}
    with pytest.raises((InputDataError, RequestError), match=message):
        kvae.fit_prior("mnist", tmp_path / "out", **request)


def test_fitted_model_is_complete(fitted):
    directory, result = fitted
    model = kvae.load(directory)
    assert all(check.ok for check in model.verify())
    assert model.manifest.model_id != kvae.load(linear.DATA / "linear").manifest.model_id
    assert model.manifest.raw["score"]["examples"] == 3000
    assert model.manifest.training["fitted_prior"] == {"components": 3, "per_class": False, "examples": 2700}
    z = model.sample(2000, seed=0).z
    nearest = np.square(z[:, None] - MEANS).sum(-1).min(axis=1)
    assert np.quantile(nearest, 0.9) < 2.0  # N(0, I) has 5.6
    card = (directory / "README.md").read_text()
    assert f"{result.metrics['fitted']['nll']:.2f} |" in card
    assert "fitted, 3 Gaussians" in card


def test_mixture_per_class_has_the_moments_of_the_posteriors(tmp_path):
    labels = np.repeat([0, 1, 2], 800)
    x = draws(len(labels), labels)
    args = (linear.DATA / "linear_label", tmp_path / "out", x, {"label": labels})
    kvae.fit_prior(*args, per_class=True, num_components=1, held_out=(x[::10], {"label": labels[::10]}))
    q = linear.encode(x, {"label": labels}, exact=False)
    prior = kvae.load(tmp_path / "out").run("prior", {"label": np.arange(3), "component": np.zeros(3, np.int64)})
    for label in range(3):
        mean, variance = q["z_mean"][labels == label], np.exp(q["z_log_var"][labels == label])
        np.testing.assert_allclose(prior["z_mean"][label], mean.mean(0), atol=0.03)
        expected = mean.var(0) + variance.mean(0)
        np.testing.assert_allclose(np.exp(prior["z_log_var"][label]), expected, rtol=0.06)


def test_density_of_a_mixture_per_class_is_that_of_sklearn(tmp_path):
    mixture = pytest.importorskip("sklearn.mixture")
    labels = np.repeat([0, 1, 2], 400)
    x = draws(len(labels), labels)
    kvae.fit_prior(
        linear.DATA / "linear_label", tmp_path / "out", x, {"label": labels}, per_class=True, num_components=4
    )
    model = kvae.load(tmp_path / "out")
    z, weights = RNG.normal(size=(5, 2)), np.exp(model.manifest.prior["log_weights"])
    for label in range(3):
        parts = model.run("prior", {"label": np.full(4, label), "component": np.arange(4)})
        peer = mixture.GaussianMixture(4, covariance_type="diag")
        peer.weights_, peer.means_ = weights, parts["z_mean"].astype("f8")
        peer.precisions_cholesky_ = np.exp(-parts["z_log_var"].astype("f8") / 2)
        found = Prior(model, {"label": np.full(5, label)}).log_prob(z)
        np.testing.assert_allclose(found, peer.score_samples(z), rtol=1e-5)


def test_class_without_examples_keeps_the_standard_normal(tmp_path):
    labels = np.repeat([0, 2], 400)
    x = draws(len(labels), labels)
    kvae.fit_prior(linear.DATA / "linear_label", tmp_path / "out", x, {"label": labels}, per_class=True)
    model = kvae.load(tmp_path / "out")
    num = model.manifest.num_components
    assert num == 36  # a Gaussian for 5 examples per dimension, of 360 that are not held out
    assert not model.run("prior", {"label": np.full(num, 1), "component": np.arange(num)})["z_mean"].any()


def test_mixture_that_makes_the_nll_worse_is_refused(tmp_path):
    z = RNG.normal(size=(50, 2))  # as under the prior of the model, unlike the data of the fit
    held_out = linear.decode(z, {})["x_mean"] + linear.SIGMA * RNG.normal(size=(50, linear.NUM_VALUES))
    with pytest.raises(VerificationError, match=r"makes the nll worse.*fewer than 3 Gaussians"):
        kvae.fit_prior(
            linear.DATA / "linear", tmp_path / "out", draws(500), num_components=3,
            held_out=(held_out.astype("f4"), None),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("gmm", (False, None)), ("gmm:7", (False, 7)), ("gmm-per-class", (True, None)), ("gmm-per-class:30", (True, 30))],
)
def test_prior_is_parsed(text, expected):
    assert fitted_prior.parse(text) == expected


@pytest.mark.parametrize("text", ["", "gmm:", "gmm:0", "gmm:-1", "vamp", "gmm-per-class:x"])
def test_unknown_prior_is_refused(text):
    with pytest.raises(RequestError, match="expected gmm, gmm:K"):
        fitted_prior.parse(text)


def test_requests_that_do_not_fit_the_model_are_refused(tmp_path):
    x = draws(50)
    with pytest.raises(RequestError, match="one condition with classes; linear has none"):
        kvae.fit_prior(linear.DATA / "linear", tmp_path / "out", x, per_class=True)
    with pytest.raises(InputDataError, match="60 Gaussians need at least as many examples; there are 45"):
        kvae.fit_prior(linear.DATA / "linear", tmp_path / "out", x, num_components=60)
    labels = np.repeat([0, 1], 25)
    name = kvae.load(linear.DATA / "linear_label").manifest.conditions[0].classes[0]
    with pytest.raises(InputDataError, match=f"40 Gaussians need at least as many examples; class {name} has 2"):
        kvae.fit_prior(
            linear.DATA / "linear_label", tmp_path / "out", draws(50, labels), {"label": labels}, per_class=True,
            num_components=40,
        )  # fmt: skip


def test_command_fits_an_exported_model_in_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=draws(1000))
    source = Path("model")
    source.mkdir()
    for file in (linear.DATA / "linear").iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    (source / "README.md").write_text("# model\n\n## Weights\n\n| float16 | 1 |\n\n## Use\n")
    assert main(["export", "model", "--prior", "gmm:3", "--data", "data.npz", "-o", "model", "--force", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["prior"]["fitted"]["nll"] < document["prior"]["before"]["nll"] - 1
    assert "prior.onnx" in document["files"]
    assert len(kvae.load("model").manifest.prior["log_weights"]) == 3
    assert "| float16 | 1 |" in (source / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prior", "gmm", "-o", "out"], "Give --data"),
        (["--sample-metrics", "30", "-o", "out"], "are for --prior"),
        (["--prior", "gmm", "--data", "data.npz", "--triton", "out"], "Give -o FOLDER"),
        (["--prior", "gmm", "--data", "data.npz", "--classifier", "c", "-o", "out"], "Give --sample-metrics"),
        (["--prior", "gmm", "--data", "data.npz", "--weights", "int8", "-o", "out"], "Leave out --weights"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(arguments, message, capsys):
    assert main(["export", str(linear.DATA / "linear"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_prior_of_a_keras_file_needs_data(capsys):
    assert main(["export", "model.keras", "--prior", "gmm", "-o", "out"]) == 2
    assert "--prior needs the training data of the model. Give --data" in capsys.readouterr().err


def test_comparison_of_samples_needs_a_test_split(tmp_path, capsys):
    rows = kvae.load(linear.DATA / "linear_table").sample(200, seed=1, draw=True, temperature=0.3)
    rows.save(tmp_path / "rows.csv")
    request = ["export", linear.DATA / "linear_table", "--prior", "gmm:1", "--sample-metrics", "30"]
    assert main([str(each) for each in (*request, "--data", tmp_path / "rows.csv", "-o", tmp_path / "out")]) == 2
    assert "does not have a test split, which --sample-metrics needs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

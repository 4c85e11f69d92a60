"""Estimators: conventions of scikit-learn and PyOD, the threshold, missing values, pickles and exported files."""

from __future__ import annotations

import gc
import math
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import kvae
from support.paths import python_path

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from kvae.dataloaders import batches
from kvae.pyod import VAE
from kvae.sklearn import VAEOutlierDetector, VAETransformer
from kvae_serve.errors import VerificationError

ENVIRONMENT = {**os.environ, "PYTHONPATH": python_path()}
QUICK = {"latent_dim": 2, "hidden": (8,), "epochs": 1, "random_state": 0}


def plane(num=400, seed=0):
    """Rows near a plane in four dimensions, and the same with large offsets and scales."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 2)) @ np.array([[1.0, 1.0, 0.0, -1.0], [0.0, 1.0, 1.0, 1.0]])
    return (x + 0.05 * rng.normal(size=x.shape)) * [1.0, 1e-3, 1.0, 1e4] + [0.0, 0.0, 1.7e9, 0.0]


@pytest.fixture(scope="module")
def vae():
    return VAETransformer(latent_dim=2, hidden=(32,), epochs=150, random_state=0).fit(plane())


@pytest.fixture(scope="module")
def detector():
    return VAEOutlierDetector(0.05, **QUICK).fit(plane())


@pytest.mark.long
@pytest.mark.parametrize("estimator", [VAETransformer(**QUICK), VAEOutlierDetector(**QUICK)])
def test_estimators_pass_the_checks_of_scikit_learn(estimator):
    check_estimator(estimator)


@pytest.mark.long
def test_reconstruction_explains_as_much_variance_as_two_principal_components(vae):
    x = plane(seed=1)
    scale = plane().std(axis=0)
    pca = PCA(2).fit((plane() - plane().mean(axis=0)) / scale)
    rows = (x - plane().mean(axis=0)) / scale
    best = np.square(rows - pca.inverse_transform(pca.transform(rows))).mean()
    error = np.square((x - vae.inverse_transform(vae.transform(x))) / scale).mean()
    assert best < error < best + 0.05
    drawn = vae.sample(4000, random_state=0)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(x.T), atol=0.15)
    np.testing.assert_allclose(drawn.std(axis=0) / scale, 1.0, atol=0.2)


@pytest.mark.long
def test_new_normal_rows_are_flagged_at_the_rate_of_contamination():
    x = np.random.default_rng(0).normal(size=(2000, 5)) ** 3
    fitted = VAEOutlierDetector(0.05, novelty=True, epochs=20, random_state=0).fit(x)
    rate = (fitted.predict(np.random.default_rng(1).normal(size=(4000, 5)) ** 3) == -1).mean()
    assert rate == pytest.approx(0.05, abs=0.033)  # 3 standard errors of the quantile of 400 rows


def test_contamination_is_the_share_of_outliers_among_training_rows(detector):
    x = plane()
    assert (detector.labels_ == -1).mean() == 0.05
    np.testing.assert_array_equal(detector.predict(x), detector.labels_)
    scores = detector.score_samples(x)
    np.testing.assert_array_equal(detector.decision_function(x), scores - detector.offset_)
    np.testing.assert_array_equal(detector.decision_scores_, -scores)
    assert detector.threshold_ == -detector.offset_
    far = x + x.std(axis=0) * 20
    assert roc_auc_score(np.repeat([1, 0], len(x)), np.r_[scores, detector.score_samples(far)]) > 0.99


def test_added_latents_are_standardised_columns_and_do_not_reach_the_decoder():
    x = plane()
    x[::9, 1] = np.nan
    fitted = VAEOutlierDetector(1e-3, **QUICK).fit(x)  # less than one row of 400 is left out
    model = fitted.model_
    rows = x[:50] - fitted._offsets
    z_mean, z_log_var = model.encode(rows.astype("float32"))
    assert z_mean.shape == (50, 2 + 4)
    expected = np.nan_to_num((x[:50] - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0))
    np.testing.assert_allclose(z_mean[:, 2:], expected, atol=2e-4)
    np.testing.assert_array_equal(z_log_var[:, 2:], 0.0)
    noise = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    np.testing.assert_array_equal(model.decode(z_mean), model.decode(np.c_[z_mean[:, :2], noise]))


@pytest.mark.parametrize(("novelty", "sizes"), [(False, [400, 360, 360, 360]), (True, [320])])
def test_training_leaves_out_as_many_rows_as_are_outliers(novelty, sizes, monkeypatch):
    x = plane()
    x[::10, 0] += 30.0
    trained = []
    original = batches.training_batches

    def record(rows, *arguments):
        trained.append(rows)
        return original(rows, *arguments)

    monkeypatch.setattr(batches, "training_batches", record)
    VAEOutlierDetector(0.1, novelty=novelty, latent_dim=2, hidden=(8,), epochs=10, random_state=0).fit(x)
    assert [len(rows) for rows in trained] == sizes
    assert (trained[0][:, 0] > 20).any()
    if not novelty:
        assert not (trained[-1][:, 0] > 20).any()


def test_detector_of_pyod_has_higher_scores_and_label_1_for_outliers(detector):
    x = plane()
    same = VAE(0.05, latent_dim=2, encoder_neuron_list=(8,), epoch_num=1, random_state=0).fit(x)
    np.testing.assert_array_equal(same.labels_, detector.labels_ == -1)
    np.testing.assert_array_equal(same.predict(x), same.labels_)
    np.testing.assert_array_equal(same.decision_function(x), same.decision_scores_)
    np.testing.assert_array_equal(same.labels_, same.decision_scores_ > same.threshold_)
    for method in ("linear", "unify"):
        probabilities = same.predict_proba(x, method)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
        assert 0 <= probabilities.min() <= probabilities.max() <= 1
        assert probabilities[:, 1].argmax() == same.decision_scores_.argmax()
    assert clone(same).get_params() == same.get_params()
    with pytest.raises(ValueError, match="expected linear or unify"):
        same.predict_proba(x, "none")


def test_confidence_is_the_tail_of_a_binomial_distribution():
    """The label 1 stays if fewer than int(n * contamination) of n new scores are above, each by the posterior mean."""
    x = plane(40)
    fitted = VAE(0.1, latent_dim=2, encoder_neuron_list=(8,), epoch_num=1, random_state=0).fit(x)
    labels, confidence = fitted.predict(x, return_confidence=True)
    num, highest = 40, 4
    for score, label, actual in zip(fitted.decision_scores_, labels, confidence, strict=True):
        above = 1 - (1 + (fitted.decision_scores_ <= score).sum()) / (2 + num)
        tail = sum(math.comb(num, k) * above**k * (1 - above) ** (num - k) for k in range(highest))
        assert actual == pytest.approx(tail if label else 1 - tail)
    np.testing.assert_array_equal(fitted.predict_confidence(x), confidence)
    np.testing.assert_array_equal(fitted.predict_proba(x, return_confidence=True)[1], confidence)
    rejected = fitted.predict_with_rejection(x, T=2.0)
    uncertain = np.abs(confidence - 0.5) <= 0.5 - np.exp(-2.0)
    np.testing.assert_array_equal(rejected, np.where(uncertain, -2, labels))
    assert 0 < uncertain.sum() < num
    with pytest.raises(ValueError, match="T is 0; expected a number above 0"):
        fitted.predict_with_rejection(x, T=0)


def test_parameters_of_pyod_are_accepted_and_those_without_effect_are_named():
    quick = {"latent_dim": 2, "encoder_neuron_list": [8, 4], "epoch_num": 1}
    silent = {"preprocessing": True, "device": "cpu", "optimizer_name": "adam", "decoder_neuron_list": [4, 8],
              "use_compile": False, "batch_norm": False}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        VAE(**quick, **silent).fit(plane(30))
    with pytest.warns(UserWarning, match="ignores capacity, decoder_neuron_list, dropout_rate: "):
        VAE(**quick, capacity=0.0, dropout_rate=0.2, decoder_neuron_list=[8, 8]).fit(plane(30))
    with pytest.warns(UserWarning, match="ignores decoder_neuron_list, logvar_clip: "):
        VAE(**quick, logvar_clip=np.array([-9.0, 9.0]), decoder_neuron_list=3).fit(plane(30))


def test_exported_files_give_the_scores_of_the_estimator(detector, tmp_path):
    pandas = pytest.importorskip("pandas")
    x = plane(20, seed=3)
    paths = detector.export(tmp_path / "model")
    served = kvae.load(tmp_path / "model")
    assert {path.name for path in paths} >= {"encoder.onnx", "decoder.onnx", "likelihood.onnx"}
    frame = pandas.DataFrame(x, columns=["x0", "x1", "x2", "x3"])
    np.testing.assert_allclose(served.score(frame).elbo, detector.score_samples(x), rtol=1e-5)
    with pytest.raises(kvae.errors.OutputError):
        detector.export(tmp_path / "model")


def test_pickled_estimator_does_not_need_tensorflow(detector, tmp_path):
    x = plane(5, seed=2)
    (tmp_path / "detector.pickle").write_bytes(pickle.dumps(detector))
    np.save(tmp_path / "x.npy", x)
    code = (
        "import pickle, sys, numpy as np; detector = pickle.load(open('detector.pickle', 'rb'));"
        "np.save('y.npy', detector.score_samples(np.load('x.npy')));"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), detector.score_samples(x))


def test_model_outlives_its_estimator():
    estimator = VAETransformer(**QUICK).fit(plane(30))
    model = estimator.model_
    folder = Path(model.path)
    del estimator
    assert model.sample(1).x.shape == (1, 4)
    del model
    gc.collect()
    assert not folder.exists()


def test_threshold_of_novelty_is_at_the_expected_share_of_fresh_rows():
    """The lowest of 19 held-out scores has the rank 1 / 20: a fresh row is the lowest of 20 with this probability."""
    fitted = VAEOutlierDetector(0.05, novelty=True, **QUICK).fit(plane(95))
    record = fitted.model_.manifest.raw["score"]
    assert record["examples"] == 19
    lowest = min(float(share) for share in record["quantiles"])
    assert lowest == pytest.approx(0.05)
    assert fitted.offset_ == pytest.approx(min(record["quantiles"].values()), abs=1e-3)
    assert -fitted.offset_ in fitted.decision_scores_
    with pytest.raises(ValueError, match=r"contamination is 0.04; expected at least 0.05, which is 1 / \(19 held-out"):
        VAEOutlierDetector(0.04, novelty=True, **QUICK).fit(plane(95))


def test_kvae_does_not_import_scikit_learn():
    code = "import sys, kvae; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_of_columns_and_missing_values_are_kept():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(plane(60), columns=["height", "width", "second", "weight"])
    holes = frame.mask(np.random.default_rng(0).random(frame.shape) < 0.1)
    pipeline = make_pipeline(VAETransformer(**QUICK)).set_output(transform="pandas")
    z = pipeline.fit_transform(holes)
    assert list(z) == ["vaetransformer0", "vaetransformer1"]
    assert z.notna().all().all()
    columns = pipeline[0].model_.manifest.data.columns
    assert [column["name"] for column in columns] == list(frame)
    long = VAETransformer(**QUICK).fit(frame.rename(columns={"width": "w" * 300}))
    assert [column["name"] for column in long.model_.manifest.data.columns] == ["x0", "x1", "x2", "x3"]
    assert np.isfinite(pipeline[0].score_samples(holes)).all()
    assert np.isfinite(VAETransformer(**QUICK).fit(frame).score_samples(holes)).all()  # complete in training


def test_grid_search_chooses_by_the_elbo():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), VAETransformer(**QUICK)), {"vaetransformer__latent_dim": [1, 2]}, cv=2
    ).fit(plane(60))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.transform(plane(60)).shape[1] == search.best_params_["vaetransformer__latent_dim"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contamination": 0.7}, "contamination is 0.7"),
        ({"epochs": 0}, "epochs is 0"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": "x"}, "learning_rate is 'x'; expected a number above 0"),
        ({"learning_rate": np.inf}, "learning_rate is inf"),
        ({"numbers": "log"}, "numbers is 'log'"),
        ({"numbers": None}, "numbers is None; expected standard or quantile"),
        ({"contamination": "auto"}, "contamination is 'auto'; expected a share"),
        ({"contamination": None}, "contamination is None"),
        ({"contamination": np.nan}, "contamination is nan"),
        ({"hidden": 64}, "hidden is 64; expected a list of integers"),
        ({"hidden": "abc"}, "hidden is 'abc'"),
        ({"hidden": (0,)}, r"hidden is \(0,\)"),
        ({"hidden": (8.5,)}, r"hidden is \(8.5,\)"),
        ({"beta": -1}, "beta is -1; expected a number of at least 0"),
        ({"epochs": True}, "epochs is True"),
        ({"latent_dim": None}, "latent_dim is None"),
    ],
)
def test_invalid_parameters_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        VAEOutlierDetector(**settings).fit(plane(30))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch_num": 0}, "epoch_num is 0"),
        ({"lr": "x"}, "lr is 'x'"),
        ({"encoder_neuron_list": None}, "encoder_neuron_list is None"),
        ({"contamination": "auto"}, "contamination is 'auto'"),
    ],
)
def test_messages_of_the_pyod_detector_have_its_names(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        VAE(**settings).fit(plane(30))


def test_estimator_is_not_fitted_after_a_fit_that_failed():
    x = plane(30)
    vae = VAETransformer(epochs=1, hidden=(8,), latent_dim=2)
    with pytest.raises(ValueError, match="epochs is 0"):
        vae.set_params(epochs=0).fit(x)
    with pytest.raises(NotFittedError):
        vae.transform(x)
    vae.set_params(epochs=1).fit(x)
    with pytest.raises(VerificationError, match="became NaN"):
        vae.set_params(learning_rate=1e30, epochs=3).fit(x + 1e6)
    with pytest.raises(NotFittedError):
        vae.score_samples(x)


def test_invalid_data_are_refused():
    with pytest.raises(ValueError, match="feature 1 of X are missing"):
        VAETransformer().fit([[1.0, np.nan], [2.0, np.nan]])
    with pytest.raises(ValueError, match="too large for dtype"):
        VAETransformer().fit([[1e200], [-1e200], [0.0]])
    with pytest.raises(ValueError, match="expected at least 20"):
        VAEOutlierDetector(novelty=True).fit(plane(10))

"""Mean and scale per feature: statistics, unit data, density per data unit, and exported files."""

import numpy as np
import pytest
from keras import ops

import kvae
from kvae.data.table import TableSpec
from kvae.training import factory, setup
from kvae.training.distribution import Distribution
from kvae_serve.readers import Dataset
from kvae_serve.sealed import golden

RANDOM = np.random.default_rng(0)
SCALE = np.array([1.0, 1e5, 0.01])
VECTORS = (np.array([0.0, 5e5, -3.0]) + SCALE * RANDOM.normal(size=(500, 3))).astype("float32")
SERIES = np.stack([VECTORS[:250], VECTORS[250:]], 1)


@pytest.mark.parametrize("x", [VECTORS, SERIES])
def test_features_are_standardised_and_restored(x):
    spec = kvae.DataSpec.learn_features(x)
    rows = x.reshape(-1, 3).astype("float64")
    np.testing.assert_allclose(spec.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(spec.scale, rows.std(0), rtol=1e-5)
    unit = spec.unit_array(x)
    np.testing.assert_allclose(unit.reshape(-1, 3).std(0), 1.0, rtol=1e-3)
    np.testing.assert_allclose(ops.convert_to_numpy(spec.to_data(unit)), x, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(spec.unit_mean(x), unit.astype("float64").mean(0), atol=1e-4)
    assert kvae.DataSpec.from_config(spec.get_config()).manifest() == spec.manifest()
    spec.check(x * 100, "x")  # unbounded


def test_constant_feature_has_the_scale_1():
    assert kvae.DataSpec.learn_features(np.array([[7.0, 1.0], [7.0, 3.0]])).scale == (1.0, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"mean": [0.0, 0.0]},
        {"mean": [0.0], "scale": [1.0]},
        {"mean": [0.0, 0.0], "scale": [1.0, 0.0]},
        {"mean": [0.0, np.nan], "scale": [1.0, 1.0]},
        {"mean": [0.0, 0.0], "scale": [1.0, 1.0], "kind": "image"},
    ],
)
def test_invalid_mean_or_scale_is_refused(arguments):
    with pytest.raises(ValueError, match="mean"):
        kvae.DataSpec((2,), **arguments)


def test_scale_per_feature_needs_a_gaussian():
    with pytest.raises(ValueError, match=r"Use likelihoods\.Gaussian"):
        kvae.VAE(
            kvae.networks.dense_encoder((3,), 2, hidden=(4,)),
            kvae.networks.dense_decoder((3,), 2, hidden=(4,)),
            data=kvae.DataSpec.learn_features(VECTORS),
        )


def test_vectors_under_a_gaussian_are_scaled_per_feature_and_images_are_not():
    spec = factory.spec_of(Dataset(VECTORS, {}, {}, "x.npy", None), "gaussian", np.arange(400))
    np.testing.assert_allclose(spec.scale, VECTORS[:400].astype("float64").std(0), rtol=1e-5)
    images = Dataset(RANDOM.normal(size=(9, 4, 4, 1)).astype("float32"), {}, {}, "x.npy", None)
    assert factory.spec_of(images, "gaussian").scale is None
    assert TableSpec.learn([{"name": "a", "kind": "numeric"}], [[1.0], [2.0]]).scale is None


def test_resumed_run_keeps_the_scaling_that_it_started_with():
    data = Dataset(VECTORS, {}, {}, "x.npy", None)
    settings = kvae.default_settings(data, encoder_hidden=(4,), decoder_hidden=(4,), latent_dim=2)
    by_range = kvae.DataSpec((3,), (-10.0, 1e6), bounded=False)
    assert setup.prepare(settings, data, Distribution()).model.data.scale is not None
    resumed = setup.prepare(settings, data, Distribution(), by_range.get_config())
    assert resumed.model.data.manifest() == by_range.manifest()


@pytest.mark.parametrize("sigma", ["optimal", "element"])
def test_exported_density_is_the_normal_density_in_data_units(tmp_path, sigma):
    likelihood = kvae.likelihoods.Gaussian(sigma)
    model = kvae.VAE(
        kvae.networks.dense_encoder((3,), 2, hidden=(8,)),
        kvae.networks.dense_decoder((3,), 2, hidden=(8,), num_parameters=likelihood.num_parameters),
        data=kvae.DataSpec.learn_features(VECTORS),
        likelihood=likelihood,
    )
    model.export(tmp_path / "model", format="onnx")
    served = kvae.load(tmp_path / "model")
    data = served.manifest.data
    assert (data.mean, data.scale, data.range) == (model.data.mean, model.data.scale, None)
    z = RANDOM.normal(size=(20, 2)).astype("float32")
    p = served.run("decoder", {"z": z})
    mean, log_var, x = (each.astype("float64") for each in (p["x_mean"], p["x_log_var"], VECTORS[:20]))
    expected = -0.5 * (np.log(2 * np.pi) + log_var + (x - mean) ** 2 / np.exp(log_var)).sum(1)
    log_likelihood = served.run("likelihood", {"x": VECTORS[:20], "z": z})["log_likelihood"]
    np.testing.assert_allclose(log_likelihood, expected, rtol=1e-4)
    probed = golden.golden_inputs(served.manifest, ["x"], num=64)["x"]
    np.testing.assert_allclose(probed.std(0) / SCALE, 1.0, atol=0.4)


def test_samples_of_measurements_are_draws_by_default():
    likelihood = kvae.likelihoods.Gaussian()
    decoder = kvae.networks.dense_decoder((3,), 2, hidden=(4,), num_parameters=likelihood.num_parameters)
    data = kvae.DataSpec.learn_features(VECTORS)
    model = kvae.VAE(kvae.networks.dense_encoder((3,), 2, hidden=(4,)), decoder, data=data, likelihood=likelihood)
    np.testing.assert_array_equal(model.sample(9, seed=0).x, model.sample(9, seed=0, draw=True).x)
    assert (model.sample(9, seed=0).x != model.sample(9, seed=0, draw=False).x).any()

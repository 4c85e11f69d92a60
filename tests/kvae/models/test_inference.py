"""Inference with a Keras model: the images, units and errors of the exported model, without an export."""

import keras
import numpy as np
import pytest

import kvae
from kvae import likelihoods, priors
from kvae_serve.errors import InputDataError, RequestError

SHAPE, LATENT = (4, 4, 1), 2
LABEL = kvae.Categorical("label", ["cat", "dog", "owl"])
X = np.random.default_rng(0).integers(0, 256, (12, *SHAPE)).astype("uint8")
LABELS = np.arange(12) % 3

MODELS = {
    "unconditional": lambda: kvae.VAE.dense(SHAPE, LATENT, hidden=(6,)),
    "conditional": lambda: kvae.ConditionalVAE.dense(
        SHAPE, LATENT, hidden=(6,), conditions=LABEL, prior=priors.ConditionalGaussian(LATENT, 3)
    ),
    "mixture": lambda: kvae.VAE.dense(
        SHAPE, LATENT, hidden=(6,), prior=priors.GaussianMixture(LATENT, 4), likelihood=likelihoods.Gaussian()
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """A Keras model with weights that are not the initial ones, and its export."""
    keras.utils.set_random_seed(3)
    model = MODELS[request.param]()
    rng = np.random.default_rng(1)
    model.set_weights([weight + rng.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    folder = tmp_path_factory.mktemp("model") / request.param
    model.export(folder)
    return model, kvae.load(folder)


def given(model):
    return (LABELS,) if model.condition_dim else ()


def close(ours, theirs):
    """Compare within 1e-5 of the data range."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * 255)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "start": 3}, {"draw": True}], ids=str)
def test_a_seed_gives_the_samples_of_the_exported_model(pair, options):
    model, _ = pair
    ours, theirs = (each.sample(5, seed=7, batch_size=2, **options) for each in pair)
    assert type(ours) is type(theirs)
    assert (ours.seed, ours.start, ours.num) == (theirs.seed, theirs.start, theirs.num)
    assert ours.manifest.model_id == theirs.manifest.model_id
    np.testing.assert_allclose(ours.z, theirs.z, rtol=1e-5, atol=1e-6)
    close(ours.x, theirs.x)
    assert model.sample(1).seed != model.sample(1).seed


def test_encode_decode_and_reconstruct_equal_the_exported_model(pair):
    model, served = pair
    for ours, theirs in zip(*(each.encode(X, *given(model)) for each in pair), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    z = served.encode(X, *given(model))[0]
    close(*(each.decode(z, *given(model)) for each in pair))
    close(*(each.decode(z, *given(model), draw=True, seed=1) for each in pair))
    close(*(each.reconstruct(X, *given(model)) for each in pair))
    close(model.reconstruct(X, *given(model)), model.predict((X, *given(model)), verbose=0))


def test_score_traverse_and_interpolate_equal_the_exported_model(pair):
    model, _ = pair
    ours, theirs = (each.score(X, *given(model), num_samples=3) for each in pair)
    np.testing.assert_allclose(ours.elbo, theirs.elbo, rtol=1e-5)
    ours, theirs = (each.traverse(steps=3, dims=[1, 0]) for each in pair)
    close(ours.x, theirs.x)
    label = {"label": 0} if model.condition_dim else {}
    ours, theirs = (each.interpolate([0.0, 1.0], [1.0, 0.0], steps=3, **label) for each in pair)
    close(ours.x, theirs.x)


def test_inference_uses_the_present_weights():
    model = MODELS["unconditional"]()
    before = model.sample(2, seed=0).x
    model.set_weights([weight * 2 for weight in model.get_weights()])
    assert np.abs(model.sample(2, seed=0).x - before).max() > 1


def test_a_callback_can_sample_during_training():
    model, ranges = MODELS["unconditional"](), []
    model.compile("adam", run_eagerly=True)
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ranges.append(model.sample(2, seed=0).x))
    model.fit(X, epochs=2, verbose=0, callbacks=[watch])
    assert np.abs(ranges[0] - ranges[1]).max() > 0


def test_one_condition_is_given_by_position_name_or_label():
    model = MODELS["conditional"]()
    expected = model.encode(X, {"label": LABELS})[0]
    names = [LABEL.classes[index] for index in LABELS]
    for labels in (
        LABELS,
        LABELS[:, None],
        LABELS.astype("f4"),
        names,
        list(LABELS),
        keras.ops.convert_to_tensor(LABELS),
    ):
        np.testing.assert_array_equal(model.encode(X, labels)[0], expected)
    np.testing.assert_array_equal(model.encode(X, label=LABELS)[0], expected)
    z = np.zeros((1, LATENT))
    for label in (2, 2.0, "owl", [2]):
        np.testing.assert_array_equal(model.decode(z, label), model.decode(z, label="owl"))


def test_exported_model_accepts_one_condition_by_position(tiny):
    served = kvae.load(tiny / "conditional")
    shape = served.manifest.data.shape
    x = np.zeros((3, *shape), "uint8")
    expected = served.reconstruct(x, {"label": [0, 1, 2]})
    for labels in ([0, 1, 2], np.array([[0.0], [1.0], [2.0]])):
        np.testing.assert_array_equal(served.reconstruct(x, labels), expected)
    assert served.decode(np.zeros((2, served.manifest.latent_dim)), 1).shape == (2, *shape)
    assert len(served.score(x, [0, 1, 2]).elbo) == 3


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (RequestError, "one-hot.*argmax", lambda: MODELS["conditional"]().encode(X, np.eye(3)[LABELS])),
        (RequestError, "unconditional", lambda: MODELS["unconditional"]().encode(X, LABELS)),
        (RequestError, "fox", lambda: MODELS["conditional"]().sample(1, label="fox")),
        (InputDataError, "x", lambda: MODELS["unconditional"]().encode(X / 255)),
        (InputDataError, "shape", lambda: MODELS["unconditional"]().decode(np.zeros((1, 3)))),
    ],
)
def test_wrong_requests_raise_the_errors_of_the_exported_model(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_encode_takes_data_units_and_returns_the_posterior_of_unit_data():
    model = MODELS["unconditional"]()
    z_mean, z_log_var = model.encode(X)
    expected = model.encoder(X.astype("f4") / 255)
    np.testing.assert_allclose(z_mean, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z_log_var, expected[1], rtol=1e-5, atol=1e-6)

"""Models built in one call: the shapes of their networks, and options that a class does not have."""

import numpy as np
import pytest

import kvae
from kvae import likelihoods
from kvae_serve.errors import RequestError

LABEL = kvae.Categorical("label", 3)


@pytest.mark.parametrize(
    ("family", "shape", "sizes"),
    [
        ("dense", (4, 4, 1), {"hidden": (6, 5)}),
        ("conv", (8, 4, 3), {"filters": (2, 3), "dense": 5}),
        ("residual", (8, 4, 3), {"filters": (2, 3), "dense": (5, 4)}),
        ("lstm", (6, 2), {"units": 3, "dense": 4}),
    ],
)
def test_every_family_of_networks_fits_a_conditional_model(family, shape, sizes):
    build = getattr(kvae.ConditionalVAE, family)
    model = build(shape, 2, **sizes, conditions=LABEL, likelihood=likelihoods.Gaussian("element"))
    assert (model.data.shape, model.latent_dim, model.condition_dim) == (shape, 2, 3)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (kvae.VAE, {}),
        (kvae.BetaVAE, {"beta": 4.0}),
        (kvae.ConditionalVAE, {"conditions": LABEL}),
        (kvae.ConditionalBetaVAE, {"conditions": [LABEL], "beta": 2.0}),
    ],
)
def test_every_class_is_built_in_one_call(cls, options):
    model = cls.dense((4,), 2, hidden=(3,), **options)
    assert type(model) is cls
    assert model.condition_dim == (3 if "conditions" in options else 0)


def test_dense_mirrors_the_hidden_layers():
    model = kvae.VAE.dense((4,), 2, hidden=(7, 5), data=kvae.DataSpec((4,), range=(0, 1)))
    widths = [
        [layer.units for layer in net.layers if hasattr(layer, "units")] for net in (model.encoder, model.decoder)
    ]
    assert widths == [[7, 5, 2, 2], [5, 7, 4]]


def test_categorical_likelihood_embeds_the_values():
    data = kvae.DataSpec((6,), range=(0, 3))
    model = kvae.VAE.dense(None, 2, hidden=(4,), data=data, likelihood=likelihoods.Categorical(4))
    assert model.reconstruct(np.full((2, 6), 3.0)).shape == (2, 6)


@pytest.mark.parametrize(
    ("message", "build"),
    [
        ("VAE does not have beta. Use BetaVAE", lambda: kvae.VAE.dense((4,), beta=4.0)),
        ("VAE does not have conditions. Use ConditionalVAE", lambda: kvae.VAE.dense((4,), conditions=LABEL)),
        ("shape and data are missing", lambda: kvae.VAE.dense()),
        ("shape is \\(5,\\)", lambda: kvae.VAE.dense((5,), data=kvae.DataSpec((4,)))),
    ],
)
def test_options_that_do_not_fit_are_refused(message, build):
    with pytest.raises(ValueError, match=message):
        build()


def test_conditional_model_without_conditions_is_refused():
    with pytest.raises(TypeError, match="conditions"):
        kvae.ConditionalVAE.dense((4,))


def test_preset_gives_a_compiled_model_of_its_data():
    model = kvae.VAE.from_preset("mnist-cvae")
    assert isinstance(model, kvae.ConditionalBetaVAE)
    assert (model.data.shape, model.latent_dim, model.conditions[0].num_classes) == ((28, 28, 1), 16, 10)
    # beta falls from 3 to 1 over 8 epochs of 60,000 examples in batches of 128.
    assert [round(float(model.beta(step)), 3) for step in (0, 4 * 468, 8 * 468)] == [3.0, 2.0, 1.0]
    assert model.optimizer is not None


@pytest.mark.parametrize(
    ("message", "build"),
    [
        ("Unknown preset nothing", lambda: kvae.VAE.from_preset("nothing")),
        ("not a ConditionalVAE", lambda: kvae.ConditionalVAE.from_preset("mnist-vae")),
        ("does not name its data", lambda: kvae.VAE.from_preset("tabular")),
    ],
)
def test_preset_that_does_not_fit_is_refused(message, build):
    with pytest.raises(RequestError, match=message):
        build()

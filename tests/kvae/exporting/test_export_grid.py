"""Export of every combination of likelihood, prior, conditions and network, compared with Keras.

The default tests cover every prior and most networks once. `-m long` adds the rest, `-m slow` every combination.
"""

import itertools

import keras
import numpy as np
import pytest

import kvae
from kvae import likelihoods, networks, priors
from kvae_serve.sealed import file

LATENT = 3
CONDITIONS = {
    "none": list,
    "label": lambda: [kvae.Categorical("label", 3)],
    "embedded": lambda: [kvae.Categorical("species", ["a", "b", "c"], embedding_dim=2)],
    "age": lambda: [kvae.Continuous("age", 0, 9)],
    "several": lambda: [kvae.Categorical("label", 3), kvae.Continuous("age", 0, 9), kvae.Categorical("site", 2)],
}
PRIORS = {
    "standard": lambda shape, dim: priors.StandardNormal(),
    "conditional": lambda shape, dim: priors.ConditionalGaussian(LATENT, dim, hidden=(4,)),
    "mixture": lambda shape, dim: priors.GaussianMixture(LATENT, 3),
    "vamp": lambda shape, dim: priors.VampPrior(shape, 4, condition_dim=dim),
}
LIKELIHOODS = {
    "bernoulli": likelihoods.Bernoulli,
    "continuous-bernoulli": likelihoods.ContinuousBernoulli,
    "gaussian-fixed": lambda: likelihoods.Gaussian(0.2),
    "gaussian-shared": lambda: likelihoods.Gaussian("shared"),
    "gaussian-element": lambda: likelihoods.Gaussian("element"),
    "gaussian-optimal": lambda: likelihoods.Gaussian("optimal"),
    "logistic": likelihoods.DiscretizedLogistic,
    "logistic-optimal": lambda: likelihoods.DiscretizedLogistic("optimal"),
    "categorical": lambda: likelihoods.Categorical(4),
}
# Name to shape of the data, encoder, decoder, and the arguments of both.
NETWORKS = {
    "dense": ((6,), networks.dense_encoder, networks.dense_decoder, {"hidden": (7,)}),
    "gated": ((6,), networks.dense_encoder, networks.dense_decoder, {"hidden": (7,), "gated": True}),
    "conv": ((4, 4, 2), networks.conv_encoder, networks.conv_decoder, {"filters": (5,), "dense": 6}),
    "residual": ((4, 4, 1), networks.residual_encoder, networks.residual_decoder, {"filters": (4,), "blocks": 1}),
    "lstm": ((5, 2), networks.lstm_encoder, networks.lstm_decoder, {"units": 6}),
    "embedded": ((5, 2), networks.embedded_encoder, networks.lstm_decoder, {"units": 6}),
    "one-hot": ((4, 4, 2), networks.embedded_encoder, networks.conv_decoder, {"filters": (5,), "dense": 6}),
}
# Arguments of the encoders of class indices: the network after the embedding, and its width.
OF_CLASSES = {
    "embedded": {"build": networks.lstm_encoder, "num_classes": 4, "embedding_dim": 3},
    "one-hot": {"build": networks.conv_encoder, "num_classes": 4, "embedding_dim": 0},
}
FEW = [
    ("continuous-bernoulli", "vamp", "none", "dense"),
    ("gaussian-optimal", "conditional", "several", "gated"),
    ("gaussian-element", "mixture", "embedded", "conv"),
    ("categorical", "vamp", "age", "conv"),
    ("logistic", "conditional", "label", "residual"),
    ("logistic-optimal", "standard", "none", "conv"),
    ("gaussian-shared", "vamp", "several", "lstm"),
    ("bernoulli", "mixture", "age", "lstm"),
    ("gaussian-element", "conditional", "embedded", "lstm"),
    ("categorical", "vamp", "embedded", "embedded"),
    ("categorical", "mixture", "age", "one-hot"),
]
FAST = [
    ("continuous-bernoulli", "vamp", "none", "dense"),
    ("gaussian-optimal", "conditional", "several", "gated"),
    ("gaussian-element", "mixture", "embedded", "conv"),
]
ALL = [
    (likelihood, prior, conditions, network)
    for likelihood, prior, conditions, network in itertools.product(LIKELIHOODS, PRIORS, CONDITIONS, NETWORKS)
    if (prior, conditions) != ("conditional", "none") and (likelihood == "categorical" or network not in OF_CLASSES)
]


def make(likelihood, prior, conditions, network):
    keras.utils.set_random_seed(1)
    parts, p = CONDITIONS[conditions](), LIKELIHOODS[likelihood]()
    dim = sum(part.dim for part in parts)
    shape, encoder, decoder, sizes = NETWORKS[network]
    arguments = {
        "encoder": encoder(shape=shape, latent_dim=LATENT, condition_dim=dim, **sizes, **OF_CLASSES.get(network, {})),
        "decoder": decoder(shape, LATENT, condition_dim=dim, num_parameters=p.num_parameters, **sizes),
        "likelihood": p,
        "prior": PRIORS[prior](shape, dim),
        "data": kvae.DataSpec(shape, (0, p.num_classes - 1 if likelihood == "categorical" else 255)),
    }
    model = kvae.ConditionalVAE(conditions=parts, **arguments) if parts else kvae.VAE(**arguments)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if not weight.path.startswith("totals"):
            weight.assign(np.asarray(weight) + rng.normal(0, 0.2, weight.shape))
    return model


def check(model, folder, weights="float32"):
    model.export(folder, weights=weights)
    for path in folder.glob("*.onnx"):
        ops = {node.op for node in file.read(path).computation.nodes}
        assert "Shape" not in ops
    served = kvae.load(folder)
    assert all(each.ok for each in served.verify())
    rng, num = np.random.default_rng(2), 7
    x = rng.integers(0, int(model.data.range[1]) + 1, (num, *model.data.shape)).astype("f4")
    if model.likelihood.kind == "bernoulli":
        x = np.where(x > 127, 255, 0).astype("f4")
    z = rng.normal(size=(num, LATENT)).astype("f4")
    conditions = {
        condition.name: rng.integers(0, condition.num_classes, num)
        if isinstance(condition, kvae.Categorical)
        else rng.uniform(0, 9, num).astype("f4")
        for condition in getattr(model, "conditions", [])
    }
    vector = (model.condition_vector(conditions),) if conditions else ()
    z_mean, z_log_var = served.encode(x, conditions)
    for actual, expected in zip((z_mean, z_log_var), model._encode(model.data.to_unit(x), vector), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    parameters = model._decode(z, vector)
    outputs = served.run("decoder", {"z": z, **conditions})
    further = model.likelihood.outputs(parameters, model.data)
    assert set(outputs) == {"x_mean", *further}
    for name, expected in further.items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-4)
    expected = model.data.log_jacobian(model.likelihood) - model.likelihood.nll(model.data.to_unit(x), parameters)
    np.testing.assert_allclose(served.log_likelihood(x, z, conditions), expected, rtol=2e-5, atol=1e-4)
    assert served.has("prior") == (model.prior.kind != "standard_normal")
    one = {name: values[:1] for name, values in conditions.items()}
    assert served.sample(2, seed=0, draw=True, conditions=one).x.shape == (2, *model.data.shape)
    assert np.isfinite(served.score(x, conditions).elbo).all()


@pytest.mark.parametrize(
    ("likelihood", "prior", "conditions", "network"),
    [pytest.param(*each, marks=[] if each in FAST else pytest.mark.long) for each in FEW],
)
def test_exported_graphs_match_keras(likelihood, prior, conditions, network, tmp_path):
    check(make(likelihood, prior, conditions, network), tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize(("likelihood", "prior", "conditions", "network"), ALL)
def test_every_combination_matches_keras(likelihood, prior, conditions, network, tmp_path):
    check(make(likelihood, prior, conditions, network), tmp_path / "m")


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("network", ["conv", "residual"])
def test_untrained_photo_models_of_any_seed_pass_the_comparison(network, seed, tmp_path):
    keras.utils.set_random_seed(seed)
    shape = (32, 32, 3)
    model = kvae.VAE(
        NETWORKS[network][1](shape, 16, dense=(512, 256)),
        NETWORKS[network][2](shape, 16, dense=(256, 512), num_parameters=2),
        likelihood=likelihoods.DiscretizedLogistic(),
    )
    model.export(tmp_path / "model", format="onnx")
    assert kvae.load(tmp_path / "model").manifest.likelihood["name"] == "discretized_logistic"

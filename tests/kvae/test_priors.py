"""Priors: densities that integrate to 1, kl against Monte Carlo, and prior.onnx against Keras."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kvae
from kvae import loss_terms, networks, priors

LATENT, CONDITION = 2, 3
RNG = np.random.default_rng(0)


def tensor(*shape, scale=1.0):
    return ops.convert_to_tensor(RNG.normal(0, scale, shape).astype("f4"))


def randomise(layer, scale=0.7):
    for weight in layer.weights:
        weight.assign(RNG.normal(0, scale, weight.shape))
    return layer


ENCODER = randomise(networks.dense_encoder((5,), LATENT, (4,)))


def encode(x, given=()):
    mean, log_var = ENCODER(x)
    return mean, loss_terms.safe_log_var(log_var)


def make(kind):
    return randomise(
        {
            "standard": lambda: priors.StandardNormal(),
            "conditional": lambda: priors.ConditionalGaussian(LATENT, CONDITION, hidden=(4,)),
            "mixture": lambda: priors.GaussianMixture(LATENT, 3),
            "vamp": lambda: priors.VampPrior((5,), 4),
        }[kind]()
    )


KINDS = ["standard", "conditional", "mixture", "vamp"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_prior_integrates_to_1(kind):
    prior, given = make(kind), (tensor(1, CONDITION),)
    axis = np.linspace(-12, 12, 481)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(1, -1, 2).astype("f4")
    density = np.exp(np.asarray(prior.log_prob(ops.convert_to_tensor(grid), given, encode), "f8"))
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("kind", ["standard", "conditional"])
def test_a_closed_form_kl_matches_monte_carlo(kind):
    prior, given = make(kind), (tensor(1, CONDITION),)
    mean, log_var = tensor(1, LATENT), tensor(1, LATENT)
    noise = RNG.normal(size=(1, 200_000, LATENT)).astype("f4")
    z = ops.expand_dims(mean, 1) + ops.exp(0.5 * ops.expand_dims(log_var, 1)) * noise
    log_q = loss_terms.log_normal(z, ops.expand_dims(mean, 1), ops.expand_dims(log_var, 1))
    estimate = np.asarray(log_q - prior.log_prob(z, given, encode), "f8").mean()
    exact = np.asarray(prior.kl_per_dim(mean, log_var, given, encode)).sum()
    assert exact == pytest.approx(estimate, rel=0.02, abs=0.01)


def test_a_mixture_is_scipys_weighted_sum():
    prior = make("mixture")
    z = RNG.normal(size=(1, 6, LATENT)).astype("f4")
    weights = np.exp(prior.manifest()["log_weights"])
    assert weights.sum() == pytest.approx(1.0, rel=1e-6)
    means, sigmas = np.asarray(prior.means), np.exp(0.5 * np.asarray(prior.log_vars))
    expected = sum(w * stats.norm.pdf(z[0], m, s).prod(-1) for w, m, s in zip(weights, means, sigmas, strict=True))
    np.testing.assert_allclose(prior.log_prob(ops.convert_to_tensor(z))[0], np.log(expected), rtol=1e-4)


def test_a_vamp_prior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs():
    prior = priors.VampPrior((5,), 2, pseudo_inputs=np.array([[0.2] * 5, [0.8] * 5]))
    mean, log_var, log_weights = prior.components((), encode)
    direct = encode(np.array([[0.2] * 5, [0.8] * 5], "f4"))
    np.testing.assert_allclose(mean[0], direct[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_var[0], direct[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_weights), [0.5, 0.5])


def test_a_conditional_prior_starts_at_the_standard_normal():
    mean, log_var, _ = priors.ConditionalGaussian(LATENT, CONDITION, hidden=(4,)).components(
        (tensor(5, CONDITION),), None
    )
    np.testing.assert_array_equal(mean, np.zeros((5, 1, LATENT)))
    np.testing.assert_array_equal(log_var, np.zeros((5, 1, LATENT)))


SHAPE = (4, 4, 1)
GIVEN = {
    "none": list,
    "label": lambda: [kvae.Categorical("label", 3)],
    "embedded": lambda: [kvae.Categorical("label", 3, embedding_dim=2)],
    "age": lambda: [kvae.Continuous("age", 0, 9)],
    "both": lambda: [kvae.Categorical("label", 3), kvae.Continuous("age", 0, 9)],
}


def model_with(prior_kind, given, likelihood=None):
    keras.utils.set_random_seed(1)
    conditions = GIVEN[given]()
    dim = sum(condition.dim for condition in conditions)
    likelihood = likelihood or kvae.likelihoods.Bernoulli()
    prior = {
        "standard": lambda: priors.StandardNormal(),
        "conditional": lambda: priors.ConditionalGaussian(LATENT, dim, hidden=(4,)),
        "mixture": lambda: priors.GaussianMixture(LATENT, 3),
        "vamp": lambda: priors.VampPrior(SHAPE, 4, condition_dim=dim),
    }[prior_kind]()
    encoder = networks.dense_encoder(SHAPE, LATENT, (6,), condition_dim=dim)
    decoder = networks.dense_decoder(SHAPE, LATENT, (6,), condition_dim=dim, num_parameters=likelihood.num_parameters)
    upper = likelihood.num_classes - 1 if likelihood.kind == "categorical" else 255
    arguments = {"prior": prior, "likelihood": likelihood, "data": kvae.DataSpec(SHAPE, (0, upper))}
    if conditions:
        return kvae.ConditionalVAE(encoder, decoder, conditions=conditions, **arguments)
    return kvae.VAE(encoder, decoder, **arguments)


def batch(model, num=24):
    rng = np.random.default_rng(3)
    x = rng.integers(0, int(model.data.range[1]) + 1, (num, *SHAPE)).astype("f4")
    given = {
        condition.name: rng.integers(0, 3, num)
        if isinstance(condition, kvae.Categorical)
        else rng.uniform(0, 9, num).astype("f4")
        for condition in getattr(model, "conditions", [])
    }
    return (x, given) if given else (x,)


COMBINATIONS = [
    (prior, given) for prior in KINDS for given in GIVEN if not (prior == "conditional" and given == "none")
]


LIKELIHOODS = {
    "bernoulli": lambda: kvae.likelihoods.Bernoulli(),
    "continuous_bernoulli": lambda: kvae.likelihoods.ContinuousBernoulli(),
    "gaussian-fixed": lambda: kvae.likelihoods.Gaussian(0.2),
    "gaussian-shared": lambda: kvae.likelihoods.Gaussian("shared"),
    "gaussian-element": lambda: kvae.likelihoods.Gaussian("element"),
    "gaussian-optimal": lambda: kvae.likelihoods.Gaussian("optimal"),
    "logistic": lambda: kvae.likelihoods.DiscretizedLogistic(),
    "categorical": lambda: kvae.likelihoods.Categorical(4),
}


ALL = [(*combination, likelihood) for combination in COMBINATIONS for likelihood in LIKELIHOODS]


def pairs():
    """Yield each likelihood with each kind of condition, the priors in turn."""
    for (i, likelihood), (j, given) in itertools.product(enumerate(LIKELIHOODS), enumerate(GIVEN)):
        prior = KINDS[(i + j) % len(KINDS)]
        yield (prior if (prior, given) in COMBINATIONS else "mixture", given, likelihood)


def test_every_two_that_can_meet_do():
    for parts in itertools.combinations(range(3), 2):
        assert {tuple(each[part] for part in parts) for each in pairs()} == {
            tuple(each[part] for part in parts) for each in ALL
        }


@pytest.mark.parametrize(("prior_kind", "given", "likelihood"), list(pairs()))
def test_every_pair_trains_saves_loads_and_gives_the_same_loss(prior_kind, given, likelihood, tmp_path):
    trains_saves_and_loads(prior_kind, given, likelihood, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("prior_kind", "given", "likelihood"), ALL)
def test_every_combination_trains_saves_loads_and_gives_the_same_loss(prior_kind, given, likelihood, tmp_path):
    trains_saves_and_loads(prior_kind, given, likelihood, tmp_path)


def trains_saves_and_loads(prior_kind, given, likelihood, tmp_path):
    model = model_with(prior_kind, given, LIKELIHOODS[likelihood]())
    data = batch(model)
    # Eagerly, for tracing each of them would take minutes; what is traced is tested with the models.
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    start = [np.asarray(weight) for weight in model.trainable_weights]
    model.fit(*data, batch_size=12, epochs=1, verbose=0)  # two steps
    for before, weight in zip(start, model.trainable_weights, strict=True):
        assert (before != np.asarray(weight)).any(), f"{weight.path} does not learn"
    model.save(tmp_path / "m.keras")
    again = kvae.load_model(tmp_path / "m.keras")
    assert again.evaluate(*data, verbose=0, return_dict=True) == model.evaluate(*data, verbose=0, return_dict=True)


# Each likelihood and each prior with each kind of condition appears; each pair is exported and proved.
EXPORTED = [
    *((prior, given, "bernoulli") for prior, given in COMBINATIONS if given in ("none", "label", "both")),
    *(("standard", "label", each) for each in LIKELIHOODS if each != "bernoulli"),
]


@pytest.mark.parametrize(("prior_kind", "given", "likelihood"), EXPORTED)
def test_every_combination_exports_and_serves_what_keras_computes(prior_kind, given, likelihood, tmp_path):
    model = randomise(model_with(prior_kind, given, LIKELIHOODS[likelihood]()), 0.3)
    model.export(tmp_path / "m")
    served = kvae.load(tmp_path / "m")
    assert served.has("prior") == (prior_kind != "standard")
    served.verify()
    x, *conditions = batch(model, 7)
    given_values = conditions[0] if conditions else {}
    vector = (model.condition_vector(given_values),) if given_values else ()
    if prior_kind != "standard":
        mean, log_var, log_weights = (np.asarray(p) for p in model.prior.components(vector, model._encode))
        feeds, component = dict(given_values), np.zeros(7, int)
        if model.prior.num_components > 1:
            component = feeds["component"] = np.arange(7) % model.prior.num_components
            np.testing.assert_allclose(served.manifest.prior["log_weights"], log_weights, rtol=1e-5)
        got = served.run("prior", feeds)
        rows = np.arange(7) if len(mean) > 1 else np.zeros(7, int)
        np.testing.assert_allclose(got["z_mean"], mean[rows, component], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got["z_log_var"], log_var[rows, component], rtol=1e-4, atol=1e-5)
    z = np.random.default_rng(5).normal(size=(7, LATENT)).astype("f4")
    parameters = model._decode(z, vector)
    if model.likelihood.kind == "bernoulli":
        x = np.where(x > 127, 255, 0).astype("f4")
    want = model.data.log_jacobian(model.likelihood) - model.likelihood.nll(model.data.to_unit(x), parameters)
    got = served.run("likelihood", {"x": x, "z": z, **given_values})["log_likelihood"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
    outputs = served.run("decoder", {"z": z, **given_values})
    for name, values in model.likelihood.outputs(parameters, model.data).items():
        np.testing.assert_allclose(outputs[name], values, rtol=1e-4, atol=1e-4)
    served.sample(3, seed=0, conditions={name: values[0] for name, values in given_values.items()})

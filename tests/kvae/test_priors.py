"""Priors: densities that integrate to 1, KL compared with Monte Carlo, and prior.onnx compared with Keras."""

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


def encode(x, conditions=()):
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
def test_prior_density_integrates_to_1(kind):
    prior, conditions = make(kind), (tensor(1, CONDITION),)
    axis = np.linspace(-12, 12, 481)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(1, -1, 2).astype("f4")
    density = np.exp(np.asarray(prior.log_prob(ops.convert_to_tensor(grid), conditions, encode), "f8"))
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("kind", ["standard", "conditional"])
def test_closed_form_kl_matches_monte_carlo(kind):
    prior, conditions = make(kind), (tensor(1, CONDITION),)
    mean, log_var = tensor(1, LATENT), tensor(1, LATENT)
    noise = RNG.normal(size=(1, 200_000, LATENT)).astype("f4")
    z = ops.expand_dims(mean, 1) + ops.exp(0.5 * ops.expand_dims(log_var, 1)) * noise
    log_q = loss_terms.log_normal(z, ops.expand_dims(mean, 1), ops.expand_dims(log_var, 1))
    estimate = np.asarray(log_q - prior.log_prob(z, conditions, encode), "f8").mean()
    exact = np.asarray(prior.kl_per_dim(mean, log_var, conditions, encode)).sum()
    assert exact == pytest.approx(estimate, rel=0.02, abs=0.01)


def test_mixture_density_equals_the_weighted_sum_of_scipy():
    prior = make("mixture")
    z = RNG.normal(size=(1, 6, LATENT)).astype("f4")
    weights = np.exp(prior.manifest()["log_weights"])
    assert weights.sum() == pytest.approx(1.0, rel=1e-6)
    means, sigmas = np.asarray(prior.means), np.exp(0.5 * np.asarray(prior.log_vars))
    expected = sum(w * stats.norm.pdf(z[0], m, s).prod(-1) for w, m, s in zip(weights, means, sigmas, strict=True))
    np.testing.assert_allclose(prior.log_prob(ops.convert_to_tensor(z))[0], np.log(expected), rtol=1e-4)


def test_vamp_prior_is_the_mixture_of_the_posteriors_of_its_pseudo_inputs():
    prior = priors.VampPrior((5,), 2, pseudo_inputs=np.array([[0.2] * 5, [0.8] * 5]))
    mean, log_var, log_weights = prior.components((), encode)
    direct = encode(np.array([[0.2] * 5, [0.8] * 5], "f4"))
    np.testing.assert_allclose(mean[0], direct[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_var[0], direct[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_weights), [0.5, 0.5])


def test_conditional_prior_starts_at_the_standard_normal():
    mean, log_var, _ = priors.ConditionalGaussian(LATENT, CONDITION, hidden=(4,)).components(
        (tensor(5, CONDITION),), None
    )
    np.testing.assert_array_equal(mean, np.zeros((5, 1, LATENT)))
    np.testing.assert_array_equal(log_var, np.zeros((5, 1, LATENT)))


SHAPE = (4, 4, 1)
CONDITIONS = {
    "none": list,
    "label": lambda: [kvae.Categorical("label", 3)],
    "embedded": lambda: [kvae.Categorical("label", 3, embedding_dim=2)],
    "age": lambda: [kvae.Continuous("age", 0, 9)],
    "both": lambda: [kvae.Categorical("label", 3), kvae.Continuous("age", 0, 9)],
}


def model_with(prior_kind, names, likelihood=None):
    keras.utils.set_random_seed(1)
    conditions = CONDITIONS[names]()
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
    conditions = {
        condition.name: rng.integers(0, 3, num)
        if isinstance(condition, kvae.Categorical)
        else rng.uniform(0, 9, num).astype("f4")
        for condition in getattr(model, "conditions", [])
    }
    return (x, conditions) if conditions else (x,)


COMBINATIONS = [
    (prior, names) for prior in KINDS for names in CONDITIONS if not (prior == "conditional" and names == "none")
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


# One combination of each prior, and of each kind of condition.
FEW = [
    ("standard", "none", "gaussian-optimal"),
    ("conditional", "both", "bernoulli"),
    ("mixture", "label", "categorical"),
    ("vamp", "embedded", "logistic"),
]


def pairs():
    """Yield each likelihood with each kind of condition; the priors take turns."""
    for (i, likelihood), (j, names) in itertools.product(enumerate(LIKELIHOODS), enumerate(CONDITIONS)):
        prior = KINDS[(i + j) % len(KINDS)]
        yield (prior if (prior, names) in COMBINATIONS else "mixture", names, likelihood)


def test_pairs_cover_every_two_parts():
    for parts in itertools.combinations(range(3), 2):
        assert {tuple(each[part] for part in parts) for each in pairs()} == {
            tuple(each[part] for part in parts) for each in ALL
        }


@pytest.mark.parametrize(("prior_kind", "names", "likelihood"), FEW)
def test_model_trains_saves_loads_and_keeps_its_loss(prior_kind, names, likelihood, tmp_path):
    check_training_and_saving(prior_kind, names, likelihood, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("prior_kind", "names", "likelihood"), list(pairs()))
def test_every_pair_trains_saves_loads_and_keeps_its_loss(prior_kind, names, likelihood, tmp_path):
    check_training_and_saving(prior_kind, names, likelihood, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("prior_kind", "names", "likelihood"), ALL)
def test_every_combination_trains_saves_loads_and_keeps_its_loss(prior_kind, names, likelihood, tmp_path):
    check_training_and_saving(prior_kind, names, likelihood, tmp_path)


def check_training_and_saving(prior_kind, names, likelihood, tmp_path):
    model = model_with(prior_kind, names, LIKELIHOODS[likelihood]())
    data = batch(model)
    # Eager, because tracing each of them would take minutes; compiled steps are tested with the models.
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    start = [np.asarray(weight) for weight in model.trainable_weights]
    model.fit(*data, batch_size=12, epochs=1, verbose=0)  # two steps
    for before, weight in zip(start, model.trainable_weights, strict=True):
        assert (before != np.asarray(weight)).any(), f"{weight.path} does not learn"
    model.save(tmp_path / "m.keras")
    again = kvae.load_model(tmp_path / "m.keras")
    assert again.evaluate(*data, verbose=0, return_dict=True) == model.evaluate(*data, verbose=0, return_dict=True)


EXPORTED = [
    *((prior, names, "bernoulli") for prior, names in COMBINATIONS if names in ("none", "label", "both")),
    *(("standard", "label", each) for each in LIKELIHOODS if each != "bernoulli"),
]


@pytest.mark.parametrize(("prior_kind", "names", "likelihood"), FEW)
def test_exported_prior_likelihood_and_decoder_equal_keras(prior_kind, names, likelihood, tmp_path):
    check_export(prior_kind, names, likelihood, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("prior_kind", "names", "likelihood"), EXPORTED)
def test_every_exported_prior_and_likelihood_equals_keras(prior_kind, names, likelihood, tmp_path):
    check_export(prior_kind, names, likelihood, tmp_path)


def check_export(prior_kind, names, likelihood, tmp_path):
    model = randomise(model_with(prior_kind, names, LIKELIHOODS[likelihood]()), 0.3)
    model.export(tmp_path / "m")
    served = kvae.load(tmp_path / "m")
    assert served.has("prior") == (prior_kind != "standard")
    served.verify()
    x, *conditions = batch(model, 7)
    values = conditions[0] if conditions else {}
    vector = (model.condition_vector(values),) if values else ()
    if prior_kind != "standard":
        mean, log_var, log_weights = (np.asarray(p) for p in model.prior.components(vector, model._encode))
        feeds, component = dict(values), np.zeros(7, int)
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
    expected = model.data.log_jacobian(model.likelihood) - model.likelihood.nll(model.data.to_unit(x), parameters)
    got = served.run("likelihood", {"x": x, "z": z, **values})["log_likelihood"]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
    outputs = served.run("decoder", {"z": z, **values})
    for name, expected in model.likelihood.outputs(parameters, model.data).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-4)
    served.sample(3, seed=0, conditions={name: each[0] for name, each in values.items()})


def test_fitted_mixture_is_as_likely_as_that_of_sklearn():
    mixture = pytest.importorskip("sklearn.mixture")
    z = np.concatenate([RNG.normal(m, s, (n, LATENT)) for m, s, n in ((-3, 0.3, 600), (0, 1.0, 900), (4, 0.6, 500))])
    prior = priors.GaussianMixture(LATENT, 3)
    prior.fit(z)
    found = float(np.mean(prior.log_prob(ops.convert_to_tensor(z[None].astype("f4")))))
    peer = mixture.GaussianMixture(3, covariance_type="diag", n_init=3, random_state=0).fit(z)
    assert found == pytest.approx(peer.score(z), abs=0.01)


def test_fit_needs_a_point_per_component_and_survives_equal_points():
    prior = priors.GaussianMixture(LATENT, 3)
    with pytest.raises(ValueError, match="at least 3, one per component"):
        prior.fit(np.zeros((2, LATENT)))
    prior.fit(np.ones((9, LATENT)))
    assert all(np.isfinite(weight).all() for weight in map(np.asarray, prior.weights))


def test_conditional_gaussian_is_fitted_to_the_moments_of_each_class():
    random = np.random.default_rng(0)
    z, label = random.normal(size=(300, LATENT)) * 3 + 1, random.integers(0, 3, 300)
    prior = priors.ConditionalGaussian(LATENT, 4)
    prior.fit(z, np.eye(4)[label])
    mean, log_var, _ = prior.components((np.eye(4, dtype="float32"),), None)
    for index in range(3):
        np.testing.assert_allclose(np.asarray(mean)[index, 0], z[label == index].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(np.exp(np.asarray(log_var)[index, 0]), z[label == index].var(axis=0), rtol=1e-4)
    # The fourth class does not occur.
    np.testing.assert_allclose([np.asarray(mean)[3], np.asarray(log_var)[3]], 0, atol=1e-5)


@pytest.mark.parametrize(("hidden", "vectors"), [((4,), np.eye(2)), ((), [[0.1, 0], [0.3, 0]])])
def test_conditional_gaussian_of_continuous_conditions_cannot_be_fitted(hidden, vectors):
    with pytest.raises(ValueError, match="other conditions than one class"):
        priors.ConditionalGaussian(LATENT, 2, hidden=hidden).fit(np.zeros((2, LATENT)), vectors)

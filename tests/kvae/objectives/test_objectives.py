"""Objectives and bounds: values by hand, Monte Carlo, and a model with a likelihood in closed form."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kvae
from kvae import networks
from kvae.loss_terms import Terms, log_mean_exp, log_normal
from kvae.objectives import objectives, schedules

RNG = np.random.default_rng(0)


def f4(*values):
    return ops.convert_to_tensor(np.array(values, "f4"))


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (schedules.Cosine(2.0, steps=100), {0: 0.0, 50: 1.0, 100: 2.0, 500: 2.0}),
        (schedules.Cyclical(1.0, steps=100, ramp=0.5), {0: 0.0, 25: 0.5, 50: 1.0, 99: 1.0, 100: 0.0, 125: 0.5}),
        (schedules.Constant(3.0), {0: 3.0, 9999: 3.0}),
    ],
)
def test_schedule_values_equal_values_by_hand(schedule, values):
    for step, value in values.items():
        assert float(schedule(step)) == pytest.approx(value, abs=1e-6)


def test_capacity_penalises_the_distance_of_the_mean_kl():
    terms = Terms(reconstruction=f4(10.0, 20.0), kl=f4(3.0, 7.0))
    objective = objectives.Capacity(schedules.Linear(8.0, steps=4), gamma=100.0)
    np.testing.assert_allclose(objective(terms, 2), [10 + 100 * 1, 20 + 100 * 1])  # C = 4, mean kl = 5
    np.testing.assert_allclose(objective(terms, 4), [10 + 100 * 3, 20 + 100 * 3])  # C = 8


def test_free_bits_do_not_penalise_small_dimensions():
    per_dim = ops.convert_to_tensor(np.array([[0.0, 2.0], [0.2, 4.0]], "f4"))
    terms = Terms(reconstruction=f4(1.0, 2.0), kl=ops.sum(per_dim, -1), kl_per_dim=per_dim)
    np.testing.assert_allclose(objectives.FreeBits(0.5)(terms, 0), [1 + 0.5 + 3, 2 + 0.5 + 3])


def test_free_bits_reject_a_prior_that_does_not_factorise():
    with pytest.raises(ValueError, match="ConditionalGaussian"):
        kvae.VAE(
            networks.dense_encoder((4,), 2, (3,)), networks.dense_decoder((4,), 2, (3,)),
            prior=kvae.priors.GaussianMixture(2, 2), objective=objectives.FreeBits(),
        )  # fmt: skip


def linear_gaussian(num_samples, noise=0.5):
    """Return a model of x = W z + b + noise, whose log p(x) is that of N(b, W W' + noise^2 I), and that density.

    The encoder approximates the posterior.
    """
    keras.utils.set_random_seed(0)
    weights, bias = RNG.normal(0, 0.6, (2, 3)), RNG.normal(0, 0.1, 3) + 0.5
    x_in, z_in = keras.Input((3,)), keras.Input((2,))
    encoder = keras.Model(x_in, [keras.layers.Dense(2)(x_in), keras.layers.Dense(2)(x_in)])
    decoder = keras.Model(z_in, keras.layers.Dense(3)(z_in))
    decoder.layers[-1].set_weights([weights, bias])
    precision = weights @ weights.T / noise**2 + np.eye(2)
    gain = np.linalg.inv(precision) @ weights / noise**2
    encoder.layers[1].set_weights([gain.T, -gain @ bias])
    encoder.layers[2].set_weights([np.zeros((3, 2)), -np.log(np.diag(precision))])
    model = kvae.VAE(
        encoder, decoder, data=kvae.DataSpec((3,), (0, 1)), likelihood=kvae.likelihoods.Gaussian(noise),
        objective=objectives.ImportanceWeighted(num_samples),
    )  # fmt: skip
    model.compile("sgd", run_eagerly=True)
    exact = stats.multivariate_normal(bias, weights.T @ weights + noise**2 * np.eye(3))
    return model, exact


def test_importance_weighted_bound_reaches_the_exact_likelihood():
    model, exact = linear_gaussian(500)
    x = np.clip(exact.rvs(400, random_state=0), 0, 1).astype("f4")
    estimate = -model.evaluate(x, batch_size=100, verbose=0, return_dict=True)["loss"]
    assert estimate == pytest.approx(exact.logpdf(x).mean(), abs=0.02)


def test_importance_weighted_bound_grows_with_samples_up_to_the_likelihood():
    bounds = {}
    for num_samples in (1, 5, 50):
        model, exact = linear_gaussian(num_samples)
        # A posterior that is too wide, so that more samples help.
        model.encoder.layers[2].bias.assign_add(np.full(2, 1.0))
        x = np.clip(exact.rvs(2000, random_state=1), 0, 1).astype("f4")
        figures = model.evaluate(x, batch_size=500, verbose=0, return_dict=True)
        bounds[num_samples] = -figures["loss"]
        if num_samples == 1:
            # With one sample it is the elbo with a Monte Carlo kl, equal in the mean.
            assert -figures["loss"] == pytest.approx(figures["elbo"], abs=0.1)
    assert bounds[1] < bounds[5] < bounds[50] < exact.logpdf(x).mean() + 0.02


def test_importance_weighted_bound_with_one_sample_is_the_elbo():
    # Under a mixture the kl is estimated from the same draw as the bound, so both are equal.
    keras.utils.set_random_seed(0)
    model = kvae.VAE(
        networks.dense_encoder((6,), 2, (8,)), networks.dense_decoder((6,), 2, (8,)),
        prior=kvae.priors.GaussianMixture(2, 3), objective=objectives.ImportanceWeighted(1),
    )  # fmt: skip
    model.compile("sgd", run_eagerly=True)
    figures = model.evaluate(RNG.integers(0, 256, (50, 6)).astype("uint8"), verbose=0, return_dict=True)
    assert figures["loss"] == pytest.approx(-figures["elbo"], rel=1e-6)


def test_log_mean_exp_is_stable():
    np.testing.assert_allclose(log_mean_exp(f4([1000.0, 1000.0]), axis=1), [1000.0])
    np.testing.assert_allclose(
        log_mean_exp(f4([-1000.0, -1000.0 + np.log(3)]), axis=1), [-1000.0 + np.log(2)], rtol=1e-6
    )


def tc_terms(num=64, dim=3):
    mean, log_var = RNG.normal(0, 1, (num, dim)).astype("f4"), RNG.normal(-1, 0.2, (num, dim)).astype("f4")
    z = mean + np.exp(log_var / 2) * RNG.normal(size=(num, dim)).astype("f4")
    z = ops.convert_to_tensor(z)[:, None]
    log_p_z = kvae.priors.StandardNormal().log_prob(z)
    return Terms(f4(*[0.0] * num), None, f4(*mean), f4(*log_var), z, None, log_p_z)


def test_parts_of_beta_tcvae_sum_to_the_kl():
    terms = tc_terms()
    parts = objectives.TotalCorrelation(num_examples=1000).decompose(terms)
    whole = log_normal(terms.z[:, 0], terms.z_mean, terms.z_log_var) - terms.log_p_z[:, 0]
    np.testing.assert_allclose(sum(np.asarray(part) for part in parts), whole, rtol=1e-4, atol=1e-4)


def test_minibatch_weighted_sampling_equals_a_loop():
    terms, num_examples = tc_terms(8, 2), 100
    z, mean, log_var = (np.asarray(v, "f8") for v in (terms.z[:, 0], terms.z_mean, terms.z_log_var))
    sigma = np.exp(log_var / 2)
    information, total_correlation, _ = objectives.TotalCorrelation(num_examples).decompose(terms)
    for i in range(8):
        pairs = np.array([stats.norm.pdf(z[i], mean[k], sigma[k]) for k in range(8)])
        log_q = np.log(pairs.prod(1).sum() / (8 * num_examples))
        log_product = np.log(pairs.sum(0) / (8 * num_examples)).sum()
        log_q_given_x = stats.norm.logpdf(z[i], mean[i], sigma[i]).sum()
        assert float(information[i]) == pytest.approx(log_q_given_x - log_q, rel=1e-4)
        assert float(total_correlation[i]) == pytest.approx(log_q - log_product, rel=1e-4, abs=1e-4)


EVERY = [
    objectives.Elbo(schedules.Cyclical(1.0, 4)),
    objectives.Capacity(schedules.Linear(5.0, 10), 10.0),
    objectives.FreeBits(0.2),
    objectives.ImportanceWeighted(3),
    objectives.TotalCorrelation(96, beta=4.0),
]


@pytest.mark.parametrize("objective", EVERY, ids=lambda each: type(each).__name__)
def test_objective_trains_saves_resumes_and_reports_the_plain_elbo(objective, tmp_path):
    check_resumed_training(objective, tmp_path, run_eagerly=True)


@pytest.mark.long
@pytest.mark.parametrize("objective", EVERY, ids=lambda each: type(each).__name__)
def test_compiled_objective_trains_saves_resumes_and_reports_the_plain_elbo(objective, tmp_path):
    check_resumed_training(objective, tmp_path, run_eagerly=False)


def check_resumed_training(objective, tmp_path, run_eagerly):
    keras.utils.set_random_seed(0)
    model = kvae.VAE(networks.dense_encoder((6,), 2, (8,)), networks.dense_decoder((6,), 2, (8,)), objective=objective)
    x = np.random.default_rng(0).integers(0, 256, (96, 6)).astype("uint8")
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=run_eagerly)
    model.fit(x, batch_size=48, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    again = kvae.load_model(tmp_path / "m.keras")
    again.run_eagerly = run_eagerly
    for m in (model, again):
        history = m.fit(x, batch_size=48, shuffle=False, verbose=0).history
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert history["elbo"][0] == pytest.approx(-history["reconstruction"][0] - history["kl"][0], rel=1e-5)
    assert again.objective.manifest() == objective.manifest()


PRIORS = {
    "conditional": lambda: kvae.priors.ConditionalGaussian(2, 3),
    "mixture": lambda: kvae.priors.GaussianMixture(2, 3),
    "vamp": lambda: kvae.priors.VampPrior((6,), 3, condition_dim=3),
}


GRID = list(itertools.product(PRIORS, EVERY))
#: Of `GRID`, each objective and each prior.
FEW = [GRID[1], GRID[7], GRID[8], GRID[14], GRID[10]]


def name_of(part):
    return part if isinstance(part, str) else type(part).__name__


@pytest.mark.parametrize(("prior", "objective"), FEW, ids=name_of)
def test_objective_trains_the_prior_or_rejects_it(prior, objective):
    check_prior_learns(prior, objective)


@pytest.mark.long
@pytest.mark.parametrize(("prior", "objective"), [each for each in GRID if each not in FEW], ids=name_of)
def test_every_objective_trains_every_prior_or_rejects_it(prior, objective):
    check_prior_learns(prior, objective)


def check_prior_learns(prior, objective):
    keras.utils.set_random_seed(0)
    parts = {
        "encoder": networks.dense_encoder((6,), 2, (8,), condition_dim=3),
        "decoder": networks.dense_decoder((6,), 2, (8,), condition_dim=3),
        "conditions": kvae.Categorical("label", 3), "prior": PRIORS[prior](), "objective": objective,
    }  # fmt: skip
    if objective.needs_factorised_prior and prior != "conditional":
        with pytest.raises(ValueError, match="needs a kl per dimension"):
            kvae.ConditionalVAE(**parts)
        return
    model = kvae.ConditionalVAE(**parts)
    x, label = RNG.integers(0, 256, (96, 6)).astype("uint8"), np.arange(96) % 3
    model.compile(keras.optimizers.Adam(0.03), run_eagerly=True)
    start = [np.asarray(weight) for weight in model.prior.weights]
    losses = model.fit(x, label, batch_size=48, epochs=3, verbose=0, shuffle=False).history["loss"]
    # The weight of the kl is not 0 after the first step, so the prior learns under every objective.
    assert all((np.asarray(weight) != before).any() for weight, before in zip(model.prior.weights, start, strict=True))
    assert np.isfinite(losses).all()
    # The loss falls unless a beta or a capacity grows.
    assert isinstance(objective, (objectives.Elbo, objectives.Capacity)) or losses[-1] < losses[0]

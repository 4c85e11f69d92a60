"""`--draw` through whole exported models: draws at a fixed z have the mean and spread that the likelihood states."""

import numpy as np
import pytest

import kvae
from kvae import likelihoods, networks
from kvae.data.spec import DataSpec

NUM, SHAPE = 3000, (6,)
CASES = {
    "bernoulli": (likelihoods.Bernoulli(), (0, 255)),
    "continuous_bernoulli": (likelihoods.ContinuousBernoulli(), (-1, 3)),
    "gaussian": (likelihoods.Gaussian("element"), (0, 50)),
    "gaussian-optimal": (likelihoods.Gaussian("optimal"), (0, 50)),
    "discretized_logistic": (likelihoods.DiscretizedLogistic(), (0, 255)),
    "categorical": (likelihoods.Categorical(4), (0, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_draws_of_an_exported_model_are_of_its_likelihood(case, tmp_path):
    likelihood, bounds = CASES[case]
    model = kvae.VAE(
        networks.dense_encoder(SHAPE, 2, (5,)),
        networks.dense_decoder(SHAPE, 2, (5,), num_parameters=likelihood.num_parameters),
        data=DataSpec(SHAPE, bounds),
        likelihood=likelihood,
    )
    rng = np.random.default_rng(0)
    for weight in model.decoder.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    model.export(tmp_path / "m")
    served = kvae.load(tmp_path / "m")
    # At temperature 0 every z is the same, so that all rows are draws from one p(x given z).
    draws = served.sample(NUM, seed=3, temperature=0.0, draw=True)
    again = served.sample(20, seed=3, start=100, temperature=0.0, draw=True, batch_size=7)
    np.testing.assert_array_equal(again.x, draws.x[100:120])
    outputs = {name: value[0].astype("f8") for name, value in served.run("decoder", {"z": draws.z[:1]}).items()}
    if likelihood.kind == "categorical":
        found = np.stack([np.bincount(column.astype(int), minlength=4) for column in draws.x.T]) / NUM
        np.testing.assert_allclose(found, outputs["x_probability"], atol=0.04)
        return
    spread = draws.x.std(axis=0)
    assert (spread > 0).all()
    # The discretised logistic rounds: half a unit of the mean is its own.
    np.testing.assert_array_less(np.abs(draws.x.mean(axis=0) - outputs["x_mean"]), 5 * spread / np.sqrt(NUM) + 0.05)
    if likelihood.kind == "gaussian":
        np.testing.assert_allclose(spread, np.exp(outputs["x_log_var"] / 2), rtol=0.1)
        return
    assert draws.x.min() >= bounds[0]
    assert draws.x.max() <= bounds[1]
    # The expected log-likelihood of draws is minus the entropy: no other distribution scores them higher.
    x, z = draws.x[:1000], np.repeat(draws.z[:1], 1000, axis=0)
    own = served.log_likelihood(x, z).mean()
    assert own > served.log_likelihood(x, z + 1.0).mean()

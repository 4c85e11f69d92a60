"""Results of two TensorFlow devices and of one, as JSON. A script, because devices must be created first of all.

Without noise a step on two devices equals the step on one, so both can be compared for every objective.
"""

import json
import os
import sys
from unittest import mock

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import trainer

import kvae
from kvae.backends.current import Noise
from kvae.backends.tensorflow import distribute, private_api
from kvae.likelihoods import Bernoulli, Gaussian
from kvae.objectives.objectives import Capacity, Elbo, TotalCorrelation
from kvae.optimizers import Adam
from kvae.training import distribution

X = (255 * np.random.default_rng(0).integers(0, 2, (25, 6, 6, 1))).astype("uint8")
CASES = {
    "elbo": lambda: (Elbo(), Bernoulli(binarize="none")),
    "means over a batch": lambda: (Capacity(5.0, 10.0), Gaussian()),
}


def model(objective, likelihood, optimizer=None):
    keras.utils.set_random_seed(1)
    penalty = keras.Sequential([keras.Input((3,)), keras.layers.Dense(36, kernel_regularizer="l2")])
    decoder = keras.Sequential([penalty, keras.layers.Reshape((6, 6, 1))])
    encoder = kvae.networks.dense_encoder((6, 6, 1), 3, hidden=(8,))
    made = kvae.VAE(encoder, decoder, objective=objective, likelihood=likelihood)
    made.compile(optimizer or Adam(0.01), steps_per_execution=2)
    return made


def fit(made):
    """Return figures and weights after three epochs of batches of 10, 10 and 5 (shards of 3 and 2)."""
    figures = made.fit(X, batch_size=10, epochs=3, shuffle=False, verbose=0).history
    return {"figures": figures, "weights": [weight.ravel().tolist() for weight in made.get_weights()]}


def expected_figures(made):
    """Return loss, elbo, reconstruction and kl, computed example by example."""
    noise = Noise(0, 0, test=True)
    terms = [made.terms((X[i : i + 1],), noise, training=False) for i in range(len(X))]
    reconstruction, kl = (
        float(np.mean([getattr(term, name)[0] for term in terms])) for name in ("reconstruction", "kl")
    )
    return {"loss": reconstruction + kl, "elbo": -reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


def refusal(strategy, objective, **of_optimizer):
    with strategy.scope():
        made = model(objective, Bernoulli(), Adam(**of_optimizer))
    try:
        made.fit(X, verbose=0)
    except ValueError as error:
        return str(error)


def fails(job):
    """Return whether Keras raises one of the errors of its gaps."""
    try:
        job()
    except (tf.errors.OpError, ValueError):
        return True
    return False


def keras_gaps(strategy):
    """Return whether Keras still fails with a plain model, by the name of the gap."""

    def fit_plain(num, batch_size, steps=1):
        with strategy.scope():
            plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            plain.compile("sgd", "mse", steps_per_execution=steps)
        plain.fit(np.ones((num, 3), "float32"), np.ones((num, 1), "float32"), batch_size=batch_size, verbose=0)

    def reduce_over_workers():
        # Reduces a log over two workers; one process can pretend to be one of them.
        with mock.patch.object(trainer, "_collective_all_reduce_multi_worker", return_value=True):
            trainer.reduce_per_replica(strategy.run(lambda: tf.constant(1.0)), strategy, "auto")

    fit_plain(8, 2)  # works: an even batch, one step per execution
    return {
        "several steps an execution": fails(lambda: fit_plain(8, 2, steps=2)),
        "a first batch that is not even": fails(lambda: fit_plain(5, 5)),
        "scalars of several workers": fails(reduce_over_workers),
    }


def autotuned(dataset):
    """Return whether the iterator of each device autotunes its buffers."""
    (of_process,) = iter(dataset)._iterators
    return [each._dataset.options().autotune.enabled is not False for each in of_process._iterator._device_iterators]


def main():
    together = distribution.start(devices=2)
    strategy = together.strategy
    like = tf.zeros([4, 3])

    @tf.function(autograph=False)
    def draw():
        return strategy.run(lambda: Noise(5, 7, replica=distribute.replica_id()).normal(like))

    drawn = [part.numpy().tolist() for part in strategy.experimental_local_results(draw())]
    found = {"drawn": drawn, "alone": [Noise(5, 7, replica=i).normal(like).numpy().tolist() for i in range(2)]}
    found["refusals"] = [refusal(strategy, TotalCorrelation(25)), refusal(strategy, Elbo(), clipnorm=1.0)]
    found["keras"] = keras_gaps(strategy)
    found["autotuned"] = autotuned(together.training_batches(X, None, 10, 0).dataset)
    with mock.patch.object(
        private_api.multi_device_iterator_ops, "_create_device_dataset", private_api._create_device_dataset
    ):
        found["keras"]["autotuning of each device"] = all(autotuned(together.training_batches(X, None, 10, 0).dataset))
    Noise.normal = lambda self, like: tf.zeros(tf.shape(like))
    for name in sys.argv[1:]:
        parts = CASES[name]
        one = model(*parts())
        with strategy.scope():
            two = model(*parts())
        found[name] = [fit(one), fit(two)]
        if name == "elbo":  # the two have the same weights by now
            found["evaluated"] = [two.evaluate(X, batch_size=10, verbose=0, return_dict=True), expected_figures(two)]
    json.dump(found, sys.stdout)


main()

"""Adam with a fused kernel: the formula of the paper, the results of Keras, and saved models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvae.optimizers import Adam

STEPS = 30


def trajectory(optimizer, dtype):
    """Return two variables and the optimizer's state after `STEPS` updates with gradients of different sizes."""
    variables = [
        keras.Variable(np.linspace(-1, 1, 12).reshape(3, 4), dtype=dtype),
        keras.Variable(np.ones(5), dtype=dtype),
    ]
    optimizer.build(variables)

    def update(seed):
        noise = [tf.random.stateless_normal(v.shape, [seed, index], dtype=dtype) for index, v in enumerate(variables)]
        optimizer.apply([10.0 * noise[0], 0.001 * noise[1] + 0.001], variables)

    run = tf.function(update)
    for step in range(STEPS):
        run(tf.constant(step))
    return [keras.ops.convert_to_numpy(v) for v in [*variables, *optimizer.variables]]


def test_updates_follow_the_formula_of_the_paper():
    rate, beta_1, beta_2, epsilon = 0.05, 0.8, 0.95, 1e-4
    x, m, v = np.array([0.5, -2.0]), np.zeros(2), np.zeros(2)
    variable = keras.Variable(x.astype("float32"))
    optimizer = Adam(rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
    for t in range(1, STEPS + 1):
        gradient = 2 * (x - 1) + np.sin(t)
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        # The efficient order at the end of section 2.
        x = x - rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    np.testing.assert_allclose(variable.numpy(), x, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": 0.1},
        {"learning_rate": 0.1, "beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3},
        {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, STEPS)},
        {"learning_rate": 0.1, "weight_decay": 0.01},
        {"learning_rate": 0.1, "clipnorm": 0.5},
        {"learning_rate": 0.1, "global_clipnorm": 0.5},
        {"learning_rate": 0.1, "gradient_accumulation_steps": 3},
        {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.9},
        {"learning_rate": 0.1, "amsgrad": True},
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_result_equals_that_of_keras(arguments):
    # In float32 the two round 1 - beta_2 in different places: 5e-5 of v, half of that in an update.
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4))[: 2 if arguments == {"learning_rate": 0.1} else 1]:
        ours = trajectory(Adam(**arguments), dtype)
        theirs = trajectory(keras.optimizers.Adam(**arguments), dtype)
        for mine, reference in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, reference, rtol=tolerance, atol=tolerance)


def test_sparse_gradients_use_the_update_of_keras():
    tables = []
    for optimizer in (Adam(0.1), keras.optimizers.Adam(0.1)):
        table = keras.Variable(np.arange(12.0).reshape(4, 3))
        for rows in ([0, 2], [2, 2], [3, 0]):
            gradient = tf.IndexedSlices(tf.ones([2, 3]), tf.constant(rows), tf.constant([4, 3]))
            optimizer.apply([gradient], [table])
        tables.append(table.numpy())
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5)


def test_loaded_model_continues_with_the_saved_optimizer_state(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.compile(Adam(0.01), "mse")
    model.fit(x, x[:, :2], batch_size=16, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is Adam
    for trained in (model, again):
        trained.fit(x, x[:, :2], batch_size=16, epochs=2, shuffle=False, verbose=0)
    for mine, reference in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), reference.numpy())

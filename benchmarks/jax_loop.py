"""A VAE trained by a hand-written JAX loop that is optimised for speed, for training_speed.py.

The bytes are on the device. Order, binarisation, noise and Adam are in the compiled step. Only the mean loss is read
back, at the end. Forms: `loop` is `scan` (one compiled call per epoch, `lax.scan` over its steps) or `step` (one call
per step, which XLA runs faster on some CPUs); `random` is JAX's generator, `threefry2x32` (its default) or `rbg`.
"""

import functools
import itertools
import math
import time

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from training_nets import DENSE, NETS, pixels, serve

_AXES = ("NHWC", "HWIO", "NHWC")


def initial_parameters(plan, key):
    """A dict of layers, each (kernel, bias), uniform by Glorot and Bengio (2010)."""
    keys = iter(jax.random.split(key, 32))

    def layer(*shape):
        receptive = math.prod(shape[:-2])
        limit = math.sqrt(6 / (receptive * (shape[-2] + shape[-1])))
        return jax.random.uniform(next(keys), shape, minval=-limit, maxval=limit), jnp.zeros(shape[-1])

    values, parameters = math.prod(plan.shape), {}
    if plan.kind == "dense":
        sizes = (values, *plan.widths)
        parameters["encoder"] = [layer(*pair) for pair in itertools.pairwise(sizes)]
        sizes, last = (plan.latent_dim, *plan.widths[::-1], values), plan.widths[-1]
        parameters["decoder"] = [layer(*pair) for pair in itertools.pairwise(sizes)]
    else:
        channels, last = (plan.shape[-1], *plan.widths), DENSE
        parameters["encoder"] = [layer(4, 4, *pair) for pair in itertools.pairwise(channels)]
        flat = values // plan.shape[-1] // 4 ** len(plan.widths) * plan.widths[-1]
        parameters["narrow"], parameters["start"] = layer(flat, DENSE), layer(plan.latent_dim, DENSE)
        parameters["wide"] = layer(DENSE, flat)
        back = plan.widths[::-1]
        channels = (*back, back[-1])
        parameters["decoder"] = [layer(4, 4, *pair) for pair in itertools.pairwise(channels)]
        parameters["pixels"] = layer(3, 3, back[-1], plan.shape[-1])
    parameters["z_mean"], parameters["z_log_var"] = layer(last, plan.latent_dim), layer(last, plan.latent_dim)
    return parameters


def apply(layer, state):
    return state @ layer[0] + layer[1]


def encode(plan, parameters, x):
    if plan.kind == "dense":
        state = x.reshape(len(x), -1)
        for layer in parameters["encoder"]:
            state = jnp.tanh(apply(layer, state))
    else:
        state = x
        for kernel, bias in parameters["encoder"]:
            state = jax.nn.relu(lax.conv_general_dilated(state, kernel, (2, 2), "SAME", dimension_numbers=_AXES) + bias)
        state = jax.nn.relu(apply(parameters["narrow"], state.reshape(len(x), -1)))
    return apply(parameters["z_mean"], state), apply(parameters["z_log_var"], state)


def decode(plan, parameters, z):
    if plan.kind == "dense":
        for layer in parameters["decoder"][:-1]:
            z = jnp.tanh(apply(layer, z))
        return apply(parameters["decoder"][-1], z).reshape(len(z), *plan.shape)
    state = jax.nn.relu(apply(parameters["wide"], jax.nn.relu(apply(parameters["start"], z))))
    side = plan.shape[0] // 2 ** len(plan.widths)
    state = state.reshape(len(z), side, side, plan.widths[-1])
    for kernel, bias in parameters["decoder"]:
        state = jax.nn.relu(lax.conv_transpose(state, kernel, (2, 2), "SAME", dimension_numbers=_AXES) + bias)
    kernel, bias = parameters["pixels"]
    return lax.conv_general_dilated(state, kernel, (1, 1), "SAME", dimension_numbers=_AXES) + bias


def objective(parameters, plan, gray, key):
    """Mean of reconstruction + kl over a batch of bytes, in nats."""
    for_pixels, for_z = jax.random.split(key)
    threshold = gray.astype(jnp.float32) * (65536 / 255)
    x = (jax.random.bits(for_pixels, gray.shape, "uint16").astype(jnp.float32) < threshold).astype(jnp.float32)
    z_mean, z_log_var = encode(plan, parameters, x)
    z = z_mean + jnp.exp(0.5 * z_log_var) * jax.random.normal(for_z, z_mean.shape)
    logits = decode(plan, parameters, z)
    reconstruction = jnp.sum(jax.nn.softplus(logits) - logits * x)
    kl = 0.5 * jnp.sum(jnp.square(z_mean) + jnp.exp(z_log_var) - 1.0 - z_log_var)
    return (reconstruction + kl) / len(x)


def adam(state, gradients):
    """One update by Adam (Kingma and Ba 2015), learning rate 1e-3."""
    parameters, first, second, count = state
    count += 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), parameters, first, second)
    return parameters, first, second, count


class Run:
    """One model with its optimiser, and its data on the device."""

    def __init__(self, net, examples, loop, random):
        plan = NETS[net]
        self.loop, self.epoch = loop, 0
        self.key = jax.random.key(0, impl=random)
        self.data = jax.device_put(pixels(net, examples))
        parameters = initial_parameters(plan, jax.random.key(1))
        self.parameters = sum(each.size for each in jax.tree.leaves(parameters))
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        self.state = parameters, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.float32)
        steps = examples // plan.batch

        def step(state, index, data, key):
            gradient = jax.value_and_grad(objective)
            loss, gradients = gradient(state[0], plan, data[index], jax.random.fold_in(key, state[3].astype(jnp.int32)))
            return adam(state, gradients), loss

        @jax.jit
        def order(key, epoch):
            shuffled = jax.random.permutation(jax.random.fold_in(key, -1 - epoch), examples)
            return shuffled[: steps * plan.batch].reshape(steps, plan.batch)

        @functools.partial(jax.jit, donate_argnums=0)
        def whole(state, data, key, epoch):
            state, losses = lax.scan(lambda s, index: step(s, index, data, key), state, order(key, epoch))
            return state, losses.mean()

        self.order, self.whole, self.step = order, whole, jax.jit(step, donate_argnums=0)

    def train(self, epochs):
        """Return seconds and the mean loss of the last epoch."""
        began = time.perf_counter()
        for epoch in range(self.epoch, self.epoch + epochs):
            if self.loop == "scan":
                self.state, loss = self.whole(self.state, self.data, self.key, epoch)
            else:
                losses = []
                for index in np.asarray(self.order(self.key, epoch)):
                    self.state, loss = self.step(self.state, index, self.data, self.key)
                    losses.append(loss)
                loss = jnp.stack(losses).mean()
        self.epoch += epochs
        loss = float(loss)  # Waits for all of it.
        return time.perf_counter() - began, loss


if __name__ == "__main__":
    serve({"jax": jax.__version__, "devices": jax.default_backend()}, Run)

"""Small classifier for sample quality: network and training recipe, in Keras.

One recipe serves every image data set, so that models of the same data are comparable: convolutions as in LeNet-5 with
more filters, pooling depending on the image size, Adam with a decaying rate, and images shifted by a few pixels. The
seed determines all random numbers. A better classifier can be supplied as an ONNX file.

Reference: LeCun et al. (1998), "Gradient-based learning applied to document recognition", doi:10.1109/5.726791.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics.accuracy_score import Fit

#: Version of the recipe. Results of different versions are not comparable.
RECIPE = 1

FEATURES = 84
BATCH_SIZE = 128
EPOCHS, LEAST_STEPS, MOST_STEPS = 8, 1000, 10_000
_RATE, _DROPOUT = 2e-3, 0.3
_SMALL_SIDE = 8  # images are halved until a side is no longer than this
_FILTERS = (16, 32, 64, 64)
_STEPS_AT_A_TIME = 200


class Images(NamedTuple):
    """Images that a classifier accepts: `shape` (height, width, channels), `range` in data units, `num_classes`."""

    shape: tuple[int, int, int]
    range: tuple[float, float]
    num_classes: int


def num_steps(num_examples: int) -> int:
    """Return the number of optimizer steps: eight epochs, with a minimum for small data and a maximum for large."""
    return min(max(EPOCHS * num_examples // BATCH_SIZE, LEAST_STEPS), MOST_STEPS)


def trained(images: Images, x: Any, label: np.ndarray, seed: int = 0, steps: int | None = None) -> Any:
    """Train a classifier.

    Args:
        images: Images that it accepts.
        x: images `[num, *shape]` in data units; only `x[rows]` and `len(x)` are used.
        label: int `[num]`.
        seed: Seed of weights, order, shifts and dropout.
        steps: Optimizer steps; `num_steps` by default.

    Returns:
        A Keras model from images in data units to the pair (features `[batch, 84]`, logits `[batch, num_classes]`).
    """
    import keras

    from kvae.optimizers import Adam

    steps = num_steps(len(x)) if steps is None else steps
    both = _network(images, seed)
    classifier = keras.Model(both.input, both.outputs[1])
    classifier.compile(
        Adam(keras.optimizers.schedules.CosineDecay(_RATE, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=min(20, steps),
    )
    label = np.asarray(label)
    rng = np.random.Generator(np.random.Philox(key=[seed, RECIPE]))
    order = _Order(len(x), rng)
    for first in range(0, steps, _STEPS_AT_A_TIME):
        rows = order.take(BATCH_SIZE * min(_STEPS_AT_A_TIME, steps - first))
        classifier.fit(shifted(x[rows], rng), label[rows], batch_size=BATCH_SIZE, shuffle=False, verbose=0)
    return both


def fitter(images: Images, seed: int = 0, steps: int | None = None) -> Fit:
    """Return a `fit` function for `classification_accuracy_score` with this network and recipe."""

    def fit(x, label):
        both = trained(images, x, label, seed, steps)

        def predict(other):
            return both.predict(other, batch_size=500, verbose=0)[1].argmax(axis=1)

        return predict

    return fit


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move each image of `[num, height, width, channels]` by up to a fourteenth of its sides, repeating its edge."""
    height, width = x.shape[1:3]
    most = [max(1, size // 14) for size in (height, width)]
    padded = np.pad(x, ((0, 0), (most[0], most[0]), (most[1], most[1]), (0, 0)), mode="edge")
    down, right = (rng.integers(0, 2 * each + 1, len(x)) for each in most)
    moved = np.empty_like(x)
    for dy in range(2 * most[0] + 1):
        for dx in range(2 * most[1] + 1):
            here = (down == dy) & (right == dx)
            moved[here] = padded[here, dy : dy + height, dx : dx + width]
    return moved


class _Order:
    """Endless stream of row indices: one random permutation after another."""

    def __init__(self, num: int, rng: np.random.Generator) -> None:
        self._num, self._rng = num, rng
        self._left = np.empty(0, np.int64)

    def take(self, num: int) -> np.ndarray:
        while len(self._left) < num:
            self._left = np.concatenate([self._left, self._rng.permutation(self._num)])
        rows, self._left = self._left[:num], self._left[num:]
        return rows


def _network(images: Images, seed: int) -> Any:
    import keras
    from keras import layers

    seeds = iter(np.random.SeedSequence(seed).generate_state(16).tolist())

    def drawn():
        return keras.initializers.GlorotUniform(next(seeds))

    low, high = images.range
    x = layers.Input(images.shape, name="x")
    state = layers.Rescaling(1.0 / (high - low), -low / (high - low))(x)
    side, filters = min(images.shape[:2]), list(_FILTERS)
    halvings = 0
    while halvings == 0 or (side > _SMALL_SIDE and halvings < len(filters)):
        kernel = 5 if halvings < 2 else 3
        state = layers.Conv2D(
            filters[halvings], kernel, padding="same", activation="relu", kernel_initializer=drawn()
        )(state)  # fmt: skip
        if side > _SMALL_SIDE:
            state, side = layers.MaxPooling2D()(state), side // 2
        halvings += 1
    state = layers.Flatten()(state)
    state = layers.Dense(120, activation="relu", kernel_initializer=drawn())(state)
    state = layers.Dropout(_DROPOUT, seed=next(seeds))(state)
    features = layers.Dense(FEATURES, activation="relu", kernel_initializer=drawn(), name="features")(state)
    logits = layers.Dense(images.num_classes, kernel_initializer=drawn(), name="logits")(features)
    return keras.Model(x, [features, logits], name="classifier")

"""The judge of samples: a LeNet-like classifier of digits, trained once on the real training images.

It is trained from a fixed seed on the training split alone, kept in a folder of the user's choice, and used for the
label consistency and, by its 84 penultimate features, for the figures of quality and diversity. Figures that are made
with two different judges are not comparable; `judge` therefore reports the digest of its weights.

Reference: LeCun et al. (1998), "Gradient-based learning applied to document recognition", LeNet-5, with more filters.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FEATURES = 84
EPOCHS, BATCH_SIZE, SEED = 8, 128, 0
FILE_NAME = f"lenet-{EPOCHS}-epochs.weights.h5"


class Judge:
    """Class probabilities and penultimate features of images `[num, 28, 28, 1]` in data units, 0 to 255."""

    def __init__(self, model: Any) -> None:
        import keras

        self._model = model
        self._both = keras.Model(model.inputs, [model.get_layer("features").output, *model.outputs])

    def __call__(self, x: np.ndarray) -> "Judgement":
        """Judge the images: `Judgement` with one row for each."""
        features, probabilities = self._both.predict(np.asarray(x, np.float32), batch_size=500, verbose=0)
        return Judgement(features, probabilities.argmax(axis=-1).astype(np.int64))

    @property
    def digest(self) -> str:
        """The first 12 hex digits of SHA-256 over all weights."""
        joined = b"".join(np.ascontiguousarray(weight).tobytes() for weight in self._model.get_weights())
        return hashlib.sha256(joined).hexdigest()[:12]


class Judgement(NamedTuple):
    """What the judge says: `features` float32 `[num, 84]`, `label` int64 `[num]`."""

    features: np.ndarray
    label: np.ndarray


def judge(folder: Path, x: np.ndarray, label: np.ndarray) -> Judge:
    """Return the judge that is kept in `folder`, or train it there on `x` and `label` (two to three minutes).

    Args:
        folder: where the weights are kept; made where it is missing.
        x: uint8 `[num, 28, 28, 1]`, real training images.
        label: int64 `[num]`.
    """
    path = folder / FILE_NAME
    model = _lenet()
    if path.exists():
        model.load_weights(path)
        return Judge(model)
    _train(model, x, label)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"aside-{FILE_NAME}"
    model.save_weights(aside)
    aside.replace(path)
    return Judge(model)


def shifted(x: np.ndarray, rng: np.random.Generator, most: int = 2) -> np.ndarray:
    """Move each image of `[num, height, width, 1]` by up to `most` pixels along both axes; zeros come in."""
    num, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (most, most), (most, most), (0, 0)))
    moved = np.empty_like(x)
    down, right = rng.integers(0, 2 * most + 1, (2, num))
    for dy in range(2 * most + 1):
        for dx in range(2 * most + 1):
            here = (down == dy) & (right == dx)
            moved[here] = padded[here, dy : dy + height, dx : dx + width]
    return moved


def _lenet() -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(SEED)
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dropout(0.3, seed=SEED),
            layers.Dense(FEATURES, activation="relu", name="features"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def _train(model: Any, x: np.ndarray, label: np.ndarray) -> None:
    import keras

    steps = len(x) // BATCH_SIZE
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", steps_per_execution=20)
    for epoch in range(EPOCHS):
        rng = np.random.Generator(np.random.Philox(key=[SEED, epoch]))
        order = rng.permutation(len(x))[: steps * BATCH_SIZE]
        model.fit(shifted(x[order], rng), label[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0)

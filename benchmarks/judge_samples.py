r"""Do samples of a conditional image model show the class that they were drawn for, and do they vary like real images?

A small CNN, trained on the real training images, predicts the classes of samples, of reconstructions of test images,
and of the test images themselves. Nothing here comes from `kvae evaluate --samples`: the network, its training, and the
computation of spread and coverage are separate.

- consistency: share of images whose predicted class is the requested one.
- spread: mean distance in pixels of two images of a class, averaged over classes, divided by that of test images.
- coverage: share of test images with a sample within the distance of their 5th neighbour among test images, in the
  last hidden layer of the CNN (Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 6).

    python benchmarks/judge_samples.py fashion FASHION_FOLDER --seeds 0,1

MODEL is a name of a shipped model or a folder of exported files. DATA is what `kvae train --data` accepts. Rows of
figures are printed per seed, which sets the initial weights of the CNN and the noise of the samples. Training takes
four CPU minutes per seed. --keep FOLDER stores the networks, and a later run reuses them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import kvae

BATCH_SIZE, NEIGHBOUR = 128, 5


def train(x, label, num_classes, seed, epochs):
    """Train the CNN on images `[num, height, width, channels]` of 0..255."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    network = keras.Sequential([layers.Input(x.shape[1:]), layers.Rescaling(1 / 255)])
    for filters in (32, 64, 128):
        network.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        network.add(layers.BatchNormalization())
        network.add(layers.ReLU())
        network.add(layers.MaxPooling2D())
    network.add(layers.Flatten())
    network.add(layers.Dropout(0.3))
    network.add(layers.Dense(128, activation="relu", name="features"))
    network.add(layers.Dropout(0.3))
    network.add(layers.Dense(num_classes, name="logits"))
    steps = epochs * -(-len(x) // BATCH_SIZE)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    network.fit(x, label, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return network


def judge(x, label, num_classes, seed, epochs, keep=None):
    """Return a function that maps images to (features, predicted class)."""
    import keras

    path = None if keep is None else Path(keep, f"judge-{seed}.keras")
    if path is not None and path.is_file():
        network = keras.models.load_model(path)
    else:
        network = train(x, label, num_classes, seed, epochs)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            network.save(path)
    both = keras.Model(network.inputs, [network.get_layer("features").output, network.outputs[0]])

    def apply(images):
        features, logits = both.predict(images, batch_size=500, verbose=0)
        return features, logits.argmax(axis=1)

    return apply


def distances(first, second):
    """Return Euclidean distances `[len(first), len(second)]`."""
    first, second = (each.reshape(len(each), -1).astype("float64") for each in (first, second))
    squares = np.square(first).sum(1)[:, None] + np.square(second).sum(1) - 2.0 * first @ second.T
    return np.sqrt(np.maximum(squares, 0.0))


def spread(x, label):
    """Return the mean distance of two different images of a class, averaged over classes."""
    means = []
    for one in np.unique(label):
        members = x[label == one]
        means.append(distances(members, members).sum() / (len(members) * (len(members) - 1)))
    return float(np.mean(means))


def coverage(real, samples):
    """Return the share of real points with a sample nearer than their 5th neighbour."""
    covered = []
    for start in range(0, len(real), 1000):
        block = real[start : start + 1000]
        # Column 0 is the point itself.
        radius = np.partition(distances(block, real), NEIGHBOUR, axis=1)[:, NEIGHBOUR]
        covered.append((distances(block, samples) < radius[:, None]).any(axis=1))
    return float(np.concatenate(covered).mean())


def shares(label, predicted):
    """Return the share of each class that was predicted right."""
    return np.array([(predicted[label == one] == one).mean() for one in np.unique(label)])


def row(name, label, predicted, *figures):
    """Format a row: the mean over classes, the worst class, further figures, and all classes."""
    each = shares(label, predicted)
    cells = [f"{each.mean():.3f}", f"{each.min():.3f} ({each.argmin()})", *figures, " ".join(f"{s:.2f}" for s in each)]
    return f"| {name} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--seeds", default="0", help="Seeds of the CNN and of the samples, such as 0,1,2")
    parser.add_argument("--num", type=int, default=5000, help="Number of samples, and of test images")
    parser.add_argument("--epochs", type=int, default=6, help="Epochs of the CNN; 2 suffice for MNIST")
    parser.add_argument("--keep", help="Folder of trained CNNs")
    arguments = parser.parse_args()
    model = kvae.load(arguments.model)
    real, test = kvae.data.load(arguments.data, "train"), kvae.data.load(arguments.data, "test")
    x, label = test.x[: arguments.num], test.conditions["label"][: arguments.num]
    num_classes = len(np.unique(real.conditions["label"]))
    print("| images | consistency | worst class | spread | coverage | share of each class |\n" + "|---" * 6 + "|")
    for seed in (int(text) for text in arguments.seeds.split(",")):
        apply = judge(real.x, real.conditions["label"], num_classes, seed, arguments.epochs, arguments.keep)
        features, predicted = apply(x)
        print(row(f"test, seed {seed}", label, predicted, "1", "1"), flush=True)
        rebuilt = model.reconstruct(x, label=label)
        within = f"{spread(rebuilt, label) / spread(x, label):.3f}"
        about = within, f"{coverage(features, apply(rebuilt)[0]):.3f}"
        print(row("reconstructions", label, apply(rebuilt)[1], *about), flush=True)
        draws = model.sample(len(x) // num_classes, label=list(range(num_classes)), seed=seed)
        asked = np.repeat(np.arange(num_classes), len(x) // num_classes)
        of_samples, predicted = apply(draws.x)
        about = f"{spread(draws.x, asked) / spread(x, label):.3f}", f"{coverage(features, of_samples):.3f}"
        print(row("samples", asked, predicted, *about), flush=True)


if __name__ == "__main__":
    main()

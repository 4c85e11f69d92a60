"""Small models for tests of the explorer: tables, a sequence and RGB images with two conditions, made in seconds.

`python tests/support/make_explorer_models.py FOLDER` writes each model and its data, `FOLDER/NAME` and a data file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROWS = 120


def table(folder: Path) -> None:
    """Write rows.csv, and a model of its classes, dates and numbers, some of which are missing."""
    import kvae

    random = np.random.default_rng(0)
    kind = random.integers(0, 3, ROWS)
    lines = ["species,mass,sex,born"]
    for each, mass, sex in zip(kind, random.normal(3000, 400, ROWS), random.integers(0, 2, ROWS), strict=True):
        cell = "" if random.random() < 0.2 else f"{mass + 700 * each:.0f}"
        born = f"20{random.integers(10, 24)}-{random.integers(1, 13):02d}-{random.integers(1, 29):02d}"
        lines.append(f"{['Adelie', 'Chinstrap', 'Gentoo'][each]},{cell},{['f', 'm'][sex]},{born}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    data = kvae.data.load(folder / "rows.csv")
    spec = kvae.TableSpec.learn(data.columns, data.x)
    likelihood = kvae.likelihoods.Mixed.from_spec(spec)
    fit(
        kvae.VAE.dense(data=spec, latent_dim=2, hidden=(8,), likelihood=likelihood, name="table"),
        data.x,
        {},
        folder / "table",
    )


def dependent(folder: Path) -> None:
    """Write a model with random weights of a table with every form of column, each dependent on those before it."""
    import keras

    import kvae

    random = np.random.default_rng(3)
    numeric, classes = {"kind": "numeric"}, {"kind": "categorical"}
    columns = [
        {"name": "height", **numeric},
        {"name": "shop", **classes, "classes": ["a", "b", "c"]},
        {"name": "spend", **numeric, "decimals": 2},
        {"name": "age", **numeric, "type": "integer", "decimals": 0},
        {"name": "weight", **numeric},
        {"name": "gain", **numeric, "decimals": 1},
        {"name": "colour", **classes, "classes": ["red", "green", "blue", "grey"]},
    ]
    x = np.stack(
        [
            random.normal(170, 9, ROWS),
            random.integers(0, 3, ROWS),
            np.select(random.multinomial(1, [0.3, 0.3, 0.4], ROWS).T[:2] > 0, [0.0, 19.99], random.gamma(2, 30, ROWS)),
            random.integers(20, 26, ROWS),
            random.normal(70, 9, ROWS),
            random.normal(0, 1, ROWS),
            random.integers(0, 4, ROWS),
        ],
        axis=1,
    ).astype("float32")
    x[random.uniform(size=x.shape) < [0, 0, 0.3, 0.3, 0, 0.3, 0]] = np.nan
    standard, quantile = (kvae.TableSpec.learn(columns, x, numbers=form).columns for form in ("standard", "quantile"))
    spec = kvae.TableSpec(
        [each if each["name"] in ("height", "gain") else other for each, other in zip(standard, quantile, strict=True)]
    )
    likelihood = kvae.likelihoods.MixedAutoregressive(
        **kvae.likelihoods.MixedAutoregressive.arguments(spec), width=6, components=3
    )
    model = kvae.VAE.dense(data=spec, latent_dim=2, hidden=(8,), likelihood=likelihood, name="dependent")
    for weight in model.weights:
        if keras.backend.standardize_dtype(weight.dtype) == "float32":
            weight.assign(random.normal(0, 0.7, weight.shape))
    model.export(folder / "dependent", format="onnx")


def sequence(folder: Path) -> None:
    """Write waves.npz, and a model of its sequences of two features."""
    import kvae

    random = np.random.default_rng(1)
    angle = 2 * np.pi * np.linspace(0, 1, 10) * random.uniform(1, 2, (ROWS, 1)) + random.uniform(0, 6, (ROWS, 1))
    x = np.stack([np.sin(angle), np.cos(angle)], -1).astype(np.float32)
    np.savez(folder / "waves.npz", x=x)
    spec, likelihood = kvae.DataSpec.learn_features(x), kvae.likelihoods.Gaussian()
    model = kvae.VAE.lstm(data=spec, latent_dim=2, units=4, likelihood=likelihood, name="sequence")
    fit(model, x, {}, folder / "sequence")


def rgb(folder: Path) -> None:
    """Write blobs.npz, and a model of its images, with a class and a number as conditions."""
    import kvae

    random = np.random.default_rng(2)
    label, size = random.integers(0, 3, ROWS), random.uniform(1, 4, ROWS)
    rows, columns = np.mgrid[:8, :8]
    inside = (rows - 3.5) ** 2 + (columns - 3.5) ** 2 < size[:, None, None] ** 2
    x = (200 * inside[..., None] * np.eye(3)[label][:, None, None] + 20).astype(np.uint8)
    np.savez(folder / "blobs.npz", x=x, label=label, size=size.astype(np.float32))
    conditions = [kvae.Categorical("label", ["red", "green", "blue"]), kvae.Continuous("size", low=1, high=4)]
    model = kvae.ConditionalVAE.dense(
        shape=(8, 8, 3),
        latent_dim=2,
        hidden=(16,),
        conditions=conditions,
        likelihood=kvae.likelihoods.Gaussian(),
        name="rgb",
    )
    fit(model, x, {"label": label, "size": size.astype(np.float32)}, folder / "rgb")


def fit(model, x: np.ndarray, conditions: dict[str, np.ndarray], folder: Path) -> None:
    """Train for some epochs and export."""
    import keras

    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, *([conditions] if conditions else []), batch_size=20, epochs=12, verbose=0)
    model.export(folder, format="onnx")


if __name__ == "__main__":
    destination = Path(sys.argv[1])
    for make in (table, dependent, sequence, rgb):
        make(destination)

"""Callbacks of a run: active units, posterior collapse, early stopping, NaN, saving, TensorBoard, bfloat16."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import kvae
from kvae import likelihoods, networks
from kvae.backends.current import Noise
from kvae.dataloaders import batches
from kvae.training import callbacks, run_data, saved_run
from kvae_serve.errors import OutputError, VerificationError
from support.runs import settings, train


def history(run):
    with (run.directory / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    return train(directory / "run", tensorboard=directory / "board", learning_rate=0.01)


def test_kl_per_dimension_sums_to_the_kl(run):
    for row in history(run):
        np.testing.assert_allclose(sum(row[f"val_kl_{i}"] for i in range(3)), row["val_kl"], rtol=1e-5)
    kl_per_dim = run.metadata["training"]["validation"]["kl_per_dim"]
    np.testing.assert_allclose(kl_per_dim, [history(run)[-1][f"val_kl_{i}"] for i in range(3)], atol=1e-4)


def identity_model(weight=1.0):
    """Model whose z_mean is its input times `weight`, and whose z_log_var is 0."""
    inputs = keras.Input((4,))
    outputs = [weight * inputs, 0.0 * inputs]
    decoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    spec = kvae.DataSpec((4,), (0.0, 1.0))
    return kvae.VAE(keras.Model(inputs, outputs), decoder, data=spec, likelihood=likelihoods.Gaussian(1.0))


def test_unit_is_active_if_its_mean_varies_over_the_data():
    x = np.random.default_rng(0).normal(0.5, [0.3, 0.09, 0.11, 1e-6], (400, 4)).clip(0, 1).astype("float32")
    assert (x.var(axis=0) > 0.01).tolist() == [True, False, True, False]
    usage, logs = callbacks.LatentUsage(batches.validation_batches(x, None, 150)), {}
    usage.set_model(identity_model())
    usage.on_epoch_end(0, logs)
    assert logs["val_active_units"] == 2
    expected = 0.5 * (x.astype("float64") ** 2).mean(axis=0)  # kl of N(x, 1) to N(0, 1)
    np.testing.assert_allclose([logs[f"val_kl_{i}"] for i in range(4)], expected, rtol=1e-5)


@pytest.mark.parametrize(("warmup_epochs", "first_warning"), [(0, 2), (4.5, 4)])
def test_posterior_collapse_is_reported_once_after_the_warm_up(warmup_epochs, first_warning):
    x, warnings = np.random.default_rng(0).random((20, 4), "float32"), []
    usage = callbacks.LatentUsage([(x,)], warmup_epochs, lambda line: warnings.append((epoch, line)))
    usage.set_model(identity_model(weight=0.0))
    for epoch in range(7):
        usage.on_epoch_end(epoch, {})
    ((epoch, line),) = warnings
    assert epoch == first_warning
    assert line.startswith("Warning: posterior collapse. No latent dimension is active")


@pytest.fixture(scope="module")
def mixture_run(tmp_path_factory):
    """Run with a mixture prior and without validation data."""
    directory = tmp_path_factory.mktemp("mixture") / "run"
    return train(directory, prior="gaussian_mixture", validation=0, epochs=1)


def test_kl_of_a_mixture_prior_is_marked_as_an_estimate(mixture_run):
    assert mixture_run.metadata["training"]["kl"] == "Monte Carlo estimate"
    assert "kl_0" not in history(mixture_run)[0]


def test_active_units_are_measured_on_training_data_without_validation_data(mixture_run):
    training = mixture_run.metadata["training"]
    assert training["examples"] == 600
    assert training["validation"] is None
    assert training["final"]["active_units"] == history(mixture_run)[0]["active_units"]


def test_early_stopping_keeps_weights_and_metrics_of_the_best_epoch(tmp_path):
    run = train(tmp_path / "run", patience=2, epochs=60, learning_rate=0.05)
    elbos = [row["val_elbo"] for row in history(run)]
    assert run.stopped_early
    assert len(elbos) < 60
    best = int(np.argmax(elbos))
    assert best == len(elbos) - 3
    assert run.metadata["training"]["epochs"] == best + 1
    assert run.metadata["training"]["validation"]["elbo"] == round(elbos[best], 4)
    # Evaluated again, the saved weights have this elbo.
    x = run_data.read(settings()).x
    _, rows = batches.hold_out(600, 100, 0)
    model, _ = saved_run.load(run.directory)
    terms = model.terms((tf.constant(x[rows]),), Noise(0, tf.constant(0.0, tf.float64), test=True), training=False)
    assert float(tf.reduce_mean(terms.elbo)) == pytest.approx(elbos[best], rel=1e-5)


def test_tensorboard_logs_contain_the_history(run):
    logged = {}
    for path in (run.directory.parent / "board").rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                logged[path.parent.name, value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    for row in history(run):
        epoch = int(row["epoch"]) + 1
        assert logged["validation", "elbo", epoch] == pytest.approx(row["val_elbo"])
        assert logged["train", "kl", epoch] == pytest.approx(row["kl"])


@pytest.mark.long
def test_bfloat16_run_saves_float32_and_reaches_the_same_elbo(tmp_path):
    half = train(tmp_path / "half", mixed_precision=True, learning_rate=0.01, epochs=6)
    full = train(tmp_path / "full", learning_rate=0.01, epochs=6)
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in half.model.encoder.layers} == {"float32"}
    saved = keras.saving.load_model(tmp_path / "half" / "model.keras")
    assert {weight.dtype for weight in saved.weights} == {"float32"}
    elbos = [run.metadata["training"]["validation"]["elbo"] for run in (half, full)]
    assert elbos[0] == pytest.approx(elbos[1], rel=0.02)
    assert elbos[0] != elbos[1]


PIXELS = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), "uint8")


def test_nan_loss_stops_within_the_epoch():
    class Counter(keras.callbacks.Callback):
        epochs, steps = 0, 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1

    counter = Counter()
    model = kvae.VAE(networks.dense_encoder((4, 4, 1), 2, [8]), networks.dense_decoder((4, 4, 1), 2, [8]))
    model.compile(keras.optimizers.Adam(1e38))
    with pytest.raises(VerificationError, match=r"The loss became (nan|inf) by step \d"):
        model.fit(PIXELS, batch_size=1, verbose=0, callbacks=[callbacks.StopOnNaN(seconds=0), counter])
    assert counter.epochs == 0
    assert 1 <= counter.steps < 10


def test_nan_is_checked_only_now_and_then():
    stop, reads = callbacks.StopOnNaN(seconds=60), []

    class Latest:
        @property
        def logs(self):
            reads.append(1)
            return {"loss": 1.0}

    stop.set_model(type("Model", (), {"latest": Latest()})())
    for batch in range(5):
        stop.on_train_batch_begin(batch)
    assert len(reads) == 1


def test_model_is_saved_atomically(tmp_path, monkeypatch, run):
    save = callbacks.SaveModel(tmp_path / "model.keras", lambda: run.model, seconds=0)
    save.on_epoch_end(0)
    good = (tmp_path / "model.keras").read_bytes()

    def torn(path):
        path.write_bytes(good[:100])
        raise OSError("disk full")

    monkeypatch.setattr(type(run.model), "save", lambda self, path: torn(path))
    with pytest.raises(OutputError, match="disk full"):
        save.save()
    assert (tmp_path / "model.keras").read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_model_with_nan_does_not_replace_the_saved_one(tmp_path, run):
    save = callbacks.SaveModel(tmp_path / "model.keras", lambda: run.model, seconds=0)
    save.save()
    good, weight = (tmp_path / "model.keras").read_bytes(), run.model.trainable_variables[0]
    before = np.array(weight.numpy())
    weight.assign(before * np.nan)
    with pytest.raises(VerificationError, match="infinite or NaN"):
        save.save()
    weight.assign(before)
    assert (tmp_path / "model.keras").read_bytes() == good

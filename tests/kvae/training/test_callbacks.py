"""What a run says on its way: units in use, collapse, early stopping, the history, TensorBoard, precision."""

import csv
import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvae.backends import Noise
from kvae.dataloaders import batches
from kvae.training import callbacks, config, run_data, saved_run
from kvae.training import train as training
from kvae.training.callbacks.progress import print_line
from kvae_serve.errors import InputDataError, RequestError, VerificationError

SMALL = {
    "data": "mnist-sample", "validation": 100, "epochs": 3, "latent_dim": 3, "batch_size": 50,
    "encoder_hidden": (16,), "decoder_hidden": (16,),
}  # fmt: skip


def settings(**changes):
    return config.Config().replace(**{**SMALL, **changes})


def train(directory, quiet=True, tensorboard=None, **changes):
    return training.train(settings(**changes), directory, quiet=quiet, export_check=False, tensorboard=tensorboard)


def history(run):
    with (run.directory / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    return train(directory / "run", tensorboard=directory / "board", learning_rate=0.01)


def test_the_kl_of_all_dimensions_sums_to_the_kl(run):
    for row in history(run):
        np.testing.assert_allclose(sum(row[f"val_kl_{i}"] for i in range(3)), row["val_kl"], rtol=1e-5)
    kl_per_dim = run.metadata["training"]["validation"]["kl_per_dim"]
    np.testing.assert_allclose(kl_per_dim, [history(run)[-1][f"val_kl_{i}"] for i in range(3)], atol=1e-4)


def test_a_unit_is_active_where_its_mean_varies_over_the_data():
    # An encoder that hands on its input: the variances of z_mean are those of the data.
    x = np.random.default_rng(0).normal(0.5, [0.3, 0.09, 0.11, 1e-6], (400, 4)).clip(0, 1).astype("float32")
    inputs = keras.Input((4,))
    constant = keras.layers.Rescaling(0.0)(inputs)
    encoder = keras.Model(inputs, [keras.layers.Rescaling(1.0)(inputs), constant])
    decoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    from kvae import VAE, DataSpec, likelihoods

    model = VAE(encoder, decoder, data=DataSpec((4,), (0.0, 1.0)), likelihood=likelihoods.Gaussian(1.0))
    assert (x.var(axis=0) > 0.01).tolist() == [True, False, True, False]
    latents, logs = callbacks.LatentUsage(batches.validation_batches(x, None, 150), 0, print), {}
    latents.set_model(model)
    latents.on_epoch_end(0, logs)
    assert logs["val_active_units"] == 2
    expected = 0.5 * (x.astype("float64") ** 2).mean(axis=0)  # kl of N(x, 1) to N(0, 1)
    np.testing.assert_allclose([logs[f"val_kl_{i}"] for i in range(4)], expected, rtol=1e-5)


def test_a_prior_that_does_not_factorise_says_that_its_kl_is_an_estimate(tmp_path, capsys):
    run = train(tmp_path / "run", prior="gaussian_mixture", epochs=1, quiet=False)
    assert "kl is a Monte Carlo estimate" in capsys.readouterr().err
    assert run.metadata["training"]["kl"] == "Monte Carlo estimate"
    assert "val_kl_0" not in history(run)[0]
    assert "val_active_units" in history(run)[0]


def test_posterior_collapse_is_one_line(tmp_path, capsys):
    run = train(tmp_path / "run", beta=1000.0, epochs=5, learning_rate=0.01)
    assert history(run)[-1]["val_active_units"] == 0
    assert capsys.readouterr().err.count("posterior collapse") == 1


def test_no_collapse_is_seen_during_the_warm_up(tmp_path, capsys):
    train(tmp_path / "run", beta=1000.0, initial_beta=1000.0, warmup_epochs=9, epochs=5, learning_rate=0.01)
    assert "collapse" not in capsys.readouterr().err


def test_without_validation_data_units_are_counted_on_training_data(tmp_path):
    run = train(tmp_path / "run", validation=0, epochs=1)
    assert "active_units" in history(run)[0]
    assert run.metadata["training"]["final"]["active_units"] == history(run)[0]["active_units"]


def test_early_stopping_keeps_the_best_weights_and_its_figures(tmp_path):
    run = train(tmp_path / "run", patience=2, epochs=60, learning_rate=0.05)
    elbos = [row["val_elbo"] for row in history(run)]
    assert run.stopped_early
    assert len(elbos) < 60
    best = int(np.argmax(elbos))
    assert best == len(elbos) - 3
    assert run.metadata["training"]["epochs"] == best + 1
    assert run.metadata["training"]["validation"]["elbo"] == round(elbos[best], 4)
    # The weights are those: evaluated again, they give that figure.
    x = run_data.read(settings()).x
    _, rows = batches.hold_out(600, 100, 0)
    model, _ = saved_run.load(run.directory)
    terms = model.terms((tf.constant(x[rows]),), Noise(0, tf.constant(0.0, tf.float64), test=True), training=False)
    assert float(tf.reduce_mean(terms.elbo)) == pytest.approx(elbos[best], rel=1e-5)


def test_patience_needs_validation_data():
    with pytest.raises(RequestError, match="patience needs validation"):
        settings(patience=3, validation=0)


def test_tensorboard_finds_the_figures_of_the_history(run):
    found = {}
    for path in (run.directory.parent / "board").rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[path.parent.name, value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    for row in history(run):
        epoch = int(row["epoch"]) + 1
        assert found["validation", "elbo", epoch] == pytest.approx(row["val_elbo"])
        assert found["train", "kl", epoch] == pytest.approx(row["kl"])


def test_mixed_precision_saves_and_exports_float32(tmp_path):
    half = train(tmp_path / "half", mixed_precision=True, learning_rate=0.01, epochs=6)
    full = train(tmp_path / "full", learning_rate=0.01, epochs=6)
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in half.model.encoder.layers} == {"float32"}
    assert {weight.dtype for weight in keras.saving.load_model(tmp_path / "half" / "model.keras").weights} == {
        "float32"
    }
    elbos = [run.metadata["training"]["validation"]["elbo"] for run in (half, full)]
    assert elbos[0] == pytest.approx(elbos[1], rel=0.02)
    assert elbos[0] != elbos[1]


def test_data_that_the_likelihood_does_not_model_are_refused_before_the_first_step(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((60, 4, 4, 1), "float32"))
    with pytest.raises(InputDataError):
        train(tmp_path / "run", data=str(tmp_path / "data.npz"), validation=10, likelihood="discretized_logistic")
    assert not (tmp_path / "run").exists()


def small_model(learning_rate):
    from kvae import VAE, networks

    keras.utils.set_random_seed(0)
    model = VAE(networks.dense_encoder((4, 4, 1), 2, [8]), networks.dense_decoder((4, 4, 1), 2, [8]))
    model.compile(keras.optimizers.Adam(learning_rate))
    return model


PIXELS = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), "uint8")


def test_a_loss_that_is_no_number_ends_an_epoch_in_its_middle():
    class Ended(keras.callbacks.Callback):
        epochs, steps = 0, 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1

    ended = Ended()
    with pytest.raises(VerificationError, match=r"The loss became (nan|inf) by step \d"):
        small_model(1e38).fit(PIXELS, batch_size=1, verbose=0, callbacks=[callbacks.StopOnNaN(seconds=0), ended])
    assert ended.epochs == 0
    assert 1 <= ended.steps < 10


def test_between_two_looks_for_a_number_the_device_is_left_alone():
    stop, seen = callbacks.StopOnNaN(seconds=60), []

    class Latest:
        @property
        def logs(self):
            seen.append(1)
            return {"loss": 1.0}

    stop.set_model(type("Model", (), {"latest": Latest()})())
    for batch in range(5):
        stop.on_train_batch_begin(batch)
    assert len(seen) == 1


def test_a_terminal_sees_the_epoch_move():
    terminal = Terminal()
    small_model(1e-3).fit(PIXELS, batch_size=1, verbose=0, callbacks=[callbacks.Progress(1, terminal)])
    first = terminal.getvalue().split("\r\x1b[K")[1]
    assert first.startswith("epoch 1/1  ")
    assert first.count("━") + first.count("╌") == 20
    assert "elbo -" in first
    assert "beta 1" in first


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_warning_takes_the_place_of_the_line_that_moves():
    terminal, file = Terminal(), io.StringIO()
    print_line("Warning: none", terminal)
    print_line("Warning: none", file)
    assert terminal.getvalue() == "\r\x1b[KWarning: none\n"
    assert file.getvalue() == "Warning: none\n"

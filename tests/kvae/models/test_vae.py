"""Models under Keras' own methods: fit, evaluate, callbacks, saving, loading, and refused arguments."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import kvae
from kvae import networks
from kvae.commands.export import export as export_command
from kvae.data.spec import DataSpec
from kvae.likelihoods import Bernoulli
from kvae.objectives import schedules
from kvae_serve.errors import InputDataError

SHAPE, LATENT = (6, 6, 1), 3
FIGURES = {"loss", "elbo", "reconstruction", "kl"}


def data(num=96, classes=3):
    """Return bright squares, uint8, and labels that determine the corner."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, num)
    x = np.zeros((num, *SHAPE), "uint8")
    for image, c in zip(x, label, strict=True):
        image[c : c + 3, c : c + 3] = rng.integers(150, 256)
    return x, label


def parts(condition_dim=0):
    encoder = networks.dense_encoder(SHAPE, LATENT, (16,), condition_dim=condition_dim)
    decoder = networks.dense_decoder(SHAPE, LATENT, (16,), condition_dim=condition_dim)
    return encoder, decoder


def make(kind):
    keras.utils.set_random_seed(0)
    label = [kvae.Categorical("label", 3)]
    return {
        "vae": lambda: kvae.VAE(*parts()),
        "beta": lambda: kvae.BetaVAE(*parts(), beta=4.0),
        "conditional": lambda: kvae.ConditionalVAE(*parts(3), conditions=label),
        "conditional-beta": lambda: kvae.ConditionalBetaVAE(
            *parts(3), conditions=label, beta=schedules.Linear(2.0, steps=4)
        ),
    }[kind]()


def arguments(kind):
    x, label = data()
    return (x, label) if "conditional" in kind else (x,)


# Each of the two covers a condition and a schedule, or neither.
KINDS = ["vae", "conditional-beta"]


@pytest.fixture(scope="module", params=KINDS)
def fitted(request):
    """A model after `fit`, its history and the data."""
    model, given = make(request.param), arguments(request.param)
    model.compile(keras.optimizers.Adam(0.01))
    return model, model.fit(*given, batch_size=32, epochs=8, validation_data=given, verbose=0).history, given


def test_fit_reports_all_terms_and_raises_the_elbo(fitted):
    _, history, _ = fitted
    assert FIGURES | {"beta"} | {f"val_{name}" for name in FIGURES} == set(history)
    assert history["val_elbo"][-1] > history["val_elbo"][0] + 1
    for name in ("", "val_"):
        np.testing.assert_allclose(
            history[f"{name}elbo"], -np.add(history[f"{name}reconstruction"], history[f"{name}kl"]), rtol=1e-5
        )


def test_saved_model_loads_without_custom_objects_and_continues_identically(fitted, tmp_path):
    model, _, given = fitted
    model.save(tmp_path / "m.keras")
    again = kvae.load_model(tmp_path / "m.keras")
    assert type(again) is type(model)
    assert again.evaluate(*given, verbose=0, return_dict=True) == model.evaluate(*given, verbose=0, return_dict=True)
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == 24
    # The next steps are the same too: noise and beta are functions of the optimiser's count.
    for m in (model, again):
        m.fit(*given, batch_size=32, epochs=1, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_beta_weights_the_loss_and_not_the_elbo():
    plain, weighted = make("vae"), make("beta")
    for model in (plain, weighted):
        model.compile("adam", run_eagerly=True)
    x, _ = data()
    one, four = (model.evaluate(x, verbose=0, return_dict=True) for model in (plain, weighted))
    assert one["elbo"] == four["elbo"]
    assert one["loss"] == pytest.approx(-one["elbo"], rel=1e-6)
    assert four["loss"] == pytest.approx(four["reconstruction"] + 4 * four["kl"], rel=1e-6)


def test_beta_follows_the_step_count_of_the_optimizer():
    model, (x, label) = make("conditional-beta"), data()
    model.compile("adam")
    history = model.fit(x, label, batch_size=48, epochs=4, verbose=0).history
    # Two steps per epoch. An epoch reports the beta of its last step: counts 1, 3, 5, 7 of a warm-up of 4 to 2.0.
    assert history["beta"] == [0.5, 1.5, 2.0, 2.0]


def test_zero_decoder_reconstruction_is_log2_per_pixel():
    model = make("vae")
    model.decoder.get_layer("parameters").kernel.assign(np.zeros((16, 36)))
    model.compile("adam", run_eagerly=True)
    figures = model.evaluate(data()[0], verbose=0, return_dict=True)
    assert figures["reconstruction"] == pytest.approx(36 * np.log(2), rel=1e-6)


def test_evaluation_noise_is_fixed_and_training_noise_changes_with_the_step():
    model, (x, _) = make("vae"), data()
    model.compile(
        keras.optimizers.SGD(0.0), run_eagerly=True
    )  # the weights stay, so only the noise can change the figures
    first, second = (model.evaluate(x, verbose=0, return_dict=True) for _ in range(2))
    assert first == second
    elbos = [model.train_on_batch(x, return_dict=True)["elbo"] for _ in range(2)]
    assert abs(elbos[0] - elbos[1]) > 1e-3
    model.optimizer.iterations.assign(0)
    assert model.train_on_batch(x, return_dict=True)["elbo"] == elbos[0]


@pytest.mark.parametrize("kind", ["vae", "conditional"])
def test_an_example_of_weight_zero_does_not_count(kind):
    model, given = compiled(kind), arguments(kind)
    few = [values[:5] for values in given]
    weights = np.where(np.arange(len(given[0])) < 5, 0.25, 0.0)
    alone = model.evaluate(*few, verbose=0, return_dict=True)
    weighted = model.evaluate(*given, batch_size=96, sample_weight=weights, verbose=0, return_dict=True)
    assert weighted == pytest.approx(alone, rel=1e-5)
    with_validation = model.fit(
        *given, validation_data=(*given, *[None] * (2 - len(given)), weights), verbose=0
    ).history
    assert with_validation["val_elbo"] == pytest.approx(
        [model.evaluate(*few, verbose=0, return_dict=True)["elbo"]], rel=1e-5
    )


def test_sample_weight_2_doubles_the_step_of_plain_gradient_descent():
    x, label = data()
    moved = []
    for rate, weights in ((2e-4, None), (1e-4, np.full(len(x), 2.0))):
        model = make("conditional")
        model.compile(keras.optimizers.SGD(rate), run_eagerly=True)
        model.train_on_batch(x, label, sample_weight=weights)
        moved.append(model.get_weights())
    for one, two in zip(*moved, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_class_weight_equals_the_sample_weights_of_the_classes():
    x, label = data()
    figures = []
    for weights in ({"class_weight": {0: 3.0, 2: 0.5}}, {"sample_weight": np.array([3.0, 1.0, 0.5])[label]}):
        model = compiled("conditional")
        figures.append(model.fit(x, label, epochs=1, shuffle=False, verbose=0, **weights).history)
    assert figures[0] == figures[1]


def test_fit_accepts_tuples_of_arrays():
    x, label = data()
    expected = compiled("conditional").fit(x, label, shuffle=False, verbose=0).history
    assert compiled("conditional").fit((x, label), shuffle=False, verbose=0).history == expected
    expected = compiled("vae").fit(x, shuffle=False, verbose=0).history
    assert compiled("vae").fit([x], shuffle=False, verbose=0).history == expected


def test_reconstruction_is_the_expected_nll_of_binarised_pixels():
    # With a known decoder bias and no kernel, E[nll] of pixel p is -p log s - (1-p) log(1-s), s the sigmoid.
    model = make("vae")
    last = model.decoder.get_layer("parameters")
    last.kernel.assign(np.zeros((16, 36)))
    last.bias.assign(np.full(36, 1.0))
    model.compile("adam", run_eagerly=True)
    x = np.tile(data(4)[0], (500, 1, 1, 1))
    s, p = 1 / (1 + np.exp(-1.0)), x / 255.0
    expected = -(p * np.log(s) + (1 - p) * np.log(1 - s)).sum((1, 2, 3)).mean()
    figures = model.evaluate(x, batch_size=500, verbose=0, return_dict=True)
    assert figures["reconstruction"] == pytest.approx(expected, rel=2e-3)


def test_call_reconstructs_in_data_units():
    model, (x, label) = make("conditional"), data()
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(np.tile(x, (10, 1, 1, 1)), np.tile(label, 10), batch_size=32, epochs=4, verbose=0)
    x_mean = np.asarray(model((x, label)))
    assert x_mean.shape == x.shape
    assert x_mean.min() >= 0
    assert x_mean.max() <= 255
    assert np.abs(x_mean - x).mean() < 0.5 * np.abs(x - x.mean(0)).mean()


def test_predict_accepts_pairs_in_every_form():
    model, (x, label) = compiled("conditional"), data()
    want = np.asarray(model((x, label)))
    for given in ((x, label), [x, label], (x, {"label": label}), (x, list(label)), dataset(x, label)):
        np.testing.assert_allclose(model.predict(given, verbose=0), want, rtol=1e-4, atol=1e-3)
    plain = compiled("vae")
    np.testing.assert_allclose(plain.predict(x, verbose=0), plain(x), rtol=1e-4, atol=1e-3)


def test_labels_are_accepted_as_list_column_float_or_dict():
    x, label = data()
    model = compiled("conditional")
    figures = [
        model.evaluate(x, given, verbose=0)
        for given in (label, list(label), label[:, None], label.astype("f4"), {"label": label})
    ]
    assert all(each == figures[0] for each in figures)
    model = compiled("conditional", run_eagerly=False)
    for given in (label[:, None], label):  # the second traces a step for both shapes
        model.fit(dataset(x, given), epochs=1, verbose=0)


@pytest.mark.long
def test_evaluate_lists_the_loss_first_and_callbacks_monitor_the_elbo(tmp_path):
    model, given = compiled("beta"), data()[:1]
    by_name = model.evaluate(*given, verbose=0, return_dict=True)
    assert model.evaluate(*given, verbose=0) == [by_name[name] for name in model.metrics_names]
    assert model.metrics_names == ["loss", "elbo", "reconstruction", "kl"]
    assert len(model.train_on_batch(*given)) == len(model.test_on_batch(*given)) == 4
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_elbo", mode="max", save_best_only=True)
    stop = keras.callbacks.EarlyStopping("val_elbo", mode="max", patience=3)
    model.fit(*given, epochs=2, validation_data=given, callbacks=[best, stop], verbose=0)
    assert (tmp_path / "best.keras").exists()


def test_numpy_numbers_are_accepted_as_beta_and_seed():
    model = kvae.BetaVAE(*parts(), beta=np.float32(4), seed=np.int64(3))
    assert (float(model.beta(0)), model.seed) == (4.0, 3)


def test_several_conditions_form_one_vector():
    conditions = [kvae.Categorical("label", 3, embedding_dim=2), kvae.Continuous("age", 0, 10)]
    model = kvae.ConditionalVAE(*parts(3), conditions=conditions)
    model.compile("adam", run_eagerly=True)
    x, label = data()
    given = {"label": label, "age": np.linspace(0, 10, len(x)).astype("f4")}
    model.fit(x, given, batch_size=32, epochs=1, verbose=0)
    vector = np.asarray(model.condition_vector({name: values[:2] for name, values in given.items()}))
    assert vector.shape == (2, 3)
    np.testing.assert_allclose(vector[0, 2], -1.0)
    assert any("embedding" in weight.path for weight in model.trainable_weights)


def test_own_functional_networks_train():
    x_in, z_in = keras.Input(SHAPE), keras.Input((LATENT,))
    flat = keras.layers.Flatten()(x_in)
    encoder = keras.Model(x_in, [keras.layers.Dense(LATENT)(flat), keras.layers.Dense(LATENT)(flat)])
    decoder = keras.Model(z_in, keras.layers.Reshape(SHAPE)(keras.layers.Dense(36)(z_in)))
    model = kvae.VAE(encoder, decoder, data=DataSpec(SHAPE, range=(0, 1)), likelihood=Bernoulli("none"))
    model.compile("adam", run_eagerly=True)
    history = model.fit((data()[0] > 0).astype("f4"), epochs=3, verbose=0).history
    assert history["elbo"][-1] > history["elbo"][0]


@keras.saving.register_keras_serializable(package="tests")
class OwnEncoder(keras.Model):
    """Subclassed, as a user may write it: it knows no shape before it has seen data."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flat, self.mean, self.log_var = keras.layers.Flatten(), keras.layers.Dense(2), keras.layers.Dense(2)

    def call(self, inputs):
        x, given = inputs
        state = keras.ops.concatenate([self.flat(x), given], -1)
        return self.mean(state), self.log_var(state)


@keras.saving.register_keras_serializable(package="tests")
class OwnDecoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.shaped = keras.layers.Dense(36), keras.layers.Reshape(SHAPE)

    def call(self, inputs):
        return self.shaped(self.dense(keras.ops.concatenate(inputs, -1)))


def test_rescaling_in_the_encoder_warns_because_the_model_scales():
    x = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x))
    encoder = keras.Model(x, [keras.layers.Dense(LATENT)(flat), keras.layers.Dense(LATENT)(flat)])
    with pytest.warns(UserWarning, match="scaled already: DataSpec.*Remove the layer"):
        kvae.VAE(encoder, parts()[1])


def test_export_command_accepts_a_keras_file(tmp_path):
    make("conditional").save(tmp_path / "m.keras")
    result = CliRunner().invoke(export_command, [str(tmp_path / "m.keras"), "-o", str(tmp_path / "onnx")])
    assert result.exit_code == 0, result.output
    assert f"kvae sample -m {tmp_path / 'onnx'} --label 2" in result.stderr
    model, served = kvae.load_model(tmp_path / "m.keras"), kvae.load(tmp_path / "onnx")
    np.testing.assert_allclose(served.sample(2, seed=1).x, model.sample(2, seed=1).x, atol=1e-5 * 255)


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_file_without_a_model_is_refused_with_its_path(tmp_path, content):
    path = tmp_path / "m.keras"
    if content is None:
        keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputDataError, match=r"m\.keras"):
        kvae.load_model(path)


def test_config_without_conditions_means_ten_labels():
    model = kvae.ConditionalVAE.dense(SHAPE, LATENT, hidden=(4,), conditions=kvae.Categorical("label", 10))
    config = model.get_config() | {"trainable": True, "dtype": "float32"}
    del config["conditions"]
    assert kvae.ConditionalVAE.from_config(config).conditions[0].num_classes == 10


@pytest.mark.long
def test_subclassed_networks_train_save_load_and_export(tmp_path):
    model = kvae.ConditionalVAE(
        OwnEncoder(), OwnDecoder(), data=DataSpec(SHAPE), conditions=kvae.Categorical("label", 3)
    )
    assert model.latent_dim == 2
    model.compile("adam")
    model.fit(*data(), epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    again = kvae.load_model(tmp_path / "m.keras")
    given = data()
    assert again.evaluate(*given, verbose=0, return_dict=True) == model.evaluate(*given, verbose=0, return_dict=True)
    model.export(tmp_path / "m")
    z = np.ones((2, 2), "f4")
    want = model.data.to_data(
        keras.ops.sigmoid(model._decode(z, (model.condition_vector({"label": np.array([0, 2])}),)))
    )
    np.testing.assert_allclose(kvae.load(tmp_path / "m").decode(z, label=[0, 2]), want, atol=1e-2)


def test_dropout_and_batch_norm_are_active_in_training_only():
    x_in = keras.Input(SHAPE)
    state = keras.layers.BatchNormalization(name="norm")(keras.layers.Flatten()(x_in))
    state = keras.layers.Dropout(0.5, seed=0)(state)
    encoder = keras.Model(x_in, [keras.layers.Dense(LATENT)(state), keras.layers.Dense(LATENT)(state)])
    model, (x, _) = kvae.VAE(encoder, parts()[1]), data()
    model.compile("adam", run_eagerly=True)
    before = np.asarray(encoder.get_layer("norm").moving_mean)
    # No dropout and no statistics of the batch in evaluation: part of a batch is scored as the whole is.
    first, second = (np.asarray(model._encode(model.data.to_unit(batch))[0]) for batch in (x, x[:5]))
    np.testing.assert_allclose(first[:5], second, rtol=1e-5, atol=1e-6)
    model.evaluate(x, verbose=0)
    np.testing.assert_array_equal(encoder.get_layer("norm").moving_mean, before)
    model.fit(x, epochs=1, verbose=0)
    assert (np.asarray(encoder.get_layer("norm").moving_mean) != before).any()
    units = model.data.to_unit(x)
    dropped, also = (np.asarray(model._encode(units, training=True)[0]) for _ in range(2))
    assert (dropped != also).any()


@pytest.mark.long
def test_dataset_and_callbacks_work_with_several_steps_per_execution():
    import tensorflow as tf

    x, label = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, label)).batch(32)
    model, seen = make("conditional"), []
    model.compile("adam", steps_per_execution=2)
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(sorted(logs)))
    stop = keras.callbacks.EarlyStopping("val_elbo", mode="max", patience=50)
    model.fit(dataset, epochs=2, validation_data=dataset, callbacks=[watch, stop], verbose=0)
    assert len(seen) == 2
    assert "val_elbo" in seen[0]


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("VAE is unconditional", lambda: fit("vae", *data())),
        ("needs label as well as x", lambda: fit("conditional", data()[0])),
        ("ranges from 0 to 7; expected 0 to 2", lambda: fit("conditional", data()[0], np.arange(96) % 8)),
        ("96 examples but 95", lambda: fit("conditional", data()[0], data()[1][:95])),
        ("expected class indices", lambda: fit("conditional", data()[0], data()[1] + 0.5)),
        ("keys \\[7\\]; expected class indices 0 to 2", lambda: fit_with("conditional", class_weight={7: 2.0})),
        ("negative", lambda: fit_with("conditional", sample_weight=np.full(96, -1.0))),
        ("looks one-hot.*argmax", lambda: fit("conditional", data()[0], np.eye(3)[data()[1]])),
        ("x is a list of 96", lambda: fit("vae", list(data()[0]))),
        ("ranges from 3 to 5; expected 0 to 2", lambda: compiled("conditional").evaluate(data()[0], data()[1] + 3)),
        ("multiply x", lambda: compiled("vae").evaluate(data()[0] / 255)),
        ("ranges from 3 to 5; expected 0 to 2", lambda: compiled("conditional").predict((data()[0], data()[1] + 3))),
        ("predict: this model needs label", lambda: compiled("conditional").predict(data()[0])),
        ("ranges from 3 to 5; expected 0 to 2", lambda: fit("conditional", dataset(data()[0], data()[1] + 3))),
        ("ends in a sigmoid", lambda: kvae.VAE(parts()[0], sigmoid_decoder())),
        ("encoder is a function; expected a Keras model", lambda: kvae.VAE(lambda x: x, parts()[1])),
        ("NaN", lambda: fit("vae", np.full((2, *SHAPE), np.nan))),
        ("compile: loss is 'mse'", lambda: make("vae").compile("adam", loss="mse")),
        ("compile: metrics is", lambda: make("vae").compile("adam", metrics=["mse"])),
        ("condition_dim=3", lambda: kvae.ConditionalVAE(*parts(), conditions=[kvae.Categorical("label", 3)])),
        ("latent_dim", lambda: kvae.VAE(parts()[0], networks.dense_decoder(SHAPE, 5, (4,)))),
        ("same shape", lambda: kvae.VAE(*parts(), data=DataSpec((5, 5, 1)))),
        ("Add data=DataSpec", lambda: kvae.VAE(OwnEncoder(), OwnDecoder())),
        ("cannot be called on x or z", lambda: kvae.VAE(OwnEncoder(), OwnDecoder(), data=DataSpec(SHAPE))),
        (
            "expected the pair",
            lambda: kvae.VAE(keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()]), parts()[1]),
        ),
        ("seed is -1", lambda: kvae.VAE(*parts(), seed=-1)),
        ("expected one or more", lambda: kvae.ConditionalVAE(*parts(3), conditions=[])),
        ("objective is Elbo", lambda: kvae.BetaVAE(*parts(), objective=kvae.objectives.Elbo())),
    ],
)
def test_unsuitable_arguments_raise_one_clear_line(words, call):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def dataset(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(32)


def sigmoid_decoder():
    z = keras.Input((LATENT,))
    return keras.Model(z, keras.layers.Reshape(SHAPE)(keras.layers.Dense(36, activation="sigmoid")(z)))


def compiled(kind, run_eagerly=True):
    """Return a compiled model. Tracing a step takes longer than these few steps do."""
    model = make(kind)
    model.compile("adam", run_eagerly=run_eagerly)
    return model


def fit_with(kind, **fit_arguments):
    compiled(kind).fit(*data(), verbose=0, **fit_arguments)


def fit(kind, *args):
    compiled(kind).fit(*args, verbose=0)

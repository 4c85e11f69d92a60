"""Settings that follow from the data: likelihood, network, range of values, validation and batch size."""

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import kvae
from kvae.commands.train import train as command
from kvae.training import config, defaults, run_data
from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.readers import Dataset

RANDOM = np.random.default_rng(0)


def dataset(x, columns=(), **conditions):
    names = {"label": tuple("abcd")} if conditions else {}
    return Dataset(np.asarray(x), conditions, names, "data.npz", None, tuple(columns))


def photos(num, *shape):
    return RANDOM.integers(0, 256, (num, *shape)).astype("uint8")


def masks(num, *shape):
    return RANDOM.integers(0, 2, (num, *shape)).astype("uint8")


TABLE = [{"name": "age", "kind": "numeric"}, {"name": "pet", "kind": "categorical", "classes": ["cat", "dog"]}]
BATCH = RANDOM.normal(size=(60, 24, 1, 1)).astype("float32")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (dataset(photos(60, 32, 32, 3)), ("conv", "discretized_logistic", "0,255")),
        (dataset(photos(60, 32, 32, 1)), ("conv", "discretized_logistic", "0,255")),
        (dataset(photos(60, 15, 32, 1)), ("dense", "discretized_logistic", "0,255")),
        (dataset(photos(60, 30, 30, 3)), ("dense", "discretized_logistic", "0,255")),
        (dataset(photos(60, 32, 32, 3) / np.float32(255)), ("conv", "gaussian", "0,1")),
        (dataset(masks(60, 64, 64, 1)), ("conv", "bernoulli", "0,1")),
        (dataset(masks(60, 64, 64, 1) * 255), ("conv", "bernoulli", "0,255")),
        (dataset(masks(60, 8, 8, 1).astype(bool).astype("float32")), ("dense", "bernoulli", "0,1")),
        (dataset(RANDOM.integers(0, 16, (60, 28, 28, 1)).astype("uint8")), ("conv", "gaussian", "0,15")),
        (dataset(RANDOM.integers(0, 17, (60, 8, 8, 1)).astype("float32")), ("dense", "gaussian", "0,16")),
        (dataset(RANDOM.integers(0, 101, (60, 16, 16, 1)).astype("float32")), ("conv", "gaussian", "0,100")),
        (dataset(RANDOM.normal(size=(60, 16, 16, 1)).astype("float32")), ("conv", "gaussian", "")),
        (dataset(RANDOM.normal(size=(60, 9)).astype("float32")), ("dense", "gaussian", "")),
        (dataset(masks(60, 9).astype("float32")), ("dense", "bernoulli", "0,1")),
        (dataset(BATCH), ("dense", "gaussian", "")),
        (dataset(np.repeat(BATCH, 6, 2)), ("dense", "gaussian", "")),
        (dataset([[30, 0], [50, 1]] * 20, TABLE), ("dense", "mixed", "")),
    ],
)
def test_network_likelihood_and_range_follow_from_the_data(data, expected):
    chosen = kvae.default_settings(data)
    assert (chosen.model.network, chosen.model.likelihood, chosen.data.value_range) == expected


def test_given_settings_are_kept():
    given = {"network": "dense", "likelihood": "gaussian", "validation": 0, "batch_size": 7, "value_range": "0,300"}
    given |= {"latent_dim": 5, "encoder_hidden": (9,), "decoder_hidden": (), "encoder_filters": (4,), "sigma": "shared"}
    given |= {
        "prior": "vamp",
        "prior_components": 3,
        "fit_prior": False,
        "decoder_filters": (3, 2),
        "epochs": 40,
        "patience": 0,
        "warmup_epochs": 2.5,
    }
    chosen = kvae.default_settings(dataset(photos(60, 32, 32, 3)), **given)
    assert chosen == config.Config().replace(**given)


@pytest.mark.parametrize(
    ("shape", "filters"),
    [
        ((16, 16, 3), (64, 128)), ((32, 32, 3), (32, 64, 128)), ((48, 36, 3), (64, 128)),
        ((64, 96, 3), (16, 32, 64, 128)), ((32, 32, 1), (32, 64)),
    ],
)  # fmt: skip
def test_layers_of_rgb_images_follow_from_their_size(shape, filters):
    chosen = kvae.default_settings(dataset(photos(60, *shape))).model
    assert (chosen.encoder_filters, chosen.decoder_filters) == (filters, filters[::-1])
    gray = shape[-1] == 1
    assert (chosen.encoder_hidden, chosen.decoder_hidden) == (((512, 256), (256, 512)) if gray else ((), ()))
    assert (chosen.latent_dim, chosen.sigma) == ((16, "element") if gray else (128, "optimal"))
    plain = kvae.default_settings(dataset(photos(60, *shape)), config.Config()).model
    assert (plain.encoder_filters, plain.latent_dim, plain.sigma) == ((32, 64), 16, "element")


@pytest.mark.parametrize(
    ("data", "least_steps"),
    [(photos(300, 16, 16, 3), 3000), (BATCH, 3000), (photos(300, 16, 16, 1), 0)],
)
def test_rgb_images_and_sequences_train_for_3000_steps_and_stop_early(data, least_steps):
    chosen = kvae.default_settings(dataset(data))
    steps = (len(data) - chosen.data.validation) // chosen.training.batch_size
    assert chosen.training.epochs == max(30, -(-least_steps // steps))
    assert chosen.training.patience == (30 if least_steps else 0)
    assert kvae.default_settings(dataset(data), validation=0).training.patience == 0
    assert kvae.default_settings(dataset(data), epochs=7).training.epochs == 7


def test_conditional_sequences_have_a_prior_and_a_standard_deviation_per_class():
    data = dataset(BATCH, label=np.arange(60) % 4)
    given, plain = kvae.default_settings(data, conditional=True), kvae.default_settings(data).model
    chosen = given.model
    assert (chosen.prior, chosen.fit_prior, chosen.sigma) == ("conditional_gaussian", True, "element")
    assert (plain.prior, plain.fit_prior, plain.sigma) == ("standard_normal", False, "optimal")
    # Validation examples are few, and samples become better after their best elbo.
    assert given.training.patience == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"condition_embedding": 2},
        {"prior_hidden": (4,)},
        {"prior": "standard_normal"},
        {"condition_columns": ("a", "b")},
    ],
)
def test_prior_of_sequences_is_fitted_for_one_class_condition_only(changes):
    data = dataset(BATCH, label=np.arange(60) % 4)
    data = data._replace(conditions={**data.conditions, "a": np.arange(60) % 2, "b": np.arange(60) % 3})
    given = {"conditional": True} if "condition_columns" not in changes else {}
    assert not kvae.default_settings(data, **given, **changes).model.fit_prior


def test_rgb_images_without_conditions_have_a_fitted_mixture_prior():
    data = dataset(photos(200, 16, 16, 3), label=np.arange(200) % 4)
    chosen = kvae.default_settings(data).model
    assert (chosen.prior, chosen.fit_prior, chosen.prior_components) == ("gaussian_mixture", True, 10)
    for changes in ({"conditional": True}, {"prior": "standard_normal"}, {"objective": "free_bits"}):
        chosen = kvae.default_settings(data, **changes).model
        assert (chosen.prior, chosen.fit_prior) == ("standard_normal", False)


def test_only_the_elbo_of_rgb_images_warms_up():
    rgb, gray = dataset(photos(60, 16, 16, 3)), dataset(photos(60, 16, 16, 1))
    assert kvae.default_settings(rgb, epochs=50).objective.warmup_epochs == 5
    chosen = kvae.default_settings(rgb)
    assert chosen.objective.warmup_epochs == 0.1 * chosen.training.epochs
    assert kvae.default_settings(rgb, objective="free_bits").objective.warmup_epochs == 0
    assert kvae.default_settings(gray, epochs=50).objective.warmup_epochs == 0


@pytest.mark.parametrize(("num", "validation", "batch_size"), [(3000, 300, 128), (1500, 150, 64), (30, 3, 1)])
def test_small_data_get_20_steps_per_epoch(num, validation, batch_size):
    chosen = kvae.default_settings(dataset(np.arange(2.0 * num).reshape(num, 2)))
    assert (chosen.data.validation, chosen.training.batch_size) == (validation, batch_size)
    assert (num - validation) // batch_size >= 20


@pytest.mark.parametrize("x", [photos(20, 8, 8, 1) // 5, np.float32(99.5) * RANDOM.random((20, 8, 8, 1))])
def test_scale_with_two_readings_is_refused(x):
    x.flat[0] = 51 if x.dtype == np.uint8 else 99.5
    with pytest.raises(InputDataError, match=r"Set --value-range to 0,(51|100) or 0,255"):
        kvae.default_settings(dataset(x))
    assert kvae.default_settings(dataset(x), value_range="0,100").data.value_range == "0,100"


def test_constant_images_and_values_outside_the_given_range_are_refused():
    with pytest.raises(InputDataError, match="every value of x is 0"):
        kvae.default_settings(dataset(np.zeros((20, 28, 28, 1), "uint8")))
    with pytest.raises(InputDataError, match=r"outside --value-range 0,100"):
        kvae.default_settings(dataset(photos(20, 8, 8, 1)), value_range="0,100")


@pytest.mark.parametrize("x", [np.full((2, 8, 8, 1), 16.0), np.ones((2, 8, 8, 1), "uint8"), np.full((2, 8, 8, 1), 0.5)])
def test_fit_refuses_data_on_a_smaller_scale_than_the_model(x):
    with pytest.raises(ValueError, match="multiply x, or build the model with DataSpec"):
        kvae.DataSpec((8, 8, 1)).check(x, "fit")
    kvae.DataSpec((8, 8, 1)).check(np.full((2, 8, 8, 1), 16, "uint8"), "fit")  # dark


def test_description_names_data_and_choices():
    data = dataset(photos(1500, 32, 32, 3), label=np.arange(1500) % 4)
    wanted = config.Config()
    (line,) = defaults.describe(data, kvae.default_settings(data), wanted)
    assert line.startswith(
        "1,500 RGB images 32 x 32 in 4 classes; network conv, likelihood discretized_logistic (--likelihood to change)"
    )


def test_description_of_a_table_has_a_line_per_column(tmp_path):
    rows = "".join(f"{i},{i % 3},{i * 0.5},{'x' if i % 2 else 'y'}\n" for i in range(100))
    (tmp_path / "t.csv").write_text("id,kind,size,letter\n" + rows)
    done = CliRunner().invoke(command, ["--data", str(tmp_path / "t.csv"), "--dry-run"])
    assert done.exit_code == 0, done.output
    note, first, *columns = done.output.splitlines()
    assert note.startswith("Column id is left out of the model: it has 100 different integers")
    assert first.startswith("100 rows of 3 columns; network dense, likelihood mixed")
    assert columns == [
        "  kind: integer from 0 to 2; only 3 different values: classes? See --categorical-columns",
        "  size: number with 1 decimal from 0.0 to 49.5",
        "  letter: category, 2 classes (x, y)",
    ]


def test_conditions_that_the_model_ignores_are_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.random.default_rng(0).random((60, 5)), label=np.arange(60) % 4 + 0.5, slant=np.arange(60) / 2)
    done = CliRunner().invoke(command, ["--data", str(path), "--dry-run"])
    advice = "To use it as a number, name its array: --key amount=ARRAY --condition-columns amount."
    label, others, _ = done.output.splitlines()
    assert label == f"The model ignores label: it contains 0.5, and classes are texts or whole numbers. {advice}"
    assert others == "The model ignores slant, see --condition-columns."
    done = CliRunner().invoke(command, ["--data", str(path), "--dry-run", "--conditional"])
    assert isinstance(done.exception, InputDataError)
    assert "does not have classes in label: it contains 0.5, and" in str(done.exception)
    number = ["--key", "amount=label", "--condition-columns", "amount"]
    done = CliRunner().invoke(command, ["--data", str(path), "--dry-run", *number])
    assert done.exit_code == 0
    assert "ignores" not in done.output


TABLE_COLUMNS = ({"name": "a", "kind": "numeric"}, {"name": "b", "kind": "numeric"})


def table(num):
    return dataset(RANDOM.random((num, 2), "float32"), TABLE_COLUMNS)


def test_table_without_a_preset_gets_the_settings_of_tabular():
    data = table(2000)
    assert kvae.default_settings(data) == kvae.default_settings(data, kvae.presets.get("tabular").config)
    given = kvae.default_settings(data, epochs=30, prior="standard_normal", validation=0)
    assert (given.training.epochs, given.model.prior, given.training.patience) == (30, "standard_normal", 0)
    assert not given.model.fit_prior
    assert given.model.latent_dim == 8
    assert kvae.default_settings(data, config.Config()).model.prior == "standard_normal"


@pytest.mark.parametrize(("num", "epochs", "batch_size"), [(100, 400, 4), (36_000, 94, 256), (10**6, 20, 256)])
def test_epochs_of_a_table_follow_from_its_rows(num, epochs, batch_size):
    chosen = kvae.default_settings(table(num))
    assert (chosen.training.epochs, chosen.training.batch_size) == (epochs, batch_size)
    assert kvae.default_settings(dataset(photos(60, 32, 32, 1)), epochs="auto").training.epochs == 30


def test_prior_of_a_small_table_has_fewer_components():
    assert kvae.default_settings(table(40)).model.prior_components == 10


@pytest.mark.parametrize(
    "data", [table(7), dataset(RANDOM.random((7, 12, 2), "float32")), dataset(photos(7, 32, 32, 3))]
)
def test_fewer_than_10_examples_train_without_validation(data):
    chosen = kvae.default_settings(data)
    assert (chosen.data.validation, chosen.training.patience) == (0, 0)
    assert kvae.default_settings(data, validation=1).training.patience > 0
    with pytest.raises(RequestError, match="patience needs validation data"):
        kvae.default_settings(data, validation=0, patience=3)


def test_data_without_the_option_is_refused_with_it():
    done = CliRunner().invoke(command, ["wine.npz", "-o", "run"])
    assert "Did you mean --data wine.npz?" in str(done.exception)


def test_dry_run_opens_no_training_framework():
    code = (
        "import sys; from kvae.__main__ import run\n"
        "assert run(['train', '--data', 'mnist-sample', '--dry-run']) == 0\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("600 gray images 28 x 28 in 10 classes; network conv, likelihood bernoulli")


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (dataset(photos(60, 30, 32, 3)), {"network": "conv"}, r"divisible by 4, got \(30, 32, 3\)"),
        (dataset(photos(60, 30)), {"network": "residual"}, "residual needs images"),
        (dataset(photos(60, 32, 32, 3)), {"likelihood": "mixed"}, "is not a table"),
        (dataset(RANDOM.normal(size=(60, 2)), TABLE), {"likelihood": "gaussian"}, "is a table"),
        (dataset(RANDOM.normal(size=(60, 2)), TABLE), {"network": "conv"}, "A table needs dense networks"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_before_training(data, settings, words):
    with pytest.raises(ValueError, match=words):
        kvae.default_settings(data, **settings)


def test_description_names_ignored_classes_and_the_other_reading():
    settings = config.Config().replace(network="dense")
    walks = RANDOM.normal(size=(60, 30)).cumsum(axis=1)
    classes, gray, series, noise = (
        defaults.describe(data, kvae.default_settings(data, settings), settings)[-1]
        for data in (
            dataset(photos(60, 32, 32, 3), label=np.arange(60) % 4),
            dataset(abs(BATCH.reshape(60, 4, 6, 1)) / 9),
            dataset(walks),
            dataset(np.diff(walks)),
        )
    )
    assert "the model ignores the classes, see --conditional" in classes
    assert "if these are sequences, add --axes steps-first" in gray
    assert "if these are sequences, add --axes steps-first" in series
    assert "--axes" not in noise


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("auto", (60, 1, 24), (60, 24, 1)),
        ("auto", (60, 4, 6), (60, 4, 6, 1)),
        ("image", (60, 2, 12), (60, 2, 12, 1)),
        ("steps-first", (60, 4, 6), (60, 4, 6)),
        ("steps-first", (60, 24), (60, 24, 1)),
        ("features-first", (60, 4, 6), (60, 6, 4)),
        ("auto", (60, 24), (60, 24)),
    ],
)
def test_axes_decide_how_arrays_are_read(axes, shape, expected, tmp_path, monkeypatch):
    x = abs(BATCH.reshape(shape)) / 9
    np.save(tmp_path / "x.npy", x)
    settings = config.Config().replace(data=str(tmp_path / "x.npy"), axes=axes)
    data = run_data.read(settings)
    assert data.x.shape == expected
    swapped = axes == "features-first" or shape[1] == 1
    np.testing.assert_array_equal(data.x, (np.swapaxes(x, 1, 2) if swapped else x).reshape(expected))
    assert run_data.read(kvae.default_settings(data, settings)).x.shape == expected
    monkeypatch.setattr("kvae.data.sources.IN_MEMORY", 100)
    np.testing.assert_array_equal(run_data.read(settings).x[:], data.x)


def test_axes_that_do_not_fit_are_refused(tmp_path):
    shapes = {"features-first": (6, 4, 4), "image": (6, 16), "steps-first": (6, 4, 4, 3), "auto": (6, 2, 9)}
    for axes, shape in shapes.items():
        np.save(tmp_path / "x.npy", RANDOM.normal(size=shape))
        with pytest.raises(InputDataError, match="--axes"):
            run_data.read(config.Config().replace(data=str(tmp_path / "x.npy"), axes=axes))


def test_sequences_in_a_file_are_read_as_sequences(tmp_path):
    np.save(tmp_path / "series.npy", BATCH[..., 0])
    wanted = config.Config().replace(data=str(tmp_path / "series.npy"))
    data = run_data.read(wanted)
    chosen = defaults.default_settings(data, wanted)
    assert data.x.shape == (60, 24, 1)
    assert run_data.read(chosen).x.shape == (60, 24, 1)


@pytest.mark.parametrize("shape", [(60, 24, 2), (60, 1, 24)])
def test_chosen_settings_read_sequences_as_before(shape, tmp_path):
    np.save(tmp_path / "x.npy", RANDOM.normal(size=shape))
    wanted = config.Config().replace(data=str(tmp_path / "x.npy"))
    data = run_data.read(wanted)
    chosen = defaults.default_settings(data, wanted)
    assert chosen.model.network == "dense"
    np.testing.assert_array_equal(run_data.read(chosen).x, data.x)


def test_tabular_preset_accepts_178_rows():
    data = dataset(np.stack([RANDOM.normal(size=178), np.arange(178) % 2], 1), TABLE)
    assert kvae.default_settings(data, kvae.presets.get("tabular").config).data.validation == 17


def test_config_accepts_the_text_auto_and_stores_numbers(tmp_path):
    (tmp_path / "c.toml").write_text('[training]\nbatch_size = "auto"\n[data]\nvalidation = "auto"\n')
    assert config.read(tmp_path / "c.toml") == config.Config().replace(batch_size="auto", validation="auto")
    chosen = kvae.default_settings(kvae.data.load("mnist-sample"))
    (tmp_path / "chosen.toml").write_text(chosen.to_toml())
    assert config.read(tmp_path / "chosen.toml") == chosen
    assert "auto" not in chosen.to_toml().replace('axes = "auto"', "")  # Images do not need axes.

"""`kvae train` and `kvae.train`: the run folder, reproducibility, and rejected input."""

import csv
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import kvae
from kvae.commands.train import train as train_command
from kvae.data import sources
from kvae.dataloaders import batches
from kvae.exporting import pictures
from kvae.training import config, factory, loop, saved_run
from kvae.training import train as training
from kvae_serve.errors import InputDataError, OutputError, RequestError, VerificationError
from support.pictures import places, text_places
from support.runs import settings, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "conditional"
    return train(directory, conditional=True, epochs=3, warmup_epochs=1.0)


def test_run_folder_contains_everything_needed_to_export(run):
    assert sorted(path.name for path in run.directory.iterdir()) == [
        "checkpoints", "config.toml", "history.csv", "model.keras", "reconstructions.png", "run.json", "samples.png",
    ]  # fmt: skip
    with (run.directory / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    assert float(rows[-1]["val_elbo"]) > float(rows[0]["val_elbo"]) > -36 * 784
    training = json.loads((run.directory / "run.json").read_text())["training"]
    assert training["dataset"] == "mnist-sample"
    assert training["examples"] == 500
    assert training["epochs"] == 3
    assert training["validation"]["elbo"] == pytest.approx(float(rows[-1]["val_elbo"]), abs=1e-3)


@pytest.mark.long
def test_weights_from_another_run_are_the_initial_weights(run, tmp_path):
    same = {"conditional": True, "weights_from": str(run.directory), "learning_rate_schedule": "constant"}
    after = train(tmp_path / "after", **same, epochs=1, learning_rate=1e-12)
    for ours, theirs in zip(run.model.get_weights(), after.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
    with pytest.raises(InputDataError, match="has a different network"):
        train(tmp_path / "other", **same, latent_dim=5)
    assert not (tmp_path / "other").exists()


def test_pictures_are_captioned_images_of_digits(run):
    from PIL import Image

    with Image.open(run.directory / "samples.png") as image:
        samples = np.asarray(image)
    assert min(samples.shape) > 10 * 56  # ten labels with ten images
    assert text_places(samples, "label", ink=110)
    with Image.open(run.directory / "reconstructions.png") as image:
        pairs = np.asarray(image)
    sample = sources.load("mnist-sample")
    _, validation = batches.hold_out(600, 100, 0)
    original = sample.x[validation[0], :, :, 0].repeat(2, axis=0).repeat(2, axis=1)
    ((y, x),) = places(pairs, original)
    assert max(y, x) < 112
    assert len(text_places(pairs, "reconstruction", ink=110)) == 2


def test_samples_of_epochs_are_the_same_draws_and_continue_after_resume(tmp_path):
    folder = train(tmp_path / "run", epochs=3, sample_every=2, conditional=True).directory
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["epoch-0002.png"]
    kept = (folder / "samples" / "epoch-0002.png").read_bytes()
    resumed = training.resume(folder, epochs=4, quiet=True)
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["epoch-0002.png", "epoch-0004.png"]
    assert (folder / "samples" / "epoch-0002.png").read_bytes() == kept
    last = (folder / "samples" / "epoch-0004.png").read_bytes()
    assert last == pictures.samples(resumed.model, ("epoch 4",)) != kept


def test_run_without_sample_every_has_no_samples_of_epochs(run):
    assert not (run.directory / "samples").exists()


@pytest.mark.long
def test_config_of_a_run_reproduces_its_weights(run, tmp_path):
    again = kvae.train(run.directory / "config.toml", tmp_path / "again", quiet=True, export_check=False)
    for ours, theirs in zip(run.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_saved_run_is_rebuilt_in_code_with_its_weights(run):
    model, metadata = saved_run.load(run.directory)
    assert type(model) is type(run.model)
    (condition,) = metadata["conditions"]
    assert sum(condition.pop("shares")) == pytest.approx(1)
    assert condition == {"name": "label", "kind": "categorical", "classes": list("0123456789")}
    for ours, theirs in zip(run.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["model.keras", "config.toml", "run.json"])
def test_folder_without_a_file_of_a_run_is_refused(name, run, tmp_path):
    shutil.copytree(run.directory, tmp_path, dirs_exist_ok=True, ignore=lambda *_: {name, "checkpoints"})
    with pytest.raises(InputDataError, match=f"is not a run: {name} is missing"):
        saved_run.load(tmp_path)


def test_truncated_model_file_is_one_line(run, tmp_path):
    shutil.copytree(run.directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:2000])
    with pytest.raises(InputDataError, match="cannot rebuild the model") as error:
        saved_run.load(tmp_path)
    assert "\n" not in str(error.value)


def test_nan_loss_is_exit_code_6_and_saves_no_model(tmp_path):
    with pytest.raises(VerificationError, match="loss became") as error:
        train(tmp_path / "nan", learning_rate=1e30, learning_rate_schedule="constant")
    assert error.value.exit_code == 6
    assert not (tmp_path / "nan" / "model.keras").exists()


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_saves_the_model_and_ends_the_command(tmp_path, number, code):
    small = ["--validation", "100", "--latent-dim", "2", "--encoder-hidden", "16", "--decoder-hidden", "16"]
    command = [sys.executable, "-m", "kvae", "train", "--data", "mnist-sample", *small, "--epochs", "100000", "-o"]
    process = subprocess.Popen([*command, str(tmp_path / "run")], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "epoch" in line and "elbo" in line:
            process.send_signal(number)
            break
    rest = process.stderr.read()
    assert process.wait(60) == code
    assert "Traceback" not in rest
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert "kvae train --resume" in rest
    model, metadata = saved_run.load(tmp_path / "run")
    assert 0 < metadata["training"]["epochs"] < 100000
    assert sum(np.abs(weight).sum() for weight in model.get_weights()) > 0


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("constant", 1e-3, 1e-3), ("cosine", 5.05e-4, 1e-5), ("exponential", 1e-4, 1e-5)]
)
def test_learning_rate_schedule_ends_at_the_final_rate(schedule, middle, end):
    optimizer = factory.optimizer(settings(epochs=10, learning_rate_schedule=schedule), steps_per_epoch=10)
    rates = []
    for step in (0, 50, 100):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(rates, [1e-3, middle, end], rtol=1e-3)


def test_existing_folder_is_kept_unless_forced(run, tmp_path):
    before = {path: path.read_bytes() for path in run.directory.rglob("*.*")}
    with pytest.raises(OutputError, match="--force"):
        train(run.directory)
    assert before == {path: path.read_bytes() for path in run.directory.rglob("*.*")}
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"contains thesis\.tex, which is not part of a run"):
        kvae.train(settings(), tmp_path, force=True)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": ""}, RequestError, "Set --data to a file"),
        ({"data": "nowhere"}, InputDataError, "nowhere does not exist"),
        ({"validation": 600}, InputDataError, "600 examples, so 600 cannot be held out"),
    ],
)
def test_missing_data_leave_nothing_behind(changes, error, words, tmp_path):
    with pytest.raises(error, match=words):
        train(tmp_path / "run", **changes)
    assert list(tmp_path.iterdir()) == []


def test_python_call_without_a_folder_is_refused():
    with pytest.raises(RequestError, match="No folder for the run"):
        kvae.train(data="mnist-sample")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.full((20, 4, 4, 1), np.nan, "f4")}, "NaN|finite"),
        ({"x": np.full((20, 4, 4, 1), 300.0, "f4"), "label": np.arange(20) % 2}, "300"),
        ({"x": np.zeros((0, 4, 4, 1), "uint8")}, "any examples|empty|zero"),
        ({"x": np.zeros((20, 4, 4, 1), "uint8"), "label": np.zeros(19, "int64")}, "19"),
        ({"x": np.zeros((20, 4, 4, 1), "uint8")}, "labels"),
    ],
)
def test_invalid_arrays_are_exit_code_4(arrays, words, tmp_path):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputDataError, match=words):
        train(tmp_path / "run", data=str(tmp_path / "data.npz"), conditional=True, validation=5)
    assert not (tmp_path / "run").exists()


def test_data_that_the_likelihood_does_not_model_are_refused_before_the_first_step(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((60, 4, 4, 1), "float32"))
    with pytest.raises(InputDataError):
        train(tmp_path / "run", data=str(tmp_path / "data.npz"), validation=10, likelihood="discretized_logistic")
    assert not (tmp_path / "run").exists()


def test_command_prints_the_next_command(tmp_path):
    flags = ["--data", "mnist-sample", "--validation", "100", "--epochs", "1", "--encoder-hidden", "16"]
    result = CliRunner().invoke(train_command, [*flags, "--no-export-check", "--json", "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert result.stderr.rstrip().splitlines()[-1] == f"Next: kvae export {tmp_path / 'run'} -o run-onnx"
    assert "epoch 1/1  elbo -" in result.stderr
    assert json.loads(result.stdout)["examples"] == 500
    assert config.read(tmp_path / "run" / "config.toml").model.encoder_hidden == (16,)


@pytest.mark.parametrize("widths", ["512;256", "a", "-3", "0,5"])
def test_widths_must_be_positive_integers(widths, tmp_path):
    result = CliRunner().invoke(train_command, ["--encoder-hidden", widths, "-o", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert "list of layer widths" in result.output


def test_prior_is_fitted_to_the_posteriors_at_the_end(tmp_path, capsys):
    same = {"prior": "gaussian_mixture", "prior_components": 5, "epochs": 1, "quiet": False}
    before, after = (train(tmp_path / str(fit), fit_prior=fit, **same) for fit in (False, True))
    np.testing.assert_array_equal(before.model.encoder.get_weights()[0], after.model.encoder.get_weights()[0])
    results = [run.metadata["training"]["validation"] for run in (before, after)]
    change = "from {:.2f} to {:.2f} nats".format(*(each["elbo"] for each in results))
    assert (
        capsys.readouterr().err.count(
            f"The prior was fitted to the codes of the training data: validation elbo {change}."
        )
        == 1
    )
    assert results[1]["kl"] < results[0]["kl"]
    assert results[1]["reconstruction"] == pytest.approx(results[0]["reconstruction"], rel=0.02)


def test_prior_per_class_is_fitted_to_the_posteriors_of_its_class(tmp_path):
    run = train(tmp_path / "run", prior="conditional_gaussian", conditional=True, fit_prior=True, epochs=1)
    data = kvae.data.load("mnist-sample")
    validation = config.read(tmp_path / "run" / "config.toml").data.validation
    rows, _ = batches.hold_out(len(data.x), validation, 0)
    x, label = data.x[rows], data.conditions["label"][rows]
    z_mean, z_log_var = (np.asarray(each) for each in run.model.encode(x, label))
    vectors = run.model.condition_vector({"label": np.arange(10)})
    mean, log_var, _ = run.model.prior.components((vectors,), None)
    for digit in (0, 7):
        # The law of total variance.
        of_digit = label == digit
        variance = z_mean[of_digit].var(axis=0) + np.exp(z_log_var[of_digit]).mean(axis=0)
        np.testing.assert_allclose(np.asarray(mean)[digit, 0], z_mean[of_digit].mean(axis=0), atol=0.1)
        np.testing.assert_allclose(np.exp(np.asarray(log_var)[digit, 0]), variance, rtol=0.15)


@pytest.mark.parametrize(
    "changes",
    [{"condition_embedding": 3}, {"prior_hidden": (4,)}, {"prior": "standard_normal"}],
)
def test_prior_that_cannot_be_fitted_is_refused_before_training(changes, tmp_path):
    settings = {"prior": "conditional_gaussian", "conditional": True, "fit_prior": True, **changes}
    with pytest.raises(RequestError, match="fit_prior"):
        train(tmp_path / "run", epochs=1, **settings)


def test_lower_validation_elbo_than_before_is_stated():
    rows = [{"val_elbo": elbo} for elbo in (-120.0, -100.0, -104.9)]
    assert loop.overfitting(rows) == ""
    assert loop.overfitting([{"elbo": -5.0}, {"elbo": -9.0}]) == ""
    note = loop.overfitting([*rows, {"val_elbo": -105.5}])
    assert note.startswith("The validation elbo was best after epoch 2 (-100.00 nats) and is -105.50 now.")


def test_training_on_few_examples_warns_of_overfitting(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    settings = {"data": str(tmp_path / "x.npy"), "epochs": 40, "validation": 8, "sigma": "element", "quiet": False}
    settings |= {"learning_rate": 0.005, "learning_rate_schedule": "constant"}
    assert kvae.train(directory=tmp_path / "run", export_check=False, **settings).metadata["finished"]
    assert "train with --patience 30 (in Python: patience=30)" in capsys.readouterr().err

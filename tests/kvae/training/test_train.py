"""`kvae train`: the run it writes, the order of the data, Ctrl-C, NaN, and every bad input with its line."""

import csv
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from kvae.commands.train import train as train_command
from kvae.data import sources
from kvae.dataloaders import batches as pipeline
from kvae.training import callbacks, config, factory, saved_run
from kvae.training import train as training
from kvae_serve.errors import InputDataError, OutputError, RequestError, VerificationError

SMALL = {
    "data": "mnist-sample", "validation": 100, "epochs": 2, "latent_dim": 4, "batch_size": 50,
    "encoder_hidden": (32,), "decoder_hidden": (32,),
}  # fmt: skip


def settings(**changes):
    return config.Config().replace(**{**SMALL, **changes})


def train(config, directory, **arguments):
    """As `training.train`, without the seconds of the export check, which tests/test_kvae_resume.py sees to."""
    return training.train(config, directory, quiet=True, export_check=False, **arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "conditional"
    return train(settings(conditional=True, epochs=3, warmup_epochs=1.0), directory)


def test_a_run_holds_all_that_the_issue_of_it_needs(run):
    assert sorted(path.name for path in run.directory.iterdir()) == [
        "checkpoints", "config.toml", "history.csv", "model.keras", "reconstructions.png", "run.json", "samples.png",
    ]  # fmt: skip
    with (run.directory / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    assert float(rows[-1]["val_elbo"]) > float(rows[0]["val_elbo"]) > -36 * 784
    facts = json.loads((run.directory / "run.json").read_text())["training"]
    assert facts["dataset"] == "mnist-sample"
    assert facts["examples"] == 500
    assert facts["epochs"] == 3
    assert facts["validation"]["elbo"] == pytest.approx(float(rows[-1]["val_elbo"]), abs=1e-3)


def test_weights_from_starts_where_another_run_ended(run, tmp_path):
    same = {"conditional": True, "weights_from": str(run.directory), "learning_rate_schedule": "constant"}
    after = train(settings(**same, epochs=1, learning_rate=1e-12), tmp_path / "after")
    for ours, theirs in zip(run.model.get_weights(), after.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
    with pytest.raises(InputDataError, match="different network"):
        train(settings(**same, latent_dim=5), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_pictures_are_png_of_digits(run):
    from PIL import Image

    with Image.open(run.directory / "samples.png") as samples:
        assert samples.size == (10 * 30 - 2, 10 * 30 - 2)  # ten labels of ten images, two pixels between
    with Image.open(run.directory / "reconstructions.png") as pairs:
        assert pairs.size == (298, 4 * 30 - 2)
        originals = np.asarray(pairs)[:28, :28]
    sample = sources.load("mnist-sample")
    _, held_out = pipeline.hold_out(600, 100, 0)
    np.testing.assert_array_equal(originals.reshape(28, 28), sample.x[held_out[0], :, :, 0])


def test_a_runs_config_does_it_again_to_the_same_weights(run, tmp_path):
    again = train(config.read(run.directory / "config.toml"), tmp_path / "again")
    for ours, theirs in zip(run.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_is_rebuilt_in_code_with_its_weights(run):
    model, facts = saved_run.load(run.directory)
    assert type(model) is type(run.model)
    assert facts["conditions"] == [{"name": "label", "kind": "categorical", "classes": list("0123456789")}]
    for ours, theirs in zip(run.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["model.keras", "config.toml", "run.json"])
def test_a_folder_that_is_no_run_is_refused(name, run, tmp_path):
    shutil.copytree(run.directory, tmp_path, dirs_exist_ok=True, ignore=lambda *_: {name, "checkpoints"})
    with pytest.raises(InputDataError, match=f"{name} is missing"):
        saved_run.load(tmp_path)


def test_a_damaged_model_file_is_one_line(run, tmp_path):
    shutil.copytree(run.directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:2000])
    with pytest.raises(InputDataError, match="cannot rebuild the model") as error:
        saved_run.load(tmp_path)
    assert "\n" not in str(error.value)


def test_the_order_is_a_function_of_seed_and_epoch():
    x = np.arange(100, dtype="uint8")[:, None]

    def epoch(seed, number):
        batches = pipeline.training_batches(x, None, 10, seed)
        batches.callback.on_epoch_begin(number)
        return np.concatenate([batch[0].numpy().ravel() for batch in batches.dataset])

    first = epoch(0, 0)
    assert sorted(first) == list(range(100))
    np.testing.assert_array_equal(first, epoch(0, 0))
    assert (first != epoch(0, 1)).any()
    assert (first != epoch(1, 0)).any()


def test_the_last_batch_of_an_epoch_is_full():
    batches = pipeline.training_batches(np.zeros((25, 1), "uint8"), np.arange(25), 10, 0)
    assert batches.steps == len(batches.dataset) == 2
    assert [len(label) for _, label in batches.dataset] == [10, 10]


def test_held_out_examples_are_seeded_and_apart():
    train, validation = pipeline.hold_out(100, 10, seed=3)
    assert len(validation) == 10
    assert sorted([*train, *validation]) == list(range(100))
    np.testing.assert_array_equal(validation, pipeline.hold_out(100, 10, seed=3)[1])
    assert (validation != pipeline.hold_out(100, 10, seed=4)[1]).any()


def test_validation_0_trains_on_all(tmp_path):
    run = train(settings(validation=0, epochs=1), tmp_path / "all")
    assert run.metadata["training"]["examples"] == 600
    assert run.metadata["training"]["validation"] is None


def test_a_nan_loss_ends_the_run_with_exit_code_6_and_keeps_no_model(tmp_path):
    with pytest.raises(VerificationError, match="loss became"):
        train(settings(learning_rate=1e30, learning_rate_schedule="constant"), tmp_path / "nan")
    assert not (tmp_path / "nan" / "model.keras").exists()


def test_ctrl_c_keeps_what_was_learned(tmp_path):
    code = (
        "import sys; from kvae.commands.train import train\n"
        "train(['--data', 'mnist-sample', '--validation', '100', '--epochs', '100000', '--latent-dim', '2',"
        " '--encoder-hidden', '16', '--decoder-hidden', '16', '-o', sys.argv[1]])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "epoch" in line and "elbo" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Stopped early; what was learned is saved." in rest
    assert "Traceback" not in rest
    model, facts = saved_run.load(tmp_path / "run")
    assert 0 < facts["training"]["epochs"] < 100000
    assert sum(np.abs(weight).sum() for weight in model.get_weights()) > 0


def test_the_model_on_the_way_is_saved_whole(tmp_path, monkeypatch, run):
    keep = callbacks.SaveModel(tmp_path / "model.keras", lambda: run.model, seconds=0)
    keep.on_epoch_end(0)
    good = (tmp_path / "model.keras").read_bytes()

    def torn(path):
        path.write_bytes(good[:100])
        raise OSError("disk full")

    monkeypatch.setattr(type(run.model), "save", lambda self, path: torn(path))
    with pytest.raises(OutputError, match="disk full"):
        keep.save()
    assert (tmp_path / "model.keras").read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_a_model_that_is_no_longer_finite_takes_no_place(tmp_path, run):
    keep = callbacks.SaveModel(tmp_path / "model.keras", lambda: run.model, seconds=0)
    keep.save()
    good, weight = (tmp_path / "model.keras").read_bytes(), run.model.trainable_variables[0]
    before = np.array(weight)
    weight.assign(before * np.nan)
    with pytest.raises(VerificationError, match="infinite or NaN"):
        keep.save()
    weight.assign(before)
    assert (tmp_path / "model.keras").read_bytes() == good


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("constant", 1e-3, 1e-3), ("cosine", 5.05e-4, 1e-5), ("exponential", 1e-4, 1e-5)]
)
def test_learning_rate_schedules_end_where_they_should(schedule, middle, end):
    optimizer = factory.optimizer(settings(epochs=10, learning_rate_schedule=schedule), steps_per_epoch=10)
    rates = []
    for step in (0, 50, 100):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(rates, [1e-3, middle, end], rtol=1e-3)


def test_a_config_survives_its_file(tmp_path):
    wanted = settings(conditional=True, beta=2.0, initial_beta=4.0, warmup_epochs=1.5, network="conv")
    (tmp_path / "config.toml").write_text(wanted.to_toml())
    assert config.read(tmp_path / "config.toml") == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nlatent_dims = 3", "unknown key latent_dims in .model.; known: network, latent_dim"),
        ("[model]\nlatent_dim = 'three'", "latent_dim must be of type int, got 'three'"),
        ("[model]\nlatent_dim = true", "must be of type int"),
        ("[model]\nlatent_dim = 0", "latent_dim must be at least 1"),
        ("[model]\nnetwork = 'rnn'", "one of dense, conv"),
        ("[models]\n", "unknown section models"),
        ("[objective]\nbeta = nan", "beta must be at least 0 and finite"),
        ("[training]\nlearning_rate = -1", "learning_rate must be a positive number"),
        ("model = 3", "must be a table"),
        ("format = 2", "format 2"),
        ("not toml", "not a TOML file"),
    ],
)
def test_a_bad_config_is_refused_in_one_line_that_names_the_key(text, words, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(RequestError, match=words) as error:
        config.read(path)
    assert "\n" not in str(error.value)


def test_an_existing_run_is_kept_unless_forced(run, tmp_path):
    before = {path: path.read_bytes() for path in run.directory.rglob("*.*")}
    with pytest.raises(OutputError, match="--force"):
        train(settings(), run.directory)
    assert before == {path: path.read_bytes() for path in run.directory.rglob("*.*")}
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not part of a run"):
        train(settings(), tmp_path, force=True)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": ""}, RequestError, "--data"),
        ({"data": "nowhere"}, InputDataError, "nowhere does not exist"),
        ({"validation": 600}, InputDataError, "600 examples, so 600 cannot be held out"),
    ],
)
def test_bad_data_leave_nothing_behind(changes, error, words, tmp_path):
    with pytest.raises(error, match=words):
        train(settings(**changes), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.full((20, 4, 4, 1), np.nan, "f4")}, "NaN|finite"),
        ({"x": np.full((20, 4, 4, 1), 300.0, "f4"), "label": np.arange(20) % 2}, "300"),
        ({"x": np.zeros((0, 4, 4, 1), "uint8")}, "any examples|empty|zero"),
        ({"x": np.zeros((20, 4, 4, 1), "uint8"), "label": np.zeros(19, "int64")}, "19"),
        ({"x": np.zeros((20, 4, 4, 1), "uint8")}, "no labels"),
    ],
)
def test_bad_arrays_are_refused_with_exit_code_4(arrays, words, tmp_path):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputDataError, match=words):
        train(settings(data=str(tmp_path / "data.npz"), conditional=True, validation=5), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_ends_with_the_next_command(tmp_path):
    flags = ["--data", "mnist-sample", "--validation", "100", "--epochs", "1", "--encoder-hidden", "16"]
    result = CliRunner().invoke(train_command, [*flags, "--json", "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert result.stderr.rstrip().splitlines()[-1] == f"Next: kvae export {tmp_path / 'run'} -o run-onnx"
    assert "epoch 1/1  elbo -" in result.stderr
    assert json.loads(result.stdout)["examples"] == 500
    assert config.read(tmp_path / "run" / "config.toml").model.encoder_hidden == (16,)


@pytest.mark.parametrize("widths", ["512;256", "a", "-3", "0,5"])
def test_widths_are_whole_numbers(widths, tmp_path):
    result = CliRunner().invoke(train_command, ["--encoder-hidden", widths, "-o", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert "list of widths" in result.output

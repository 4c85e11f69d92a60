"""An interrupted and resumed run equals the uninterrupted one, bit for bit: weights, optimizer, metrics, history."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import kvae
from kvae import networks
from kvae.commands.train import train as train_command
from kvae.data import disk, sources
from kvae.training import callbacks, checkpoint, config, run_data, run_folder, saved_run
from kvae_serve.errors import InputDataError, OutputError, RequestError, VerificationError
from support.runs import SMALL, latest, settings, train


def resume(directory, **changes):
    return kvae.resume(directory, quiet=True, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of an uninterrupted run."""
    return train(tmp_path_factory.mktemp("whole") / "run").directory


def assert_same_run(one, other):
    """Compare the files of two runs byte by byte, and their models."""
    names = [path.name for path in checkpoint.Store(one / run_folder.CHECKPOINTS).paths()]
    assert names == [path.name for path in checkpoint.Store(other / run_folder.CHECKPOINTS).paths()]
    for name in (
        f"{run_folder.CHECKPOINTS}/{names[0]}",
        run_folder.HISTORY,
        run_folder.METADATA,
        run_folder.SAMPLES,
        run_folder.RECONSTRUCTIONS,
    ):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for ours, theirs in zip(saved_run.load(one)[0].variables, saved_run.load(other)[0].variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert [path.name for path in other.rglob(".*")] == []


def unfinished_copy(run, target):
    """Copy a run without its model, as if it was killed after its last checkpoint."""
    shutil.copytree(run, target)
    metadata = json.loads((run / run_folder.METADATA).read_text())
    (target / run_folder.METADATA).write_text(json.dumps({**metadata, "finished": False}))
    (target / run_folder.MODEL).unlink()
    return target


CHANGES = {
    "linear": {"beta_schedule": "linear", "warmup_epochs": 3.0, "conditional": True, "patience": 3},
    "cyclical": {
        "learning_rate_schedule": "exponential", "beta_schedule": "cyclical", "warmup_epochs": 1.5, "prior": "vamp"
    },
    "capacity": {
        "learning_rate_schedule": "constant", "objective": "capacity", "warmup_epochs": 3.0, "gamma": 5.0
    },
    "importance": {"objective": "importance_weighted", "num_samples": 3, "mixed_precision": True, "validation": 0},
    "patience": {"likelihood": "gaussian", "learning_rate": 0.01, "patience": 2, "epochs": 5},
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(value, id=name, marks=[] if name == "linear" else pytest.mark.long)
        for name, value in CHANGES.items()
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(changes, tmp_path, monkeypatch):
    save = callbacks.SaveModel.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == 2:  # A power cut at this moment would leave these files.
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        save(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SaveModel, "on_epoch_end", on_epoch_end)
        whole = train(tmp_path / "whole", **changes)
    assert not run_folder.open_existing(tmp_path / "cut", {})[1]["finished"]
    assert latest(tmp_path / "cut").state["epoch"] == 2
    assert_same_run(whole.directory, resume(tmp_path / "cut").directory)


@pytest.mark.long
def test_resumed_run_with_data_on_disk_equals_the_run_with_data_in_memory(whole, tmp_path, monkeypatch):
    def power_cut(self, epoch, logs=None):
        if epoch + 1 == 2:
            raise RuntimeError("power cut")

    np.save(tmp_path / "mnist-sample", sources.load("mnist-sample").x)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "IN_MEMORY", 1000)
        changes = {"data": str(tmp_path / "mnist-sample.npy")}
        assert isinstance(run_data.read(settings(**changes)).x, disk.OnDisk)
        patch.setattr(callbacks.SaveModel, "on_epoch_end", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(tmp_path / "run", **changes)
    resume(tmp_path / "run")
    assert (whole / run_folder.HISTORY).read_bytes() == (tmp_path / "run" / run_folder.HISTORY).read_bytes()
    np.testing.assert_equal(latest(whole).arrays, latest(tmp_path / "run").arrays)


def test_ctrl_c_saves_the_model_as_it_is_and_resume_continues_after_the_last_finished_epoch(
    whole, tmp_path, monkeypatch
):
    def interrupt(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 20:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopOnNaN, "on_train_batch_begin", interrupt)
        # Epochs take less than 20 seconds, so only the first is saved when it ends.
        stopped = train(tmp_path / "run", checkpoint_every=0)
    assert stopped.interrupted
    assert stopped.resumable == 2
    assert stopped.metadata["training"]["epochs"] == 2.4
    assert not stopped.metadata["finished"]
    assert latest(tmp_path / "run").state["epoch"] == 2
    assert len(latest(tmp_path / "run").state["history"]) == 2
    saved = saved_run.load(tmp_path / "run")[0].get_weights()
    for ours, theirs in zip(stopped.model.get_weights(), saved, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.long
def test_run_killed_before_its_first_checkpoint_starts_at_the_first_epoch(whole, tmp_path, capsys):
    run = unfinished_copy(whole, tmp_path / "run")
    shutil.rmtree(run / run_folder.CHECKPOINTS)
    (run / run_folder.HISTORY).unlink()
    kvae.resume(run)
    assert "Starting at the first epoch." in capsys.readouterr().err
    assert_same_run(whole, run)


def test_run_killed_after_its_last_epoch_is_finished_by_resume(whole, tmp_path):
    run = unfinished_copy(whole, tmp_path / "run")
    resume(run)
    assert_same_run(whole, run)


def test_corrupted_checkpoint_is_reported_and_the_one_before_used(whole, tmp_path, capsys):
    run = unfinished_copy(whole, tmp_path / "run")
    newest = checkpoint.Store(run / run_folder.CHECKPOINTS).paths()[0]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    resume(run)
    assert capsys.readouterr().err.count(f"{newest} is corrupted (its SHA-256 does not match its content)") == 1
    assert_same_run(whole, run)
    for path in checkpoint.Store(run / run_folder.CHECKPOINTS).paths():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputDataError, match="does not contain a valid checkpoint"):
        resume(run, epochs=9)


SLOW = """
import sys, time
from kvae.training import checkpoint
from kvae.commands.train import train

write = checkpoint.write

class SlowFile:
    def __init__(self, file):
        self.file = file

    def write(self, data):
        print("writing", flush=True)
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        time.sleep(0.008)
        self.file.write(data[len(data) // 2 :])
        print("written", flush=True)

checkpoint.write = lambda file, content: write(SlowFile(file), content)
train(sys.argv[1:])
"""


def kill_the_command(arguments, chance, in_write):
    """Start the command and kill it in the middle of writing a checkpoint, or at any time after the first one began.

    Returns:
        Whether it was killed in the middle of a write. The file has no name yet then, so the folder does not show it.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    target, started, written = chance.randint(1, 60), 0, 0
    for line in process.stdout:
        started += line == "writing\n"
        written += line == "written\n"
        if started >= (target if in_write else 1):
            time.sleep(chance.uniform(0.0, 0.008 if in_write else 1.0))
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    rest = process.communicate()[0].splitlines()
    return started + rest.count("writing") > written + rest.count("written")


@pytest.mark.parametrize(
    ("kills", "epochs", "seed", "least_in_writes"),
    [
        pytest.param(3, 12, 0, 1, marks=pytest.mark.long),
        pytest.param(20, 90, 1, 10, marks=pytest.mark.slow),
        pytest.param(20, 90, 2, 10, marks=pytest.mark.slow),
    ],
)
def test_run_killed_several_times_equals_the_uninterrupted_one(kills, epochs, seed, least_in_writes, tmp_path):
    chance, run, in_writes = random.Random(seed), tmp_path / "run", 0
    flags = [f"--{name.replace('_', '-')}={_flag(value)}" for name, value in {**SMALL, "epochs": epochs}.items()]
    arguments = [*flags, "--no-export-check", "-o", str(run)]
    for number in range(kills):
        in_writes += kill_the_command(arguments, chance, in_write=number % 3 != 1)
        arguments = ["--resume", str(run)]
    resume(run)
    assert_same_run(train(tmp_path / "whole", epochs=epochs).directory, run)
    with (run / run_folder.HISTORY).open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(epochs))
    assert in_writes >= least_in_writes


def _flag(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


@pytest.mark.long
def test_full_disk_is_exit_code_7_and_the_run_can_be_resumed(whole, tmp_path, monkeypatch):
    save = checkpoint.Store.save

    def full_at_epoch_3(self, epoch, content):
        if epoch == 3:
            raise OutputError("epoch-000003.checkpoint cannot be written: No space left on device.")
        save(self, epoch, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Store, "save", full_at_epoch_3)
        with pytest.raises(OutputError, match=r"No space left on device\. .* --resume") as error:
            train(tmp_path / "run")
    assert error.value.exit_code == 7
    resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


FULL = """
import resource, sys
from kvae.__main__ import main
from kvae.training import checkpoint

save = checkpoint.Store.save

def save_on_a_full_disk(self, epoch, content):
    if epoch == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    save(self, epoch, content)

checkpoint.Store.save = save_on_a_full_disk
sys.argv = ["kvae", "train", *sys.argv[1:]]
main()
"""


@pytest.mark.long
def test_file_size_limit_of_the_system_leaves_the_checkpoint_before(whole, tmp_path):
    flags = [f"--{name.replace('_', '-')}={_flag(value)}" for name, value in SMALL.items()]
    arguments = [*flags, "--no-export-check", "-q", "-o", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", FULL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "epoch-000003.checkpoint cannot be written: File too large. What was saved before is kept" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "run").rglob(".*")) == []
    assert latest(tmp_path / "run").state["epoch"] == 2
    resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.long
def test_clock_that_runs_backwards_does_not_change_the_run(whole, tmp_path, monkeypatch):
    now = [time.time() + 10**9]

    def earlier():
        now[0] -= 86_400
        return now[0]

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", earlier)
        train(tmp_path / "run")
    assert now[0] < time.time() + 10**9 - 86_400
    assert_same_run(whole, tmp_path / "run")


def test_nan_weights_are_not_saved_in_a_checkpoint(tmp_path, monkeypatch):
    def poison(self, epoch, logs=None):
        if epoch == 2:
            self.model.trainable_variables[0].assign(self.model.trainable_variables[0] * float("nan"))

    monkeypatch.setattr(callbacks.LatentUsage, "on_epoch_end", poison)
    with pytest.raises(VerificationError, match="weight became infinite or NaN") as error:
        train(tmp_path / "run")
    assert error.value.exit_code == 6
    last = latest(tmp_path / "run")
    assert last.state["epoch"] == 2
    assert checkpoint.is_finite(last.arrays)
    # No model was saved yet, so the weights of the last checkpoint are exported.
    for ours, array in zip(saved_run.load(tmp_path / "run")[0].variables, last.arrays.values(), strict=False):
        np.testing.assert_array_equal(ours.numpy(), array)


@pytest.mark.long
def test_run_with_more_epochs_equals_the_longer_run_at_a_constant_learning_rate(tmp_path):
    changes = {"learning_rate_schedule": "constant"}
    train(tmp_path / "run", epochs=2, **changes)
    resume(tmp_path / "run", epochs=4)
    assert_same_run(train(tmp_path / "whole", epochs=4, **changes).directory, tmp_path / "run")
    assert config.read(tmp_path / "run" / run_folder.CONFIG).training.epochs == 4


def test_fewer_epochs_than_trained_are_refused(whole):
    with pytest.raises(RequestError, match=r"already trained 4 epochs\. Set --epochs to at least that"):
        resume(whole, epochs=3)


def run_command(*arguments):
    return CliRunner().invoke(train_command, ["--resume", *map(str, arguments)])


def test_finished_run_is_left_unchanged(whole):
    before = {path: path.read_bytes() for path in whole.rglob("*.*")}
    result = run_command(whole)
    assert result.exit_code == 0
    assert str(whole) in result.stderr
    assert "--epochs" in result.stderr
    assert json.loads(run_command(whole, "--json", "-q").stdout)["finished"] is True
    assert before == {path: path.read_bytes() for path in whole.rglob("*.*")}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--latent-dim", "5"], "--latent-dim cannot change when a run is resumed"),
        (["--seed", "1"], "--seed cannot change"),
        (["-o", "other"], "--output"),
        (["--preset", "gated"], "--preset"),
    ],
)
def test_change_that_makes_a_different_run_is_refused(flags, words, whole):
    result = run_command(whole, *flags)
    assert isinstance(result.exception, RequestError)
    assert words in str(result.exception)


def test_changed_data_are_refused(whole, tmp_path):
    sample = sources.load("mnist-sample")
    sample.x[3, 3, 3] ^= 1
    np.savez(tmp_path / "changed.npz", x=sample.x, label=sample.conditions["label"])
    with pytest.raises(InputDataError, match=r"changed\.npz differs from the data of .* Set --data to the same data"):
        resume(whole, epochs=5, data=str(tmp_path / "changed.npz"))


def test_missing_data_name_the_option_that_sets_their_path(whole, tmp_path):
    run = unfinished_copy(whole, tmp_path / "run")
    run_folder.write(run, settings(data="digits/mnist.npz"))
    result = run_command(run)
    assert isinstance(result.exception, InputDataError)
    assert "was trained on --data digits/mnist.npz" in str(result.exception)
    assert "add --data with their path" in str(result.exception)


@pytest.mark.skipif(os.name != "posix", reason="flock")
def test_second_process_cannot_train_in_the_same_folder(tmp_path):
    with run_folder.lock(tmp_path), pytest.raises(OutputError, match="Another process"), run_folder.lock(tmp_path):
        pass


@pytest.mark.parametrize("name", ["config.toml", "run.json"])
def test_folder_without_a_valid_run_is_not_resumed(name, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run", ignore=lambda *_: {name})
    assert f"{name} is missing" in str(run_command(tmp_path / "run").exception)
    (tmp_path / "run" / name).write_text("{")
    assert isinstance(run_command(tmp_path / "run").exception, (InputDataError, RequestError))


def test_model_that_cannot_be_exported_is_refused_before_training(tmp_path, monkeypatch):
    encoder = networks.dense_encoder
    monkeypatch.setattr(
        networks, "dense_encoder", lambda *sizes, activation, **rest: encoder(*sizes, activation="gelu", **rest)
    )
    with pytest.raises(RequestError, match=r"Nothing was trained\. --no-export-check"):
        train(tmp_path / "run", export_check=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_export_check_does_not_change_the_training(whole, tmp_path):
    train(tmp_path / "run", export_check=True)
    assert_same_run(whole, tmp_path / "run")

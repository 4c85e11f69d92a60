"""A run that was cut off and resumed is the run that was not: weights, optimiser, figures, bit for bit."""

import csv
import errno
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

from kvae import networks
from kvae.commands.train import train as train_command
from kvae.data import disk, sources
from kvae.training import callbacks, checkpoint, config, run_data, run_folder, saved_run
from kvae.training import train as training
from kvae_serve.errors import InputDataError, OutputError, RequestError, VerificationError

SMALL = {
    "data": "mnist-sample", "validation": 100, "epochs": 4, "latent_dim": 3, "batch_size": 50, "steps_per_execution": 4,
    "encoder_hidden": (16,), "decoder_hidden": (16,), "checkpoint_every": 1,
}  # fmt: skip


def settings(**changes):
    return config.Config().replace(**{**SMALL, **changes})


def train(directory, **changes):
    return training.train(settings(**changes), directory, quiet=True, export_check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing cut off."""
    return train(tmp_path_factory.mktemp("whole") / "run").directory


def assert_same_run(one, other):
    """The files that hold all there is of a run, byte by byte, and the model that is exported."""
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
    assert leftovers(other) == []


def leftovers(directory):
    return [path.name for path in directory.rglob(".*")]


def cut(monkeypatch, epoch):
    """From here on a run ends with an error at the end of `epoch`, its checkpoint written."""

    def on_epoch_end(self, finished, logs=None):
        if finished + 1 == epoch:
            raise RuntimeError("power cut")

    monkeypatch.setattr(callbacks.SaveModel, "on_epoch_end", on_epoch_end)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate_schedule": "cosine", "beta_schedule": "linear", "warmup_epochs": 3.0, "conditional": True},
        {"learning_rate_schedule": "exponential", "beta_schedule": "cyclical", "warmup_epochs": 1.5, "prior": "vamp"},
        {"learning_rate_schedule": "constant", "objective": "capacity", "warmup_epochs": 3.0, "gamma": 5.0},
        {"objective": "importance_weighted", "num_samples": 3, "mixed_precision": True, "validation": 0},
        {"likelihood": "gaussian", "sigma": "optimal", "learning_rate": 0.01, "patience": 2, "epochs": 5},
    ],
    ids=["linear", "cyclical", "capacity", "importance", "patience"],
)
def test_a_resumed_run_is_the_uninterrupted_one(changes, tmp_path, monkeypatch):
    kept = callbacks.SaveModel.on_epoch_end

    def on_epoch_end(self, finished, logs=None):
        if finished + 1 == 2:  # What lies on the disk at this moment is all that a power cut would leave.
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        kept(self, finished, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SaveModel, "on_epoch_end", on_epoch_end)
        whole = train(tmp_path / "whole", **changes)
    assert not run_folder.open_existing(tmp_path / "cut", {})[1]["finished"]
    assert checkpoint.Store(tmp_path / "cut" / run_folder.CHECKPOINTS).paths()[0].name == "epoch-000002.checkpoint"
    resumed = training.resume(tmp_path / "cut", quiet=True)
    assert_same_run(whole.directory, resumed.directory)


def test_a_resumed_run_of_data_on_disk_is_the_run_of_the_same_data_in_memory(whole, tmp_path, monkeypatch):
    np.save(tmp_path / "mnist-sample", sources.load("mnist-sample").x)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "IN_MEMORY", 1000)
        changes = {"data": str(tmp_path / "mnist-sample.npy")}
        assert isinstance(run_data.read(settings(**changes)).x, disk.OnDisk)
        cut(patch, 2)
        with pytest.raises(RuntimeError, match="power cut"):
            train(tmp_path / "run", **changes)
    training.resume(tmp_path / "run", quiet=True)
    assert (whole / run_folder.HISTORY).read_bytes() == (tmp_path / "run" / run_folder.HISTORY).read_bytes()
    ours, theirs = (
        checkpoint.Store(run / run_folder.CHECKPOINTS).latest()[0].arrays for run in (whole, tmp_path / "run")
    )
    np.testing.assert_equal(ours, theirs)


def test_ctrl_c_within_an_epoch_keeps_what_was_learned_and_the_epoch_is_done_again(whole, tmp_path, monkeypatch):
    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 20:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopOnNaN, "on_train_batch_begin", on_train_batch_begin)
        stopped = train(tmp_path / "run")
    assert stopped.interrupted
    assert stopped.resumable == 2
    assert stopped.metadata["training"]["epochs"] == 2.4
    assert not stopped.metadata["finished"]
    learned = saved_run.load(tmp_path / "run")[0].get_weights()
    for ours, theirs in zip(stopped.model.get_weights(), learned, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    training.resume(tmp_path / "run", quiet=True)
    assert_same_run(whole, tmp_path / "run")


def test_a_run_cut_off_before_its_first_checkpoint_starts_again(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.History, "on_epoch_end", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        with pytest.raises(RuntimeError, match="power cut"):
            train(tmp_path / "run")
    training.resume(tmp_path / "run", quiet=True)
    assert_same_run(whole, tmp_path / "run")


def test_a_run_cut_off_after_its_last_epoch_is_finished_by_resume(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    facts = json.loads((whole / run_folder.METADATA).read_text())
    (tmp_path / "run" / run_folder.METADATA).write_text(json.dumps({**facts, "finished": False}))
    (tmp_path / "run" / run_folder.MODEL).unlink()
    training.resume(tmp_path / "run", quiet=True)
    assert_same_run(whole, tmp_path / "run")


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_taken(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    newest = checkpoint.Store(tmp_path / "run" / run_folder.CHECKPOINTS).paths()[0]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    facts = json.loads((whole / run_folder.METADATA).read_text())
    (tmp_path / "run" / run_folder.METADATA).write_text(json.dumps({**facts, "finished": False}))
    training.resume(tmp_path / "run", quiet=True)
    assert capsys.readouterr().err.count(f"{newest} is corrupted (its SHA-256 does not match its content)") == 1
    assert_same_run(whole, tmp_path / "run")
    for path in checkpoint.Store(tmp_path / "run" / run_folder.CHECKPOINTS).paths():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputDataError, match="does not contain a valid checkpoint"):
        training.resume(tmp_path / "run", epochs=9, quiet=True)


SLOW = """
import sys, time
from kvae.training import checkpoint
from kvae.commands.train import train

write = checkpoint.write

class Slow:
    def __init__(self, file):
        self.file = file

    def write(self, data):
        print("writing", flush=True)
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        time.sleep(0.008)
        self.file.write(data[len(data) // 2 :])
        print("written", flush=True)

checkpoint.write = lambda file, whole: write(Slow(file), whole)
train(sys.argv[1:])
"""


def kill_in_the_middle(arguments, chance, in_write):
    """Start the command and kill it: in the middle of writing a checkpoint, or at any moment from the first one on.

    Returns:
        Whether it was in the middle of a write: the file has no name yet, so the folder does not show it.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wanted, seen, written = chance.randint(1, 60), 0, 0
    for line in process.stdout:
        seen += line == "writing\n"
        written += line == "written\n"
        if seen >= (wanted if in_write else 1):
            time.sleep(chance.uniform(0.0, 0.008 if in_write else 1.0))
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    rest = process.communicate()[0].splitlines()
    return seen + rest.count("writing") > written + rest.count("written")


def kill_and_resume(tmp_path, kills, epochs, seed):
    chance = random.Random(seed)
    run, in_writes = tmp_path / "run", 0
    flags = [f"--{name.replace('_', '-')}={_shown(value)}" for name, value in {**SMALL, "epochs": epochs}.items()]
    arguments = [*flags, "--no-export-check", "-o", str(run)]
    for number in range(kills):
        in_writes += kill_in_the_middle(arguments, chance, in_write=number % 3 != 1)
        arguments = ["--resume", str(run)]
    training.resume(run, quiet=True)
    assert_same_run(train(tmp_path / "whole", epochs=epochs).directory, run)
    with (run / run_folder.HISTORY).open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(epochs))
    return in_writes


def _shown(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def test_kill_9_three_times_and_nothing_is_lost(tmp_path):
    assert kill_and_resume(tmp_path, kills=3, epochs=12, seed=0) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_twenty_times_and_nothing_is_lost(seed, tmp_path):
    assert kill_and_resume(tmp_path, kills=20, epochs=90, seed=seed) >= 10


CHECKPOINT = checkpoint.Checkpoint(
    {"epoch": 1, "history": [{"epoch": 0, "elbo": -103.31}]},
    {
        "model/0": np.arange(6, dtype="float32").reshape(2, 3),
        "optimizer/0": np.int64(7),
        "none": np.zeros((0, 2), "f4"),
    },
)


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path):
    store = checkpoint.Store(tmp_path / "checkpoints")
    store.save(1, CHECKPOINT)
    read, damaged = store.latest()
    assert damaged == []
    assert read.state == CHECKPOINT.state
    for name, array in CHECKPOINT.arrays.items():
        assert read.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(read.arrays[name], array)


def test_the_last_two_checkpoints_are_kept(tmp_path):
    store = checkpoint.Store(tmp_path / "checkpoints")
    for epoch in (8, 9, 10, 11):
        store.save(epoch, CHECKPOINT)
    assert [path.name for path in store.paths()] == ["epoch-000011.checkpoint", "epoch-000010.checkpoint"]


def test_every_flipped_byte_and_every_cut_of_a_checkpoint_is_noticed(tmp_path):
    store = checkpoint.Store(tmp_path / "checkpoints")
    store.save(1, CHECKPOINT)
    path = store.paths()[0]
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        with pytest.raises(checkpoint.CorruptedError):
            checkpoint.read(path)
        path.write_bytes(good[:position])
        with pytest.raises(checkpoint.CorruptedError):
            checkpoint.read(path)
    assert store.latest()[0] is None


def test_a_disk_that_fills_up_at_any_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    store = checkpoint.Store(tmp_path / "checkpoints")
    store.save(1, CHECKPOINT)
    full, count, write = OSError(errno.ENOSPC, "No space left on device"), [0, 0], checkpoint.write

    class Filling:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            count[0] += 1
            if count[0] == count[1]:
                self.file.write(data[: len(data) // 2])
                raise full
            self.file.write(data)

    monkeypatch.setattr(checkpoint, "write", lambda file, whole: write(Filling(file), whole))
    for number in range(1, 8):  # magic, length, header, three arrays, digest
        count[:] = 0, number
        with pytest.raises(OutputError, match="No space left"):
            store.save(2, CHECKPOINT)
    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, lambda *_: (_ for _ in ()).throw(full))
            with pytest.raises(OutputError, match="No space left"):
                store.save(2, CHECKPOINT)
    assert [path.name for path in store.directory.iterdir()] == ["epoch-000001.checkpoint"]
    assert store.latest()[0].state == CHECKPOINT.state
    count[:] = 0, 8
    store.save(2, CHECKPOINT)


def test_a_full_disk_ends_the_run_with_exit_code_7_and_the_run_goes_on_when_there_is_room(whole, tmp_path, monkeypatch):
    save = checkpoint.Store.save

    def fails_at_3(self, epoch, whole):
        if epoch == 3:
            raise OutputError("epoch-000003.checkpoint cannot be written: No space left on device.")
        save(self, epoch, whole)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Store, "save", fails_at_3)
        with pytest.raises(OutputError, match=r"No space left on device\. .* --resume") as error:
            train(tmp_path / "run")
    assert error.value.exit_code == 7
    training.resume(tmp_path / "run", quiet=True)
    assert_same_run(whole, tmp_path / "run")


def test_weights_that_are_no_numbers_reach_no_checkpoint(tmp_path, monkeypatch):
    def poison(self, epoch, logs=None):
        if epoch == 2:
            self.model.trainable_variables[0].assign(self.model.trainable_variables[0] * float("nan"))

    monkeypatch.setattr(callbacks.LatentUsage, "on_epoch_end", poison)
    with pytest.raises(VerificationError, match="weight became infinite or NaN") as error:
        train(tmp_path / "run")
    assert error.value.exit_code == 6
    last, _ = checkpoint.Store(tmp_path / "run" / run_folder.CHECKPOINTS).latest()
    assert last.state["epoch"] == 2
    assert checkpoint.is_finite(last.arrays)
    # No model was saved yet: what the last checkpoint holds can be exported.
    for ours, array in zip(saved_run.load(tmp_path / "run")[0].variables, last.arrays.values(), strict=False):
        np.testing.assert_array_equal(ours.numpy(), array)


def test_a_longer_run_is_the_run_that_was_long_from_the_start(whole, tmp_path):
    changes = {"learning_rate_schedule": "constant"}
    train(tmp_path / "run", epochs=2, **changes)
    training.resume(tmp_path / "run", epochs=4, quiet=True)
    assert_same_run(train(tmp_path / "whole", epochs=4, **changes).directory, tmp_path / "run")
    assert config.read(tmp_path / "run" / run_folder.CONFIG).training.epochs == 4
    with pytest.raises(RequestError, match="already trained 4 epochs"):
        training.resume(tmp_path / "run", epochs=3, quiet=True)


def resume(*arguments):
    return CliRunner().invoke(train_command, ["--resume", *map(str, arguments)])


def test_a_finished_run_says_so(whole):
    before = {path: path.read_bytes() for path in whole.rglob("*.*")}
    result = resume(whole)
    assert result.exit_code == 0
    assert result.stderr == f"{whole} is finished (4 epochs); --epochs with a larger number trains on.\n"
    assert json.loads(resume(whole, "--json", "-q").stdout)["finished"] is True
    assert before == {path: path.read_bytes() for path in whole.rglob("*.*")}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--latent-dim", "5"], "--latent-dim cannot change when a run is resumed"),
        (["--seed", "1"], "--seed cannot change"),
        (["-o", "other"], "--output cannot be combined with --resume"),
        (["--preset", "gated"], "--preset cannot be combined with --resume"),
    ],
)
def test_what_makes_it_another_run_is_refused(flags, words, whole):
    result = resume(whole, *flags)
    assert isinstance(result.exception, RequestError)
    assert words in str(result.exception)


def test_a_run_goes_on_with_the_same_data_only(whole, tmp_path):
    sample = np.load(_sample(tmp_path, flip=False))
    assert len(sample["x"]) == 600
    result = resume(whole, "--epochs", "5", "--data", _sample(tmp_path, flip=True))
    assert isinstance(result.exception, InputDataError)
    assert "differs from the data of" in str(result.exception)


def _sample(tmp_path, flip):
    sample = sources.load("mnist-sample")
    x = sample.x.copy()
    x[3, 3, 3] ^= flip
    np.savez(tmp_path / f"{flip}.npz", x=x, label=sample.conditions["label"])
    return tmp_path / f"{flip}.npz"


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    with run_folder.lock(tmp_path), pytest.raises(OutputError, match="Another process"), run_folder.lock(tmp_path):
        pass


@pytest.mark.parametrize("name", ["config.toml", "run.json"])
def test_a_folder_that_is_no_run_is_not_resumed(name, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run", ignore=lambda *_: {name})
    assert f"{name} is missing" in str(resume(tmp_path / "run").exception)
    (tmp_path / "run" / name).write_text("{")
    assert isinstance(resume(tmp_path / "run").exception, (InputDataError, RequestError))


def test_a_model_that_cannot_be_exported_is_refused_before_training(tmp_path, monkeypatch):
    exported = networks.dense_encoder
    monkeypatch.setattr(
        networks, "dense_encoder", lambda *sizes, activation, **rest: exported(*sizes, activation="gelu", **rest)
    )
    with pytest.raises(RequestError, match=r"Nothing was trained\. --no-export-check"):
        training.train(settings(), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    assert train(tmp_path / "run", epochs=1).metadata["finished"]


def test_the_export_check_changes_nothing_of_what_is_trained(whole, tmp_path):
    training.train(settings(), tmp_path / "run", quiet=True)
    assert_same_run(whole, tmp_path / "run")

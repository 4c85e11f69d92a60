"""`kvae train` with two worker processes through `TF_CONFIG`, on one machine as on two."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from kvae.training import run_folder

SMALL = [
    "--data", "mnist-sample", "--validation", "120", "--epochs", "2", "--latent-dim", "3", "--network", "dense",
    "--encoder-hidden", "16",
    "--decoder-hidden", "16", "--batch-size", "50", "--no-export-check",
]  # fmt: skip

LONG = ["--epochs", "20", "--checkpoint-every", "1"]
# Seconds. On an idle machine a run takes a few; processes that wait for each other are slow on a busy one.
TIMEOUT = 600
STARTED = []


@pytest.fixture(autouse=True)
def kill_leftover_workers():
    yield
    while STARTED:
        STARTED.pop().kill()


def environment(**more):
    # JAX sets the log level of TensorFlow if another test has imported it.
    kept = {name: value for name, value in os.environ.items() if name not in ("TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL")}
    return kept | more


def start(arguments, more=((), ())):
    """Start two workers with common arguments and, in `more`, their own; the first is the chief."""
    holders = [socket.socket() for _ in more]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{holder.getsockname()[1]}" for holder in holders]}
    for holder in holders:
        holder.close()
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "kvae", "train", *map(str, (*arguments, *own))],
            env=environment(TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index, own in enumerate(more)
    ]  # fmt: skip
    STARTED.extend(workers)
    return workers


def on_two_devices(arguments):
    """Run the command in one process on two devices, which are parts of its CPU."""
    command = [sys.executable, "-m", "kvae", "train", "--devices", "2", "-q", *map(str, arguments)]
    subprocess.run(command, env=environment(), check=True, timeout=TIMEOUT, capture_output=True)


def finish(workers, timeout=TIMEOUT):
    """Return exit code, stdout and stderr of each worker."""
    ends = [worker.communicate(timeout=timeout) for worker in workers]
    return [(worker.returncode, *end) for worker, end in zip(workers, ends, strict=True)]


def history(directory):
    rows = list(csv.DictReader((directory / run_folder.HISTORY).open()))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def assert_same_history(one, other):
    one, other = history(one), history(other)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.long
def test_two_workers_train_as_two_devices_and_only_the_chief_writes(tmp_path):
    chief, other = finish(start([*SMALL, "-o", tmp_path / "workers", "--json"], [[], ["-o", tmp_path / "unwritten"]]))
    assert (chief[0], other[0]) == (0, 0), chief[2] + other[2]
    assert json.loads(chief[1])["finished"]
    assert json.loads(chief[1])["epochs"] == 2  # from the step count of the optimizer
    assert "epoch 2/2" in chief[2]
    assert other[1] == ""
    assert len(other[2].splitlines()) == 1
    assert "Worker 1 of 2" in other[2]
    on_two_devices([*SMALL, "-o", tmp_path / "devices"])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["devices", "workers"]
    assert {each.name for each in (tmp_path / "workers").iterdir()} == set(run_folder.FILES)
    assert_same_history(tmp_path / "workers", tmp_path / "devices")


def wait_for_epochs(directory, num, workers):
    end = time.monotonic() + TIMEOUT
    while (
        not (directory / run_folder.HISTORY).is_file()
        or len((directory / run_folder.HISTORY).read_text().splitlines()) <= num
    ):
        assert time.monotonic() < end
        assert all(worker.poll() is None for worker in workers), finish(workers)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted") / "run"
    on_two_devices([*SMALL, *LONG, "-o", directory])
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "how"), [(0, signal.SIGKILL), (1, signal.SIGTERM)])
def test_killed_worker_ends_the_job_and_resume_gives_the_uninterrupted_run(tmp_path, uninterrupted, lost, how):
    workers = start([*SMALL, *LONG, "-o", tmp_path / "run"])
    wait_for_epochs(tmp_path / "run", 2, workers)
    workers[lost].send_signal(how)
    assert finish([workers[lost]])[0][0] == -how
    killed = time.monotonic()
    code, _, message = finish([workers[1 - lost]])[0]
    assert time.monotonic() - killed < 120
    assert code == 8, message
    assert message.splitlines()[-1].startswith("Error: A worker was lost")
    assert f"kvae train --resume {tmp_path / 'run'}" in message
    ends = finish(start(["--resume", tmp_path / "run"]))
    assert [end[0] for end in ends] == [0, 0], ends
    assert "Resuming after epoch" in ends[0][2]
    assert_same_history(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_workers_with_different_settings_refuse_to_train(tmp_path):
    workers = start([*SMALL, "-o", tmp_path / "run"], more=[[], ["--learning-rate", "0.1"]])
    ends = finish(workers)
    assert [end[0] for end in ends] == [4, 4], ends
    assert all("The settings of worker 1 differ from those of the chief" in end[2] for end in ends)


@pytest.mark.slow
def test_ctrl_c_on_one_worker_ends_all_after_the_epoch_with_a_checkpoint(tmp_path):
    workers = start([*SMALL, "--epochs", "200", "-o", tmp_path / "run"])
    wait_for_epochs(tmp_path / "run", 2, workers)
    workers[1].send_signal(signal.SIGINT)
    ends = finish(workers)
    assert [end[0] for end in ends] == [130, 130], ends
    done = len(history(tmp_path / "run")["loss"])
    assert 2 <= done < 200
    assert f"Continue after epoch {done}" in ends[0][2]

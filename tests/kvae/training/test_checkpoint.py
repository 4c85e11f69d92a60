"""Checkpoints: content, corruption, full disks and killed processes."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from kvae.training import checkpoint
from kvae_serve.errors import OutputError

CHECKPOINT = checkpoint.Checkpoint(
    {"epoch": 1, "history": [{"epoch": 0, "elbo": -103.31}]},
    {
        "model/0": np.arange(6, dtype="float32").reshape(2, 3),
        "optimizer/0": np.int64(7),
        "none": np.zeros((0, 2), "f4"),
    },
)


@pytest.fixture
def store(tmp_path):
    store = checkpoint.Store(tmp_path / "checkpoints")
    store.save(1, CHECKPOINT)
    return store


def test_read_returns_what_was_saved(store):
    read, corrupted = store.latest()
    assert corrupted == []
    assert read.state == CHECKPOINT.state
    for name, array in CHECKPOINT.arrays.items():
        assert read.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(read.arrays[name], array)


def test_last_two_checkpoints_are_kept(store):
    for epoch in (8, 9, 10, 11):
        store.save(epoch, CHECKPOINT)
    assert [path.name for path in store.paths()] == ["epoch-000011.checkpoint", "epoch-000010.checkpoint"]


def test_every_flipped_byte_and_every_truncation_is_detected(store):
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


def test_hostile_checkpoint_with_a_valid_digest_is_corrupted(tmp_path):
    def sealed(header, body=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        data = b"kvae checkpoint 1\n" + len(text).to_bytes(8, "little") + text + body
        return data + hashlib.sha256(data).digest()

    hostile = [
        sealed(b"[" * 100_000), sealed({}), sealed([]), sealed({"state": {}, "arrays": [["a", "O", [1]]]}, bytes(8)),
        sealed({"state": {}, "arrays": [["a", "<f4", [-1]]]}, bytes(8)),
        sealed({"state": {}, "arrays": [["a", "<f4", [2**62]]]}), sealed({"state": {}, "arrays": [["a", "evil", [1]]]}),
        sealed({"state": [], "arrays": []}), sealed({"state": {}, "arrays": 5}), sealed(b"\xff" * 50),
        b"kvae checkpoint 1\n" + b"\xff" * 8 + bytes(32),
    ]  # fmt: skip
    for data in hostile:
        (tmp_path / "a.checkpoint").write_bytes(data)
        with pytest.raises(checkpoint.CorruptedError):
            checkpoint.read(tmp_path / "a.checkpoint")


def test_full_disk_at_any_write_keeps_the_checkpoint_before(store, monkeypatch):
    full, count, write = OSError(errno.ENOSPC, "No space left on device"), [0, 0], checkpoint.write

    class FillingFile:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            count[0] += 1
            if count[0] == count[1]:
                self.file.write(data[: len(data) // 2])
                raise full
            self.file.write(data)

    monkeypatch.setattr(checkpoint, "write", lambda file, content: write(FillingFile(file), content))
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


#: Writes checkpoints forever, slowly, and prints a line in the middle of every write.
WRITER = """
import itertools, sys, time
import numpy as np
from kvae.training import checkpoint

class SlowFile:
    def __init__(self, file):
        self.file = file

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        print("writing", flush=True)
        time.sleep(0.005)
        self.file.write(data[len(data) // 2 :])

write = checkpoint.write
checkpoint.write = lambda file, content: write(SlowFile(file), content)
for epoch in itertools.count(1):
    arrays = {"a": np.full(1000, epoch), "b": np.full(1000, epoch)}
    checkpoint.Store(sys.argv[1]).save(epoch, checkpoint.Checkpoint({"epoch": epoch}, arrays))
"""


@pytest.mark.parametrize("num_writes", [9, 14])
def test_kill_9_in_the_middle_of_a_write_leaves_a_valid_checkpoint(num_writes, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(num_writes):  # 6 per checkpoint: magic, length, header, two arrays, digest
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.communicate()
    last, corrupted = checkpoint.Store(tmp_path).latest()
    assert corrupted == []
    assert last.state["epoch"] in (num_writes // 6, num_writes // 6 + 1)
    np.testing.assert_array_equal(last.arrays["b"], np.full(1000, last.state["epoch"]))

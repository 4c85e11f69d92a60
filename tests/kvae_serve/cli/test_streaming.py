"""Row streams: equal to files written at once, readable by other tools, in constant memory, complete or absent."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import OutputError, RequestError
from kvae_serve.model import load
from kvae_serve.prefetch import prefetch
from kvae_serve.row_stream import Array, RowStream
from kvae_serve.writers import disk_space, dispatch, npz

MB = 1e6


@pytest.fixture(scope="module")
def conditional(tiny: Path):
    return load(tiny / "conditional")


@pytest.mark.parametrize(("num", "batch_size"), [(5000, 64), (1500, 7), (3, 2)])
@pytest.mark.parametrize("draw", [False, True])
def test_sample_batches_concatenate_to_sample_and_repeat_alone(conditional, num, batch_size, draw):
    request = {"label": ["dog", "0"], "seed": 4, "start": 11, "draw": draw}
    whole = conditional.sample(num, **request)
    chunks = list(conditional.sample_batches(num, batch_size=batch_size, **request))
    assert (len(chunks) > 1) == (num > 1000)
    for name in ("x", "z"):
        assert np.concatenate([getattr(chunk, name) for chunk in chunks]).tobytes() == getattr(whole, name).tobytes()
    labels = np.concatenate([chunk.conditions["label"] for chunk in chunks])
    assert (labels == whole.conditions["label"]).all()
    last = chunks[-1]
    again = conditional.sample(
        last.num, label=list(dict.fromkeys(last.names("label"))), seed=4, start=last.start, draw=draw
    )
    assert (again.x == last.x).all()


def test_bad_request_for_batches_is_rejected_before_the_first_batch(conditional):
    with pytest.raises(RequestError, match="Unknown label 'cow'"):
        conditional.sample_batches(3, label="cow")
    assert len(next(conditional.sample_batches(10**12, label="cat", seed=0))) <= 4096


def test_threads_batch_size_and_optimisation_do_not_change_a_bit(tiny, monkeypatch):
    import onnxruntime as ort

    opened = ort.SessionOptions
    for path in (tiny / "conditional", "mnist"):
        found = set()
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):

            def options(level=level):
                made = opened()
                made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
                return made

            monkeypatch.setattr(ort, "SessionOptions", options)
            for threads in (1, 4):
                model = load(path, threads=threads)
                for batch_size in (1, 7, 100):
                    found.add(model.sample(20, label="all", seed=5, batch_size=batch_size).x.tobytes())
        assert len(found) == 1


def test_files_of_ranges_concatenate_to_the_whole(kvae, tiny, tmp_path):
    arguments = ["sample", "-m", tiny / "unconditional", "--seed", 9, "--draw"]
    assert kvae(*arguments, "-n", 100, "-o", "whole.npy").returncode == 0
    for start in (0, 25, 50, 75):
        assert kvae(*arguments, "-n", 25, "--start", start, "-o", f"{start}.npy").returncode == 0
    parts = np.concatenate([np.load(tmp_path / f"{start}.npy") for start in (0, 25, 50, 75)])
    assert parts.tobytes() == np.load(tmp_path / "whole.npy").tobytes()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_streamed_file_equals_file_written_at_once(conditional, tmp_path, dtype):
    request = {"label": "all", "seed": 1, "start": 3}
    for form in ("a.npz", "a.npy", "a.png", "folder"):
        draws = conditional.sample(2500 if form[0] == "a" else 30, **request)
        dispatch.write(str(tmp_path / f"at_once_{form}"), draws, dtype=dtype)
        num = draws.num
        dispatch.stream(
            str(tmp_path / f"stream_{form}"), conditional.plan(num, **request).row_stream(), dtype=dtype, quiet=True
        )
    for form in ("a.npz", "a.npy", "a.png"):
        assert (tmp_path / f"stream_{form}").read_bytes() == (tmp_path / f"at_once_{form}").read_bytes()
    for path in (tmp_path / "at_once_folder").iterdir():
        assert (tmp_path / "stream_folder" / path.name).read_bytes() == path.read_bytes()


def test_npz_is_a_valid_zip_archive(conditional, tmp_path):
    dispatch.stream(str(tmp_path / "a.npz"), conditional.plan(2500, label="cat", seed=0).row_stream(), quiet=True)
    with zipfile.ZipFile(tmp_path / "a.npz") as bundle:
        assert bundle.testzip() is None
        assert {member.date_time[0] for member in bundle.infolist()} == {1980}
        assert [member.filename for member in bundle.infolist()][:3] == ["x.npy", "z.npy", "label.npy"]


class Sparse(io.RawIOBase):
    """Sparse file in memory: it stores only short writes, so gigabytes of zeros take a few kilobytes."""

    def __init__(self) -> None:
        self.place, self.kept, self.end = 0, {}, 0

    def seek(self, place: int, whence: int = 0) -> int:
        self.place = place + (0, self.place, self.end)[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def write(self, data) -> int:
        if len(data) < 10_000:
            self.kept[self.place] = bytes(data)
        self.place += len(data)
        self.end = max(self.end, self.place)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        size = self.end - self.place if size < 0 else min(size, self.end - self.place)
        found = bytearray(size)
        for place, data in self.kept.items():
            low, high = max(place, self.place), min(place + len(data), self.place + size)
            if low < high:
                found[low - self.place : high - self.place] = data[low - place : high - place]
        self.place += size
        return bytes(found)


@pytest.mark.long
def test_npz_beyond_4_gib_is_read_by_zipfile(conditional):
    """The archive has 4.25 GiB of zeros, which the sparse file does not store."""
    rows = 2**22 + 2**18
    chunk = {"x": np.zeros((2**18, 1024), np.uint8), "label": np.full(2**18, 7, np.uint8)}
    arrays = {"x": Array(np.dtype("u1"), (1024,)), "label": Array(np.dtype("u1"), ())}
    chunks = (chunk for _ in range(rows // 2**18))
    stream = RowStream(conditional.manifest, rows, arrays, ("x",), chunks, {"seed": np.array(3)})
    file = Sparse()
    npz.write(file, stream)
    with zipfile.ZipFile(file) as bundle:
        assert [(each.filename, each.file_size) for each in bundle.infolist()] == [
            ("x.npy", 128 + rows * 1024),
            ("label.npy", 128 + rows),
            ("seed.npy", 136),
        ]
        assert bundle.getinfo("label.npy").header_offset > 2**32
        with bundle.open("seed.npy") as member:
            assert int(np.lib.format.read_array(member)) == 3  # zipfile compares the checksum at the end.
        with bundle.open("x.npy") as member:
            assert np.lib.format.read_magic(member) == (1, 0)
            assert np.lib.format.read_array_header_1_0(member)[0] == (rows, 1024)


def test_wrong_number_of_rows_raises_and_leaves_no_file(conditional, tmp_path):
    for form in ("a.npz", "a.npy"):
        arrays = {"x": Array(np.dtype("f4"), (2,))}
        rows = RowStream(conditional.manifest, 3, arrays, ("x",), iter([{"x": np.zeros((2, 2), "f4")}]))
        with pytest.raises(AssertionError):
            dispatch.stream(str(tmp_path / form), rows)
    assert list(tmp_path.iterdir()) == []


def test_prefetch_keeps_the_order_raises_in_its_place_and_ends_when_closed():
    assert list(prefetch(range(1000))) == list(range(1000))
    assert list(prefetch([])) == []

    def failing():
        yield 1
        raise OutputError("no more")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(OutputError, match="no more"):
        next(items)
    before = threading.active_count()
    endless = prefetch(iter(int, 1))
    assert next(endless) == 0
    endless.close()
    assert threading.active_count() == before


def test_output_larger_than_the_free_disk_space_is_rejected(kvae, tiny, tmp_path, monkeypatch):
    model = load(tiny / "unconditional")
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 1_000_000)
    for form, size in (("a.npy", "1.9 MB"), ("a.npz", "2.0 MB"), ("folder", "41.0 MB")):
        with pytest.raises(OutputError, match=rf"would take {size}, but 1\.0 MB are free.*--force"):
            dispatch.stream(str(tmp_path / form), model.plan(10_000, seed=0).row_stream())
    assert list(tmp_path.iterdir()) == []
    dispatch.stream(str(tmp_path / "a.npy"), model.plan(10_000, seed=0).row_stream(), force=True)
    assert (tmp_path / "a.npy").stat().st_size == 128 + 4 * 48 * 10_000
    monkeypatch.undo()
    done = kvae("sample", "-m", tiny / "unconditional", "-n", 10**13, "-o", "huge.npy")
    assert done.returncode == 7
    assert "would take 1920.0 TB" in done.stderr


def test_free_space_matches_the_folder(tmp_path):
    free = disk_space.free_bytes(str(tmp_path))
    import shutil

    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert disk_space.free_bytes(str(tmp_path / "none")) is None
    assert [disk_space.readable(each) for each in (3, 1500, 3_140_000_000, 2e15)] == [
        "3 bytes",
        "1.5 kB",
        "3.1 GB",
        "2000.0 TB",
    ]


@pytest.mark.parametrize("form", ["a.npz", "a.npy", "folder"])
def test_ctrl_c_while_writing_leaves_no_file(tiny, tmp_path, command_environment, form):
    code = """
import sys
from kvae.__main__ import main
from kvae_serve.runtime.session import Session

run, calls = Session.run, [0]
def counted(*arguments, **named):
    calls[0] += 1
    if calls[0] == 4:  # Earlier chunks are being written.
        print("under way", flush=True)
    return run(*arguments, **named)

Session.run = counted
main()
"""
    command = [sys.executable, "-c", code, "sample", "-m", str(tiny / "unconditional"), "-n", "50000000", "-o", form]
    process = subprocess.Popen(
        [*command, "--force"],
        cwd=tmp_path,
        env=command_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"under way\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, b"Error: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_on_a_terminal_and_removed(conditional, tmp_path, monkeypatch):
    from kvae_serve import progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.0)
    for stream, quiet, shown in ((Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        dispatch.stream(str(tmp_path / "a.npy"), conditional.plan(9000, label=0).row_stream(), force=True, quiet=quiet)
        assert ("%" in stream.getvalue()) == shown
        if shown:
            assert stream.getvalue().rpartition("\r")[2] in ("", "\x1b[K")


@pytest.mark.parametrize("name", ["a.npy", pytest.param("a.npz", marks=pytest.mark.long)])
def test_memory_does_not_grow_with_the_rows(tmp_path, command_environment, peak_memory, name):
    kvae = [sys.executable, "-m", "kvae"]
    commands = [["sample", "-q", "-m", "mnist", "--label", "3", "-n", "20000", "-o", name]]
    if name == "a.npy":  # an .npz is read as a whole
        commands.append(["encode", "-q", name, "--label", "3", "-o", "codes.npz"])
    for arguments in commands:
        done = peak_memory([*kvae, *arguments], cwd=tmp_path, env=command_environment)
        assert done.returncode == 0, done.stderr
        assert done.peak < 120 * MB
    assert (tmp_path / name).stat().st_size > 62e6


def test_sample_needs_120_mb_and_runs_under_a_limit_of_400_mb(tmp_path, command_environment, peak_memory):
    limit = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))\n"
        "from kvae.__main__ import main\nmain()"
    )
    for code in (["-m", "kvae"], ["-c", limit]):
        if sys.platform == "darwin" and "-c" in code:
            continue  # macOS ignores RLIMIT_AS.
        command = [sys.executable, *code, "sample", "--label", "3", "--seed", "0", "-o", "a.png", "--force"]
        done = peak_memory(command, cwd=tmp_path, env=command_environment)
        assert (done.returncode, done.stderr.strip()) == (0, "16 images of mnist to a.png, seed 0")
        assert done.peak <= 120 * MB

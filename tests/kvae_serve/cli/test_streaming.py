"""Rows written as they are made: as all at once, read by other tools, in little memory, whole or not at all."""

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


@pytest.mark.parametrize(("num", "batch_size"), [(5000, 64), (5000, 7), (700, 64), (3, 2)])
@pytest.mark.parametrize("draw", [False, True])
def test_batches_are_the_rows_of_sample_and_each_stands_alone(conditional, num, batch_size, draw):
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


def test_a_bad_request_for_batches_is_refused_at_once(conditional):
    with pytest.raises(RequestError, match="no label 'cow'"):
        conditional.sample_batches(3, label="cow")
    assert len(next(conditional.sample_batches(10**12, label="cat", seed=0))) <= 4096


def test_36_combinations_of_threads_batch_size_and_optimisation_give_one_bit_pattern(tiny, monkeypatch):
    import onnxruntime as ort

    opened = ort.SessionOptions
    for path in (tiny / "conditional", "mnist"):
        found = set()
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):

            def options(level=level):
                made = opened()
                made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
                return made

            monkeypatch.setattr(ort, "SessionOptions", options)
            for threads in (1, 2, 4):
                model = load(path, threads=threads)
                for batch_size in (1, 7, 32, 100):
                    found.add(model.sample(20, label="all", seed=5, batch_size=batch_size).x.tobytes())
        assert len(found) == 1


def test_parts_by_start_are_the_whole_in_files(kvae, tiny, tmp_path):
    arguments = ["sample", "-m", tiny / "unconditional", "--seed", 9, "--draw"]
    assert kvae(*arguments, "-n", 100, "-o", "whole.npy").returncode == 0
    for start in (0, 25, 50, 75):
        assert kvae(*arguments, "-n", 25, "--start", start, "-o", f"{start}.npy").returncode == 0
    parts = np.concatenate([np.load(tmp_path / f"{start}.npy") for start in (0, 25, 50, 75)])
    assert parts.tobytes() == np.load(tmp_path / "whole.npy").tobytes()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_stream_gives_the_bytes_of_what_is_written_at_once(conditional, tmp_path, dtype):
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


def test_an_npz_is_a_proper_zip_archive(conditional, tmp_path):
    dispatch.stream(str(tmp_path / "a.npz"), conditional.plan(2500, label="cat", seed=0).row_stream(), quiet=True)
    with zipfile.ZipFile(tmp_path / "a.npz") as bundle:
        assert bundle.testzip() is None
        assert {member.date_time[0] for member in bundle.infolist()} == {1980}
        assert [member.filename for member in bundle.infolist()][:3] == ["x.npy", "z.npy", "label.npy"]


class Sparse(io.RawIOBase):
    """A file that keeps the chunks that are no long run of one byte: gigabytes of zeros in a few kilobytes."""

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


def test_an_archive_beyond_4_gibibytes_is_read_by_zipfile(conditional):
    """Its directory and headers say where 4.25 GiB of x and what follows them are; nothing that large is made here."""
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


def test_pieces_that_do_not_add_up_are_a_bug_and_leave_no_file(conditional, tmp_path):
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


def test_what_does_not_fit_on_the_disk_is_refused_with_the_sum_done(kvae, tiny, tmp_path, monkeypatch):
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


def test_free_space_is_that_of_the_folder(tmp_path):
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
def test_ctrl_c_in_the_middle_of_writing_leaves_nothing(tiny, tmp_path, command_environment, form):
    code = """
import sys
from kvae.__main__ import main
from kvae_serve.runtime.session import Session

run, calls = Session.run, [0]
def counted(*arguments, **named):
    calls[0] += 1
    if calls[0] == 4:  # Pieces before this one are made and on their way into the file.
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


def test_progress_is_shown_on_a_terminal_alone_and_taken_away(conditional, tmp_path, monkeypatch):
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


def test_memory_does_not_grow_with_the_rows(tiny, tmp_path, command_environment, peak_memory):
    command = [sys.executable, "-m", "kvae", "sample", "-q", "-m", "mnist", "--label", "3", "-n", "20000"]
    for form in ("a.npz", "a.npy"):
        done = peak_memory([*command, "-o", form], cwd=tmp_path, env=command_environment)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / form).stat().st_size > 62e6
        assert done.peak < 120 * MB
    command = [sys.executable, "-m", "kvae", "encode", "-q", "a.npy", "--label", "3", "-o", "codes.npz"]
    done = peak_memory(command, cwd=tmp_path, env=command_environment)
    assert done.returncode == 0, done.stderr
    assert done.peak < 120 * MB


def test_a_sample_takes_120_megabytes_and_runs_under_a_limit_of_400(tmp_path, command_environment, peak_memory):
    limit = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))\n"
        "from kvae.__main__ import main\nmain()"
    )
    for code in (["-m", "kvae"], ["-c", limit]):
        if sys.platform == "darwin" and "-c" in code:
            continue  # RLIMIT_AS means nothing there.
        command = [sys.executable, *code, "sample", "--label", "3", "--seed", "0", "-o", "a.png", "--force"]
        done = peak_memory(command, cwd=tmp_path, env=command_environment)
        assert (done.returncode, done.stderr.strip()) == (0, "16 images of mnist to a.png, seed 0")
        assert done.peak <= 120 * MB

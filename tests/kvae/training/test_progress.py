"""Progress lines: content, width, and the live line of a terminal."""

import io
from types import SimpleNamespace

import pytest

from kvae.training import callbacks
from kvae.training.callbacks import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when it is set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def printed(clock, elbos, epochs, seconds=2.0, first_seconds=None, rows=(), **metrics):
    stream = io.StringIO()
    callback = callbacks.Progress(epochs, stream, rows)
    for epoch, elbo in enumerate(elbos, len(rows)):
        callback.on_epoch_begin(epoch)
        clock[0] += first_seconds if first_seconds and not epoch else seconds
        callback.on_epoch_end(epoch, {"elbo": elbo - 1.0, "kl": 23.4567, "val_elbo": elbo, **metrics})
    return stream.getvalue().splitlines()


def test_line_has_metrics_duration_and_time_left(clock):
    first, last = printed(clock, [-103.456, -102.0], epochs=2, val_active_units=16)
    assert first == "epoch 1/2  elbo -104.46  val -103.46*  kl 23.457  active 16  2.0 s  2.0 s left"
    assert last == "epoch 2/2  elbo -103  val -102*  kl 23.457  active 16  2.0 s"


def test_star_marks_the_best_epoch_so_far_also_after_a_resume(clock):
    lines = printed(clock, [-5.0, -3.0, -4.0, -2.0], epochs=9, rows=[{"val_elbo": -4.5}])
    assert ["*" in line for line in lines] == [False, True, False, True]


@pytest.mark.parametrize(("seconds", "left"), [(0.1, "9.9 s"), (1.0, "99 s"), (60.0, "99 min"), (3600.0, "99.0 h")])
def test_time_left_is_the_mean_duration_times_the_epochs_left(seconds, left, clock):
    assert printed(clock, [-1.0], epochs=100, seconds=seconds)[0].endswith(f"{left} left")


def test_time_left_ignores_the_compilation_in_the_first_epoch(clock):
    lines = printed(clock, [-1.0, -1.0], epochs=10, seconds=1.0, first_seconds=30.0)
    assert lines[0].endswith("30 s  4 min left")
    assert lines[1].endswith("1.0 s  8.0 s left")


@pytest.mark.parametrize("elbo", [-1.23456e-5, -12345.678, -1.2345e9])
@pytest.mark.parametrize("epochs", [9, 10**6])
def test_line_fits_80_columns(elbo, epochs, clock):
    for line in printed(clock, [elbo], epochs, seconds=1e4, val_active_units=100):
        assert len(line) <= 80
        assert "val" in line
        assert "left" in line


def test_terminal_has_a_live_line_within_the_epoch(clock):
    terminal = Terminal()
    callback = callbacks.Progress(2, terminal)
    callback.set_params({"steps": 60})
    latest = SimpleNamespace(logs={"elbo": -103.456, "kl": 23.4567})
    callback.set_model(SimpleNamespace(latest=latest))
    callback.on_epoch_begin(0)
    for batch in (0, 15, 16):  # the metrics of batch 0 do not exist yet; batch 16 comes too soon after 15
        clock[0] += 2.0 if batch == 15 else 0.05
        callback.on_train_batch_begin(batch)
    (line,) = terminal.getvalue().split("\r\x1b[K")[1:]
    assert line == f"epoch 1/2  {'━' * 5}{'╌' * 15}  elbo -103.46  kl 23.457  14 s left"
    callback.on_epoch_end(0, {"elbo": -100.0})
    assert terminal.getvalue().split("\r\x1b[K")[2] == "epoch 1/2  elbo -100  2.1 s  2.1 s left\n"


def test_message_clears_the_live_line_of_a_terminal():
    terminal, file = Terminal(), io.StringIO()
    progress.print_line("Warning: none", terminal)
    progress.print_line("Warning: none", file)
    assert terminal.getvalue() == "\r\x1b[KWarning: none\n"
    assert file.getvalue() == "Warning: none\n"

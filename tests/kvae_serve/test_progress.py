"""Progress lines: nothing from short tasks, a line that is cleared on a terminal, a line per minute elsewhere."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import pytest

from kvae_serve import progress
from kvae_serve.progress import Busy, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def set_stderr(monkeypatch, stream) -> None:
    """Replace the standard error of the module, because pytest replaces that of `sys`."""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))


@pytest.fixture
def fast(monkeypatch):
    """Shorten the times: a minute takes 20 milliseconds."""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.02)


@pytest.fixture
def terminal(fast, monkeypatch):
    stream = Terminal()
    set_stderr(monkeypatch, stream)
    return stream


@pytest.fixture
def log(fast, monkeypatch):
    stream = io.StringIO()
    set_stderr(monkeypatch, stream)
    return stream


def updates(stream: io.StringIO) -> list[str]:
    return [line.removesuffix("\x1b[K") for line in stream.getvalue().split("\r")[1:]]


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)


def test_progress_on_a_terminal_is_updated_and_cleared(terminal):
    with Progress("Making rows") as report:
        report(1, 8)
        assert terminal.getvalue() == ""
        time.sleep(0.03)
        report(4, 8)
        assert updates(terminal)[0].startswith("Making rows  50 %, ")
    assert updates(terminal)[-1] == ""


def test_busy_on_a_terminal_is_updated_and_cleared(terminal):
    with Busy("Writing"):
        wait_for(lambda: len(updates(terminal)) >= 3)
        assert updates(terminal)[:3] == ["Writing, 0 s so far "] * 3
    assert updates(terminal)[-1] == ""


def test_progress_in_a_log_is_a_line_per_interval_after_the_first(log):
    with Progress("Making rows") as report:
        report(1, 8)
        assert log.getvalue() == ""
        time.sleep(0.03)
        report(4, 8)
        report(5, 8)
        assert log.getvalue() == "Making rows  50 %, 0 s left\n"
    assert log.getvalue() == "Making rows  50 %, 0 s left\n"


def test_busy_in_a_log_is_a_line_per_interval(log):
    with Busy("Writing"):
        wait_for(lambda: log.getvalue().count("\n") >= 2)
    assert set(log.getvalue().splitlines()) == {"Writing, 0 s so far"}


def test_log_interval_is_a_minute():
    assert progress.LOG_SECONDS == 60


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_short_tasks_show_nothing(monkeypatch, stream):
    set_stderr(monkeypatch, stream)
    with Busy("Writing"), Progress("Making rows") as report:
        report(8, 8)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO(), None], ids=["terminal", "log", "closed"])
def test_quiet_or_closed_stderr_shows_nothing(fast, monkeypatch, stream):
    set_stderr(monkeypatch, stream)
    with Busy("Writing", quiet=stream is not None), Progress("Making rows", quiet=stream is not None) as report:
        time.sleep(0.06)
        report(4, 8)
    assert stream is None or stream.getvalue() == ""


def test_error_clears_the_line_and_propagates(terminal):
    def fail() -> None:
        with Busy("Writing"):
            wait_for(lambda: updates(terminal))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert updates(terminal)[-1] == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")])
def test_durations_are_short(seconds, text):
    assert progress._duration(seconds) == text

"""What is shown of long work: nothing within a second, nothing but on a terminal, and in the end a clean line."""

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


def show_on(monkeypatch, stream) -> None:
    """Let the module have this standard error: pytest puts its own in the place of another."""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))


@pytest.fixture
def stderr(monkeypatch):
    """A terminal, on which a second is a fiftieth of one."""
    monkeypatch.setattr(progress, "_WAIT", 0.02)
    monkeypatch.setattr(progress, "_BETWEEN", 0.01)
    shown = Terminal()
    show_on(monkeypatch, shown)
    return shown


def lines(shown: io.StringIO) -> list[str]:
    return [line.removesuffix("\x1b[K") for line in shown.getvalue().split("\r")[1:]]


def until(shown: io.StringIO, num: int) -> None:
    """Wait for so many lines; a minute is for ever."""
    end = time.monotonic() + 60
    while len(lines(shown)) < num and time.monotonic() < end:
        time.sleep(0.005)


def test_progress_counts_up_and_leaves_nothing(stderr):
    with Progress("Making rows") as told:
        told(1, 8)
        assert stderr.getvalue() == ""
        time.sleep(0.03)
        told(4, 8)
        assert lines(stderr)[0].startswith("Making rows  50 %, ")
    assert lines(stderr)[-1] == ""


def test_what_has_no_known_end_is_said_to_go_on_and_leaves_nothing(stderr):
    with Busy("Walking"):
        until(stderr, 3)
        assert lines(stderr)[:3] == ["Walking, 0 s so far "] * 3
    assert lines(stderr)[-1] == ""
    before = stderr.getvalue()
    with Busy("Walking", quiet=True):
        assert stderr.getvalue() == before


def test_what_is_quick_shows_nothing(monkeypatch):
    shown = Terminal()
    show_on(monkeypatch, shown)
    with Busy("Walking"), Progress("Making rows") as told:
        told(8, 8)
    assert shown.getvalue() == ""


@pytest.mark.parametrize("where", [None, io.StringIO()])
def test_where_there_is_no_terminal_nothing_is_shown(stderr, monkeypatch, where):
    show_on(monkeypatch, where)
    with Busy("Walking"), Progress("Making rows") as told:
        time.sleep(0.06)
        told(4, 8)
    assert where is None or where.getvalue() == ""


def test_an_error_clears_the_line_and_goes_on(stderr):
    def fail() -> None:
        with Busy("Writing"):
            until(stderr, 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert lines(stderr)[-1] == ""

"""Shared fixtures: the tiny models, and the real command in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvae_serve.runtime import onnxruntime
from support.paths import python_path

# Tests that open ONNX Runtime by themselves tell nobody either.
os.environ.setdefault(onnxruntime.TELEMETRY, "1")

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that; tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

Kvae = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The folder of tiny committed models; tests/make_tiny_models.py has their formulas."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def command_environment() -> dict[str, str]:
    """An environment in which `python -m kvae` is the package that the tests import."""
    cleared = ("KVAE_MODEL", "KVAE_DEBUG", "KVAE_MAX_FILE", "KVAE_MAX_MEMORY")
    environment = {name: value for name, value in os.environ.items() if name not in cleared}
    return environment | {"PYTHONPATH": python_path(), "PYTHONWARNINGS": "error"}


@pytest.fixture(scope="session")
def started(tmp_path_factory, command_environment):
    """A `forked.Server` with the environment of the command, or nothing where no process can be forked."""
    if not hasattr(os, "fork"):
        yield None
        return
    from support.forked import Server

    server = Server(tmp_path_factory.mktemp("started"), command_environment)
    yield server
    server.close()


@pytest.fixture
def kvae(tmp_path: Path, command_environment: dict[str, str], started) -> Kvae:
    """Run the command in an empty folder: `kvae("sample", "-n", 3)` gives returncode, stdout and stderr.

    The process is forked from one that has imported all that light commands need, which spares each call a third of a
    second of imports. With environment variables a new process is started, for tests of the start and end of a command,
    and of the commands in README and docs.
    """

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kvae", *map(str, arguments)]
        if started is None or environment:
            given = command_environment | environment
            return subprocess.run(
                command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=60, check=False
            )
        done = started.run(command[3:], tmp_path, seconds=60)
        assert not done.hung
        stdout, stderr = (
            each.decode().replace("\r\n", "\n").replace("\r", "\n") for each in (done.stdout, done.stderr)
        )
        return subprocess.CompletedProcess(command, done.code, stdout, stderr)

    return run


@pytest.fixture
def peak_memory():
    """Run a command and return what `subprocess.run` does, with `peak`, its largest resident size in bytes.

    Linux hands a process the peak of the one that it was forked from, here a test run that may hold gigabytes. A small
    Python in between starts the command, and tells the peak of its child.
    """
    pytest.importorskip("resource")
    between = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:]).returncode\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(code)"
    )

    def run(command, **rest):
        command = [sys.executable, "-c", between, *map(str, command)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **rest)
        *lines, peak = done.stdout.splitlines()
        done.stdout = "\n".join(lines)
        done.peak = int(peak) * (1 if sys.platform == "darwin" else 1024)
        return done

    return run


@pytest.fixture(scope="session")
def forked(tmp_path_factory):
    """A `forked.Server`: processes that start in milliseconds, with limits set."""
    pytest.importorskip("resource")
    from support.forked import Server

    server = Server(tmp_path_factory.mktemp("forked"))
    yield server
    server.close()

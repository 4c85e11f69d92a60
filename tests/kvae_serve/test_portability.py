"""Windows and macOS, as far as Linux can show: paths of Windows, and Python without the functions of POSIX."""

from __future__ import annotations

import errno
import io
import ntpath
import os
import subprocess
import sys
import types

import pytest

from kvae_serve.cli import main as entry
from kvae_serve.cli.requests import leads_out
from kvae_serve.writers import atomic

ABSENT = """
import os, shutil, signal, sys

for name in ("fcntl", "resource", "termios", "pty", "pwd", "grp"):
    sys.modules[name] = None
for name in (
    "fork", "forkpty", "fchmod", "statvfs", "fstatvfs", "sync", "getuid", "geteuid", "mkfifo",
    "sched_getaffinity", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_DIRECTORY", "O_NOFOLLOW",
):
    if hasattr(os, name):
        delattr(os, name)
shutil._use_fd_functions = False
shutil.disk_usage = lambda path: type("Usage", (), {"free": 10**12})  # exists on Windows too
for name in ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGALRM"):
    if hasattr(signal, name):
        delattr(signal, name)
isdir, opened, linked = os.path.isdir, os.open, os.link
os.path.isdir = lambda path: not os.fspath(path).startswith("/proc") and isdir(path)


def no_folders(path, *rest, **options):
    if isdir(path):
        raise PermissionError(13, "Permission denied", path)  # as on Windows
    return opened(path, *rest, **options)


os.open = no_folders
"""


def without_posix(folder, environment, *commands):
    """Run commands of kvae in one process in which the functions of POSIX are missing; return its output."""
    runs = "".join(f"code = run({command!r}, COMMANDS)\nassert code == 0, code\n" for command in commands)
    program = f"{ABSENT}\nfrom kvae_serve.cli.main import run\nfrom kvae.__main__ import COMMANDS\n{runs}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_light_commands_run_without_functions_of_posix(tmp_path, command_environment):
    without_posix(
        tmp_path,
        command_environment,
        ["sample", "--label", "3", "-n", "4", "--seed", "7", "-o", "threes.npz"],
        ["sample", "--label", "3", "-n", "4", "--seed", "7", "-o", "threes.png"],
        ["sample", "--label", "3", "-n", "2", "--seed", "7", "-o", "folder"],
        ["sample", "--label", "3", "-n", "3", "--seed", "7", "-o", "folder", "--force"],
        ["encode", "threes.npz", "-o", "codes.csv"],
        ["score", "threes.npz", "-o", "scores.csv"],
        ["verify"],
    )
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        f"label-3_{index:06d}.png" for index in range(3)
    ]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("output", "outside"),
    [
        ("a.png", False),
        ("sub\\a.png", False),
        ("sub/a.png", False),
        ("..\\a.png", True),
        ("sub/../../a.png", True),
        ("C:\\a.png", True),
        ("D:a.png", True),
        ("\\a.png", True),
        ("/a.png", True),
        ("\\\\server\\share\\a.png", True),
        ("a.png:stream", True),
        (".", True),
    ],
)
def test_paths_of_windows_cannot_leave_the_folder(output, outside):
    assert leads_out(output, "C:\\work\\out", ntpath) is outside


def test_closed_pipe_of_windows_is_not_a_bug(monkeypatch, capsys):
    def commands(arguments, table):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(entry, "_invoke", commands)
    assert entry.run(["sample"], {}) == 1
    monkeypatch.setattr(entry, "_CLOSED_PIPE", (errno.EPIPE, errno.EINVAL))
    capsys.readouterr()
    assert entry.run(["sample"], {}) == 0
    assert capsys.readouterr().err == ""


def test_standard_output_is_utf8_with_line_feeds(monkeypatch):
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="cp1252", newline="\r\n"))
    entry.prepare_streams()
    print("\u732b", flush=True)
    assert data.getvalue() == b"\xe7\x8c\xab\n"


def test_encoding_of_the_user_shows_other_characters_as_escapes(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="latin-1"))
    entry.prepare_streams()
    print("\u732b \xe9", flush=True)
    assert data.getvalue() == b"\\u732b \xe9\n"


def test_files_reach_the_drive_on_macos(tmp_path, monkeypatch):
    called = []
    fake = types.SimpleNamespace(F_FULLFSYNC=51, fcntl=lambda descriptor, command: called.append(command))
    monkeypatch.setitem(sys.modules, "fcntl", fake)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "fsync", lambda descriptor: called.append("fsync"))
    atomic.write_whole(tmp_path / "a.txt", b"text")
    assert called == [51, 51]  # the file and its folder

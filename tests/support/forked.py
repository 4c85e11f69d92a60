"""The command and other code in a process of its own, forked from a small server that has imported what it needs.

A process that starts from nothing takes a third of a second, most of it imports; a fork takes a few milliseconds. So
hundreds of hostile inputs can have a process each, with limits set: one that crashes, hangs or takes all memory is a
failed test and nothing worse.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from support.paths import python_path

MIB = 2**20
HANG = 60.0
"""Seconds after which a process is killed; limits on its processor time are tighter."""


class Done(NamedTuple):
    """End of a process: its exit `code` (minus the signal if killed by one); `hung` if it exceeded its time."""

    code: int
    hung: bool
    stdout: bytes
    stderr: bytes
    seconds: float
    peak: int


class Server:
    """Forks processes on request; leave it with `close`.

    Args:
        scratch: a folder for what the processes say.
        environment: of the processes beyond this one's.
    """

    def __init__(self, scratch: Path, environment: dict[str, str] | None = None) -> None:
        self._scratch = scratch
        cleared = ("KVAE_MODEL", "KVAE_DEBUG", "KVAE_MAX_FILE", "KVAE_MAX_MEMORY")
        given = {name: value for name, value in os.environ.items() if name not in cleared} | (environment or {})
        given |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": python_path(Path(__file__).parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=given
        )

    def run(
        self,
        arguments: list[str],
        folder: Path,
        *,
        code: str = "",
        address_space: int | None = None,
        seconds: int = 5,
        file_size: int | None = None,
        files: int | None = None,
        stdout: str = "",
        environment: dict[str, str] | None = None,
    ) -> Done:
        """Run `kvae ARGUMENTS` in a folder, or `code` with them in `arguments`.

        Args:
            arguments: of the command.
            folder: the working folder.
            code: Python to run instead of the command.
            address_space: bytes that it may reserve beyond what the server has.
            seconds: of processor time that it may take.
            file_size: bytes that a file which it writes may have.
            files: how many it may have open.
            stdout: where standard output goes; a file that is read back where not given.
            environment: variables to set.
        """
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "code": code,
            "limits": {"RLIMIT_AS": address_space, "RLIMIT_FSIZE": file_size, "RLIMIT_NOFILE": files},
            "seconds": seconds,
            "stdout": stdout or str(self._scratch / "stdout"),
            "stderr": str(self._scratch / "stderr"),
            "environment": environment or {},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        out = b"" if stdout else (self._scratch / "stdout").read_bytes()
        return Done(stdout=out, stderr=(self._scratch / "stderr").read_bytes(), **answer)

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    import onnxruntime  # noqa: F401
    from PIL import Image, JpegImagePlugin, PngImagePlugin  # noqa: F401

    from kvae.__main__ import COMMANDS
    from kvae_serve.writers import dispatch  # noqa: F401

    for command in COMMANDS.values():
        if not command.extra:
            command.load()
    for line in sys.stdin:
        request = json.loads(line)
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _become(request)
        hung, done = False, 0
        while not done:
            done, status, usage = os.wait4(child, os.WNOHANG)
            if not done:
                time.sleep(0.001)
                if time.monotonic() - start > HANG and not hung:
                    hung = True
                    os.kill(child, 9)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "hung": hung,
            "seconds": usage.ru_utime + usage.ru_stime,
            "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        }
        print(json.dumps(answer), flush=True)


def _become(request: dict) -> None:
    """Turn the forked process into the one that was asked for; does not return."""
    import resource
    import traceback

    try:
        for place, target in ((1, request["stdout"]), (2, request["stderr"])):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(target, flags if not target.startswith("/dev/") else os.O_WRONLY, 0o600), place)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"] + 1))
        for name, limit in request["limits"].items():
            if limit is not None:
                base = _address_space() if name == "RLIMIT_AS" else 0
                resource.setrlimit(getattr(resource, name), (base + limit, base + limit))
        if request["code"]:
            exec(request["code"], {"arguments": request["arguments"], "__name__": "__main__"})
            sys.stdout.flush()
            os._exit(0)
        from kvae.__main__ import main

        sys.argv = ["kvae", *request["arguments"]]
        main()
    except SystemExit as done:
        os._exit(done.code if isinstance(done.code, int) else 1)
    except BaseException:
        traceback.print_exc()
    os._exit(99)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 2**20
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _serve()

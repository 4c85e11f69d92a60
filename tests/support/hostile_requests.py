"""Part of the catalogue of hostile_files.py: options, outputs and limited environments, all with a valid model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.forked import MIB
from support.hostile_data import DOORS
from support.hostile_files import DATA, GOOD, Case

CONDITIONAL, UNCONDITIONAL = str(DATA / "conditional"), str(DATA / "unconditional")


def _nothing(folder: Path) -> None:
    pass


def typed(code: int, *arguments: str, prepare: Callable[[Path], object] = _nothing, **limits: Any) -> Case:
    """Return a case of `kvae sample` with the conditional model and these arguments."""
    return Case(prepare, code, ("sample", "-m", CONDITIONAL, *arguments), limits)


def label(value: str) -> Case:
    return typed(2, "--label", value, "-o", "out.npy")


OPTIONS = {
    "a label beyond the last": label("10"),
    "a negative label": label("-1"),
    "a fractional label": label("3.5"),
    "an empty label": label(""),
    "a label that is a command": label("3; rm -rf /"),
    "a label with escapes": label("\x1b[31m\n"),
    "a label of a megabyte": label("9" * 100_000),
    "a label for an unconditional model": Case(_nothing, 2, ("sample", "-m", UNCONDITIONAL, "--label", "1")),
    "a condition without a value": typed(2, "--condition", "label"),
    "an unknown condition": typed(2, "--condition", "evil\x1b[31m=1"),
    "no images": typed(2, "-n", "0"),
    "-1 images": typed(2, "-n", "-1"),
    "10^18 images": typed(2, "-n", str(10**18), "-o", "out.png"),
    "10^18 rows": typed(7, "-n", str(10**18), "-o", "out.npy"),
    "10^18 images as text": typed(2, "-n", str(10**18)),
    "10^18 files": typed(7, "-n", str(10**18), "-o", "out"),
    "10^30 images": typed(2, "-n", str(10**30), "-o", "out.npy"),
    "a grid of millions of images": typed(2, "-n", str(10**8), "-o", "out.png"),
    "x images": typed(2, "-n", "x\x1b[31m"),
    "a seed of -1": typed(2, "--seed", "-1"),
    "a seed of 2^64": typed(2, "--seed", str(2**64)),
    "a seed of 5000 digits": typed(2, "--seed", "9" * 5000),
    "a start beyond the end": typed(2, "--start", str(2**200)),
    "a temperature that is no number": typed(2, "--temperature", "nan"),
    "an infinite temperature": typed(2, "--temperature", "inf"),
    "a negative temperature": typed(2, "--temperature", "-1"),
    "a temperature of 1e300": typed(2, "--temperature", "1e300", "-o", "out.npy"),
    "no batch": typed(2, "--batch-size", "0"),
    "a batch of 10^18": typed(0, "--batch-size", str(10**18), "-o", "out.npy"),
    "a million threads": typed(2, "--threads", "1000000"),
    "an unknown option": typed(2, "--\x1b[31mevil"),
    "an unknown command": Case(_nothing, 2, ("\x1b[31mevil",)),
    "an environment that lies": typed(2, "-o", "out.npy", environment={"KVAE_MAX_MEMORY": "\x1b[31m-1"}),
    "a limit of 13 digits": typed(2, "-o", "out.npy", environment={"KVAE_MAX_FILE": "9999999999999"}),
}


def _exists(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"old")


def _read_only(folder: Path) -> None:
    (folder / "kept").mkdir()
    (folder / "kept").chmod(0o555)


def _to(target: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "out.npy").symlink_to(target)


def _to_fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "out.npy").symlink_to("pipe")


OUTPUTS = {
    "a folder that is missing": typed(7, "-o", "no/out.npy"),
    "a file that exists": typed(7, "-o", "out.npy", prepare=_exists("out.npy")),
    "a folder of that name": typed(7, "-o", "out.npy/", "--force", prepare=_exists("out.npy")),
    "a file as a folder": typed(7, "-o", "f/out.npy", prepare=_exists("f")),
    "a device": typed(7, "-o", "/dev/full"),
    "a link to a FIFO by force": typed(7, "-o", "out.npy", "--force", prepare=_to_fifo),
    "a link to nowhere": typed(7, "-o", "out.npy", prepare=_to("nowhere")),
    "a file of /proc": typed(7, "-o", "/proc/self/out.npy"),
    "a file of /sys by force": typed(7, "-o", "/sys/out.npy", "--force"),
    "a full standard output": typed(7, "-o", "-", stdout="/dev/full"),
    "a full standard output for text": typed(7, stdout="/dev/full"),
    "a full standard output for a description": Case(_nothing, 7, ("info", "-m", CONDITIONAL), {"stdout": "/dev/full"}),
    "a disk that fills up": typed(7, "-n", "1000", "-o", "out.npy", file_size=100_000),
    "a disk that fills up, .npz": typed(7, "-n", "1000", "-o", "out.npz", file_size=100_000),
    "a disk that fills up, a grid": typed(7, "-n", "1000", "--draw", "-o", "out.png", file_size=3_000),
    "a disk that fills up, a folder": typed(7, "--label", "cat", "-n", "3", "-o", "out", file_size=200),
    "more than the disk has": typed(7, "-n", str(10**10), "-o", "out.npy"),
    "an unknown suffix": typed(2, "-o", "out.exe"),
    "a suffix with escapes": typed(2, "-o", "out.\x1b[31m"),
    "the model itself": Case(
        lambda folder: (folder / "m.onnx").write_bytes(GOOD), 2, ("sample", "-m", "m.onnx", "-o", "m.onnx", "--force")
    ),
    "the folder of the model": Case(
        lambda folder: ((folder / "m").mkdir(), (folder / "m" / "decoder.onnx").write_bytes(GOOD)),
        7,
        ("sample", "-m", "./m", "-o", "./m", "--force"),
    ),
    "a long name": typed(7, "-o", "x" * 300 + ".npy"),
}

PROCESS = {
    "400 MB of address space": typed(0, "-o", "out.npy", address_space=400 * MIB),
    "20 open files": typed(0, "-o", "out.npy", files=20),
    "no home": typed(0, "-o", "out.npy", environment={"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}),
    "the C locale": typed(0, environment={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}),
    "an odd size of terminal": typed(0, environment={"COLUMNS": "-5", "LINES": "\x1b"}),
}


def lines(code: int, *requests: object, more: tuple[str, ...] = ()) -> Case:
    """Return a case of `kvae sample --requests`. Requests are objects or raw bytes; the answers contain the errors."""
    text = b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in requests)
    return Case(
        lambda folder: ((folder / "r.jsonl").write_bytes(text), (folder / "o").mkdir()),
        code,
        ("sample", "-m", CONDITIONAL, "--requests", "r.jsonl", "-o", "o", *more),
        answers=True,
    )


BY_LINE = {
    "no JSON": lines(2, b"hello"),
    "bytes": lines(2, b"\xff\xfe\x00"),
    "100,000 lists in each other": lines(2, b"[" * 100_000),
    "nine lists in each other": lines(2, {"id": [[[[[[[[[1]]]]]]]]]}),
    "2 MiB": lines(2, b'{"id": "' + b"x" * 2**21 + b'"}'),
    "a key twice": lines(2, b'{"n": 1, "n": 2}'),
    "NaN": lines(2, b'{"temperature": NaN}'),
    "1e400": lines(2, b'{"temperature": 1e400}'),
    "10^18 images": lines(2, {"n": 10**18}),
    "10^18 rows": lines(2, {"n": 10**18, "output": "a.npy"}),
    "an unknown key": lines(2, {"__class__": "os.system"}),
    "a path above": lines(2, {"output": "../evil.npy"}),
    "an absolute path": lines(2, {"output": "/tmp/evil.npy"}),
    "a NUL in a path": lines(2, {"output": "a\0.npy"}),
    "standard output": lines(2, {"output": "-"}),
    "a list of lists as label": lines(2, {"label": [["cat"]]}),
    "null as label": lines(2, {"label": None}),
    "null in a list of labels": lines(2, {"label": [None]}),
    "null as condition": lines(2, {"condition": {"label": None}}),
    "escapes as label": lines(2, {"label": "\x1b[31m"}),
    "true as a number": lines(2, {"n": True}),
    "z of texts": lines(4, {"command": "decode", "z": [["a", "b", "c"]], "label": "cat"}),
    "z of another size": lines(4, {"command": "decode", "z": [[1, 2]], "label": "cat"}),
    "z of huge numbers": lines(4, {"command": "decode", "z": [[10**400, 1, 1]], "label": "cat"}),
    "a missing file": Case(_nothing, 4, ("sample", "-m", CONDITIONAL, "--requests", "no.jsonl")),
    "a folder": Case(lambda folder: (folder / "r").mkdir(), 4, ("sample", "-m", CONDITIONAL, "--requests", "r")),
}

REQUESTS: dict[str, dict[str, Case]] = {
    "option": OPTIONS,
    "output": OUTPUTS,
    "surroundings": PROCESS,
    "request by line": BY_LINE,
    **DOORS,
}
if os.geteuid() != 0:
    OUTPUTS["a folder that may not be written"] = typed(7, "-o", "kept/out.npy", prepare=_read_only)

"""Requests, one JSON object per line, each answered with one JSON object. The model is opened once.

```
{"id": 1, "label": "3", "n": 4, "seed": 7, "output": "a.png"}
{"line": 1, "id": 1, "rows": 4, "n": 4, "conditions": {"label": ["3"]}, "seed": 7, "start": 0, "output": "a.png"}
```

Each answer is flushed before the next line is read, so that another program can wait for it. The answer to a bad line
is `{"error": {...}}`. Without an output, the answer contains `x`. docs/requests.md lists all keys.
"""
# os instead of pathlib: importing pathlib would slow down the start of the command.
# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from kvae_serve import request_fields, strict_json
from kvae_serve.errors import InputDataError, KvaeError, OutputError, RequestError, printable

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.model import Model

MAX_LINE = 2**20
"""Maximum number of bytes per line."""

MAX_DEPTH = 8

KEYS: dict[str, dict[str, request_fields.Types]] = {
    "sample": {**request_fields.SAMPLE, **request_fields.PICTURE, "output": (str,), "force": (bool,)},
    "decode": request_fields.DECODE,
}
"""Keys of a request by command, with their types. Every request may also have an `id` and a `command`."""


class FailedRequestsError(KvaeError):
    """Some requests failed. The exit code is that of the first one."""

    def __init__(self, failed: int, total: int, line: int, first: BaseException) -> None:
        self.exit_code = getattr(first, "exit_code", 1)
        super().__init__(f"{failed} of {total} requests failed, the first in line {line}: {first}")


def serve_file(model: Model, path: str, defaults: Mapping[str, Any], *, folder: str | None, batch_size: int) -> int:
    """Answer the requests of a file (`-` is standard input) on standard output; see `serve`."""
    import sys

    if sys.stdout is None:
        raise OutputError("Standard output is closed, but the answers go there. Redirect it to a file.")
    if folder is not None and not os.path.isdir(folder):
        raise OutputError(
            f"{printable(folder)} is not a folder. With --requests, -o is the folder for outputs. Create it first."
        )
    if path == "-" and sys.stdin is None:
        raise InputDataError("Standard input is closed, but requests are read from it. Give a file.")
    known = {name: value for name, value in defaults.items() if value is not None}
    try:
        opened = contextlib.nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb")  # noqa: SIM115, PTH123
    except OSError as error:
        raise InputDataError(f"{printable(path)} cannot be read: {error.strerror}. Give a file of requests.") from error
    with opened as lines:
        return serve(model, lines, sys.stdout, defaults=known, folder=folder, batch_size=batch_size)


def serve(
    model: Model,
    lines: BinaryIO,
    answers: TextIO,
    *,
    defaults: Mapping[str, Any] | None = None,
    folder: str | None = None,
    batch_size: int = 64,
) -> int:
    """Answer all requests of a stream.

    Args:
        model: A loaded model.
        lines: Binary stream of UTF-8 with one JSON object per line. Empty lines are skipped.
        answers: Stream for the answers, one JSON object per line, flushed after each.
        defaults: Keys of a `sample` request that the request may omit.
        folder: Folder for outputs; paths that lead out of it are rejected. None allows any path.
        batch_size: Rows per run of a graph.

    Returns:
        The number of requests.

    Raises:
        FailedRequestsError: After the last line, if a request failed.
    """
    total, failed, first = 0, 0, None
    for number, line in _lines(lines):
        total += 1
        answer: dict[str, Any] = {"line": number}
        try:
            if line is None:
                raise RequestError(f"The line is too long; expected at most {MAX_LINE} bytes.")
            request = parse(line)
            if "id" in request:
                answer["id"] = request.pop("id")
            answer |= _answer(model, request, defaults or {}, folder, batch_size)
        except Exception as error:
            if isinstance(error, BrokenPipeError):
                raise
            failed, first = failed + 1, first or (number, error)
            code = getattr(error, "exit_code", 1)
            message = str(error) if isinstance(error, KvaeError) else f"{type(error).__name__}: {printable(error)}"
            answer["error"] = {"message": message, "exit_code": code}
        answers.write(json.dumps(answer, allow_nan=False) + "\n")
        answers.flush()
    if first is not None:
        raise FailedRequestsError(failed, total, *first)
    return total


def parse(line: bytes) -> dict[str, Any]:
    """Parse one request. Raise `RequestError` if it is not a JSON object."""
    try:
        value = strict_json.loads(line.decode("utf-8-sig"), MAX_DEPTH)
    except ValueError as error:  # UnicodeDecodeError included.
        raise RequestError(
            f"The line is not valid JSON: {printable(error, 100)}. Write one JSON object per line."
        ) from None
    if not isinstance(value, dict):
        raise RequestError('The line is not a JSON object; expected {"label": "3", "output": "a.png"}, for example.')
    return value


def _answer(
    model: Model, request: dict[str, Any], defaults: Mapping[str, Any], folder: str | None, batch_size: int
) -> dict[str, Any]:
    # `verb` is the former name of the key.
    command = request.pop("command", request.pop("verb", "sample"))
    if not isinstance(command, str) or command not in KEYS:
        raise RequestError(f"command is {printable(repr(command), 40)}; expected {' or '.join(KEYS)}.")
    request_fields.check(command, request, KEYS[command])
    if command == "decode":
        return _decode(model, request, batch_size)
    # A request with conditions replaces all default conditions.
    inherited = {key: value for key, value in defaults.items() if key not in ("label", "condition")}
    if not {"label", "condition"} & set(request):
        inherited = dict(defaults)
    return _sample(model, inherited | request, folder, batch_size)


def _sample(model: Model, request: Mapping[str, Any], folder: str | None, batch_size: int) -> dict[str, Any]:
    from kvae_serve.writers import dispatch

    output, force = request.get("output"), request.get("force", False)
    if output is not None:
        with _inside(output, folder) as path:
            dispatch.check(path, force)
    plan = request_fields.plan(model, request, batch_size)
    if output is None:
        request_fields.check_inline(plan.rows, model.manifest.data.num_values)
    draws = plan.draw_all()
    answer, dtype = request_fields.facts(plan), request.get("dtype", "float32")
    if output is None:
        return answer | {"x": _inline(draws.x, dtype)}
    with _inside(output, folder) as path:
        style = dispatch.PictureStyle(request.get("scale"), request.get("plain", False))
        dispatch.write(path, draws, dtype=dtype, style=style, force=force)
    return answer | {"output": output if folder is None else os.path.join(folder, output)}


def _decode(model: Model, request: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    import numpy as np

    z = request_fields.latent_vectors(request)
    request_fields.check_inline(len(z), model.manifest.data.num_values)
    with np.errstate(over="ignore"):
        x = model.decode(z, request.get("condition"), label=request.get("label"), batch_size=batch_size)
    return {"rows": len(x), "x": _inline(x, request.get("dtype", "float32"))}


@contextlib.contextmanager
def _inside(output: str, folder: str | None) -> Iterator[str]:
    """Yield the path of an output. Raise `RequestError` if it leads out of the folder."""
    if output == "-":
        raise RequestError("output is -, but the answers go to standard output. Give a file, or no output to get x.")
    if "\0" in output:
        raise RequestError("output contains a NUL character. Leave it out.")
    if folder is None:
        yield output
        return
    if leads_out(output, folder):
        raise RequestError(f"{printable(output)} is outside of {printable(folder)}. Give a name inside of it.")
    from kvae_serve.writers import atomic

    with atomic.below(folder, output) as confined:
        yield confined


def leads_out(output: str, folder: str, paths: Any = os.path) -> bool:
    """Test whether a path is not below a folder.

    Args:
        output: Path that a request names.
        folder: Folder that contains all outputs.
        paths: `posixpath` or `ntpath`.
    """
    # On Windows `D:a` and `\\a` are not absolute, but lead out. A name after a colon is a stream of a file.
    if paths.isabs(output) or (paths.sep == "\\" and (":" in output or output.startswith(("/", "\\")))):
        return True
    root, real = paths.realpath(folder), paths.realpath(paths.join(folder, output))
    return real == root or paths.commonpath([root, real]) != root


def _inline(x: np.ndarray, dtype: str) -> Any:
    """Return x as nested lists, with as few digits as restore each float32. A missing cell is None."""
    import numpy as np

    if dtype == "uint8":
        if x.size and (x.min() < 0 or x.max() > 255):
            raise RequestError("x has values outside of 0 to 255, which uint8 cannot hold. Use dtype float32.")
        return np.rint(x).astype(np.uint8).tolist()
    short = [float(f"{value:.9g}") if value == value else None for value in x.ravel().tolist()]
    return np.array(short, object).reshape(x.shape).tolist()


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line that is not empty with its number from 1; None for a line that is too long."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE)):
                pass
            yield number, None
        elif line.strip():
            yield number, line

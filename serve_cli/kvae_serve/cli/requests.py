"""Requests by line: one JSON object in, one JSON object out, the model opened once.

```
{"id": 1, "label": "3", "n": 4, "seed": 7, "output": "a.png"}
{"line": 1, "id": 1, "rows": 4, "n": 4, "conditions": {"label": ["3"]}, "seed": 7, "start": 0, "output": "a.png"}
```

Each answer is flushed before the next line is read, so that whoever writes into a pipe may wait for it. A bad line is
answered with `{"error": {...}}`, and the next one is read. Where no output is named the answer holds `x` itself.
docs/requests.md has all keys.
"""
# os rather than pathlib: importing pathlib would be felt in the start of the command.
# ruff: noqa: PTH112, PTH117, PTH118

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from kvae_serve import strict_json
from kvae_serve.errors import InputDataError, KvaeError, OutputError, RequestError, printable

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.model import Model

MAX_LINE = 2**20
"""Bytes of one line."""

MAX_INLINE = 10**6
"""Numbers in one answer."""

MAX_DEPTH = 8

_NUMBER = (int, float)
_VALUE = (str, int, float, list)
KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "sample": {
        "n": (int,),
        "label": _VALUE,
        "condition": (dict,),
        "seed": (int,),
        "start": (int,),
        "temperature": _NUMBER,
        "draw": (bool,),
        "dtype": (str,),
        "output": (str,),
        "force": (bool,),
    },
    "decode": {"z": (list,), "label": _VALUE, "condition": (dict,), "dtype": (str,)},
}
"""What a request may say, by its verb, and as what; every request may also have an `id` and a `verb`."""


class FailedRequestsError(KvaeError):
    """Some lines were answered with an error; the exit code is that of the first of them."""

    def __init__(self, failed: int, total: int, line: int, first: BaseException) -> None:
        self.exit_code = getattr(first, "exit_code", 1)
        super().__init__(f"{failed} of {total} requests failed, the first in line {line}: {first}")


def serve_file(model: Model, path: str, defaults: Mapping[str, Any], *, folder: str | None, batch_size: int) -> int:
    """Answer the requests of a file, or of standard input where it is `-`, on standard output; see `serve`."""
    import contextlib
    import sys

    if sys.stdout is None:
        raise OutputError("Standard output is closed, so there is no place for answers.")
    if folder is not None and not os.path.isdir(folder):
        raise OutputError(
            f"{printable(folder)} is no folder. With --requests -o names the folder for outputs; make it."
        )
    if path == "-" and sys.stdin is None:
        raise InputDataError("Standard input is closed, so there are no requests. Give a file.")
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
    """Answer requests until there are no more.

    Args:
        model: a loaded model.
        lines: a binary stream of UTF-8, one JSON object a line; empty lines are passed over.
        answers: gets one JSON object a line, flushed.
        defaults: what a `sample` that does not say otherwise is to do.
        folder: where outputs go; a name that leads out of it is refused. None takes names as they are.
        batch_size: rows decoded at a time.

    Returns:
        How many requests there were.

    Raises:
        FailedRequestsError: after the last line, where one of them failed.
    """
    total, failed, first = 0, 0, None
    for number, line in _lines(lines):
        total += 1
        answer: dict[str, Any] = {"line": number}
        try:
            if line is None:
                raise RequestError(f"A request has at most {MAX_LINE} bytes.")
            request = parse(line)
            if "id" in request:
                answer["id"] = request.pop("id")
            answer |= _do(model, request, defaults or {}, folder, batch_size)
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
    """Return one request, or raise `RequestError` where it is no proper JSON object."""
    try:
        value = strict_json.loads(line.decode("utf-8-sig"), MAX_DEPTH)
    except ValueError as error:  # UnicodeDecodeError included.
        raise RequestError(
            f"The line is not valid JSON: {printable(error, 100)}. Write one JSON object per line."
        ) from None
    if not isinstance(value, dict):
        raise RequestError('A request is a JSON object, such as {"label": "3", "n": 4, "output": "a.png"}.')
    return value


def _do(
    model: Model, request: dict[str, Any], defaults: Mapping[str, Any], folder: str | None, batch_size: int
) -> dict[str, Any]:
    verb = request.pop("verb", "sample")
    if not isinstance(verb, str) or verb not in KEYS:
        raise RequestError(f"A request's verb is {' or '.join(KEYS)}, got {printable(repr(verb), 40)}.")
    known = KEYS[verb]
    for key, value in request.items():
        if key not in known:
            raise RequestError(
                f"A request to {verb} has no {printable(key, 40)}; it may have id, verb, {', '.join(known)}."
            )
        if not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
            names = " or ".join(_KINDS[kind] for kind in known[key])
            raise RequestError(f"{key} is {names}, got {printable(json.dumps(value), 60)}.")
    for value in (request.get("label"), *request.get("condition", {}).values()):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, list | dict | bool):
                raise RequestError(f"A label is a name, an index or a list of them; got {printable(each, 60)}.")
    if request.get("dtype", "float32") not in ("float32", "uint8"):
        raise RequestError(f"dtype is float32 or uint8, got {printable(request['dtype'], 40)}.")
    if verb == "decode":
        return _decode(model, request, batch_size)
    # A line that names labels or conditions of its own means those alone.
    inherited = {key: value for key, value in defaults.items() if key not in ("label", "condition")}
    if not {"label", "condition"} & set(request):
        inherited = dict(defaults)
    return _sample(model, inherited | request, folder, batch_size)


def _sample(model: Model, request: Mapping[str, Any], folder: str | None, batch_size: int) -> dict[str, Any]:
    from kvae_serve.sealed import noise
    from kvae_serve.writers import dispatch

    output, force = request.get("output"), request.get("force", False)
    if output is not None:
        output = _inside(output, folder)
        dispatch.check(output, force)
    given = bool(request.get("label") is not None or request.get("condition"))
    num = request.get("n", 1 if model.manifest.conditions and not given else 16)
    rows = num * len(_combinations(model, request))
    if output is None:
        _check_inline(rows, model.manifest.data.num_values)
    seed = request.get("seed")
    draws = model.sample(
        num,
        label=request.get("label"),
        conditions=request.get("condition"),
        # 53 bits: JavaScript reads the answer's seed as it stands.
        seed=noise.random_seed() >> 11 if seed is None else seed,
        start=request.get("start", 0),
        temperature=request.get("temperature", 1.0),
        draw=request.get("draw", False),
        batch_size=batch_size,
    )
    answer = {
        "rows": len(draws),
        "n": draws.num,
        "conditions": {each.name: list(dict.fromkeys(draws.names(each.name))) for each in model.manifest.conditions},
        "seed": draws.seed,
        "start": draws.start,
    }
    dtype = request.get("dtype", "float32")
    if output is None:
        return answer | {"x": _inline(draws.x, dtype)}
    dispatch.write(output, draws, dtype=dtype, force=force)
    return answer | {"output": output}


def _combinations(model: Model, request: Mapping[str, Any]) -> list[Any]:
    from kvae_serve.runtime import conditions

    return conditions.combinations(model.manifest, model.with_label(request.get("label"), request.get("condition")))


def _decode(model: Model, request: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    import numpy as np

    if "z" not in request:
        raise RequestError("A request to decode needs z: a list of points, each a list of numbers.")
    try:
        z = np.array(request["z"], np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputDataError("z is a list of points, each a list of as many numbers as z has.") from None
    z = z[None] if z.ndim == 1 else z
    _check_inline(len(z), model.manifest.data.num_values)
    with np.errstate(over="ignore"):
        x = model.decode(z, request.get("condition"), label=request.get("label"), batch_size=batch_size)
    return {"rows": len(x), "x": _inline(x, request.get("dtype", "float32"))}


def _inside(output: str, folder: str | None) -> str:
    """Return the path of an output, or raise `RequestError` where it leads out of the folder."""
    if output == "-":
        raise RequestError("Standard output carries the answers. Name a file, or leave output out for x itself.")
    if "\0" in output:
        raise RequestError("An output has no NUL in its name.")
    if folder is None:
        return output
    path = os.path.join(folder, output)
    root, real = os.path.realpath(folder), os.path.realpath(path)
    if os.path.isabs(output) or os.path.commonpath([root, real]) != root or real == root:
        raise RequestError(f"{printable(output)} leads out of {printable(folder)}. Give a name inside of it.")
    return path


def _inline(x: np.ndarray, dtype: str) -> Any:
    """Return x as nested lists, with no more digits than bring each float32 back."""
    import numpy as np

    if dtype == "uint8":
        if x.size and (x.min() < 0 or x.max() > 255):
            raise RequestError("These data lie beyond 0 to 255, so they cannot be uint8.")
        return np.rint(x).astype(np.uint8).tolist()
    short = np.array([float(f"{value:.9g}") for value in x.ravel().tolist()], np.float64)
    return short.reshape(x.shape).tolist()


def _check_inline(rows: int, values: int) -> None:
    if rows * values > MAX_INLINE:
        raise RequestError(
            f"{rows} rows of {values} numbers are more than the {MAX_INLINE} that one answer holds. "
            "Give an output, or ask for fewer."
        )


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines that hold something, with their numbers from 1; None for one that is too long."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE)):
                pass
            yield number, None
        elif line.strip():
            yield number, line


_KINDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}

"""The command `kvae`: runs a verb, and turns every way in which it can end into an exit code and at most one line.

Nothing heavy is imported here, not even click: an interrupt during the imports is to end as quietly as any other.
The verbs stand in `kvae_serve.cli.commands_table`, their click commands in `kvae_serve.cli.commands`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import NoReturn

from kvae_serve.cli.commands_table import is_light, missing_extra
from kvae_serve.errors import KvaeError, printable
from kvae_serve.runtime import process

INTERRUPTED = 130
# What writing to a standard output that is full, gone or closed gives.
_STREAM_ERRORS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)


def main() -> NoReturn:
    """Run the command with the arguments of the process, and end the process."""
    process.ours = True
    arguments = sys.argv[1:] or ["--help"]
    code = _flush(run(arguments), "--json" in arguments)
    if is_light(arguments[0]):
        # Everything is written: taking ONNX Runtime and numpy down in order would cost a fifth of the whole run.
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; print what goes wrong as one line on standard error.

    Args:
        arguments: as typed, the verb first.

    Returns:
        The exit code.
    """
    as_json = "--json" in arguments
    verb = arguments[0] if arguments else ""
    try:
        if is_light(verb):
            # Threads of OpenBLAS take time to start, and nothing here multiplies matrices in numpy.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        return _invoke(arguments)
    except KvaeError as error:
        return _fail(str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        return _fail("Interrupted.", INTERRUPTED, as_json)
    except BrokenPipeError:
        return 0  # Who read our output has had enough, as `head` does.
    except ModuleNotFoundError as error:
        missing = missing_extra(verb, error)
        if missing is None:
            return _bug(error, as_json)
        return _fail(str(missing), missing.exit_code, as_json)
    except OSError as error:
        if error.filename is None and error.errno in _STREAM_ERRORS:
            return _fail(f"Standard output cannot be written: {error.strerror}.", 7, as_json)
        return _bug(error, as_json)
    except Exception as error:
        return _bug(error, as_json)


def _invoke(arguments: list[str]) -> int:
    import click

    from kvae_serve.cli.group import group

    if "_KVAE_COMPLETE" in os.environ:
        from kvae_serve.cli.shell_completion import answer

        return answer(group)
    try:
        with group.make_context("kvae", list(arguments)) as context:
            group.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "kvae"
        return _fail(
            f"{printable(error.format_message(), 150)} See `{where} --help`.", error.exit_code, "--json" in arguments
        )
    return 0


def _fail(message: str, code: int, as_json: bool) -> int:
    if os.environ.get("KVAE_DEBUG") == "1":
        import traceback

        _print_error(traceback.format_exc())
    if as_json:
        import json

        _print_error(json.dumps({"error": {"message": message, "exit_code": code}}))
    else:
        _print_error("Error: " + printable(message, 1000))
    return code


def _bug(error: Exception, as_json: bool) -> int:
    what = f"{type(error).__name__}: {printable(error)}" if str(error) else type(error).__name__
    return _fail(f"This is a bug of kvae ({what}). Please report it; KVAE_DEBUG=1 shows where it is.", 1, as_json)


def _print_error(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def _flush(code: int, as_json: bool) -> int:
    """Write out what is still in the buffers; return the exit code after that."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            _drop(stream)
        except OSError as error:
            _drop(stream)
            if code == 0:
                code = _fail(f"Standard output cannot be written: {error.strerror}.", 7, as_json)
    return code


def _drop(stream: object) -> None:
    """Point a stream nowhere, so that the end of the process does not try it once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[attr-defined]

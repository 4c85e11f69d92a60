"""Entry point of the command `kvae`: run a command, turn every outcome into an exit code and at most one line of error.

The caller passes the table of commands, so that this package does not name the packages above it. Click is imported
only inside the functions: Ctrl-C during the imports must end as quietly as at any other time.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import NoReturn

from kvae_serve.cli import termination
from kvae_serve.cli.commands_table import Commands, is_light, missing_extra
from kvae_serve.errors import KvaeError, printable
from kvae_serve.runtime import onnxruntime

INTERRUPTED = 130
# Errors of writing to a standard output that is full, gone or closed.
_STREAM_ERRORS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)
# Of writing to a pipe whose reader has ended. Windows reports EINVAL.
_CLOSED_PIPE = (errno.EPIPE, errno.EINVAL) if sys.platform == "win32" else (errno.EPIPE,)


def main(commands: Commands) -> NoReturn:
    """Run the command line of this process, then end the process."""
    onnxruntime.IS_COMMAND = True
    termination.install()
    prepare_streams()
    arguments = sys.argv[1:] or ["--help"]
    code = _flush(run(arguments, commands), "--json" in arguments)
    if is_light(arguments[0], commands):
        # Everything is written. Shutting down ONNX Runtime and numpy in order would take a fifth of the whole run.
        os._exit(code)
    sys.exit(code)


def prepare_streams() -> None:
    """Set the encoding of standard output.

    To a file or a pipe it is UTF-8 with line feeds, the bytes that `-o` writes, unless PYTHONIOENCODING is set. Windows
    and some locales have other encodings. A terminal shows characters that it does not have as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if not (stream.isatty() or "PYTHONIOENCODING" in os.environ):
                stream.reconfigure(encoding="utf-8", newline="\n")
            stream.reconfigure(errors="backslashreplace")
    if sys.platform == "win32":
        with contextlib.suppress(ImportError, AttributeError):
            import colorama  # of click, on Windows only

            colorama.just_fix_windows_console()


def run(arguments: list[str], commands: Commands) -> int:
    """Run one command; print an error as one line on standard error.

    Args:
        arguments: Words of the command line, the name of the command first.
        commands: Table of commands.

    Returns:
        The exit code.
    """
    if sys.stderr is None:  # The caller closed it. click 8.1.0 cannot print messages then.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    as_json = "--json" in arguments
    name = arguments[0] if arguments else ""
    try:
        if is_light(name, commands):
            # The threads of OpenBLAS take time to start, and light commands do not multiply matrices in numpy.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        return _invoke(arguments, commands)
    except KvaeError as error:
        return _fail(str(error), error.exit_code, as_json)
    except termination.Terminated as error:
        return _fail("Terminated.", error.exit_code, as_json)
    except KeyboardInterrupt:
        return _fail("Interrupted.", INTERRUPTED, as_json)
    except ModuleNotFoundError as error:
        missing = missing_extra(name, commands, error)
        if missing is None:
            return _bug(error, as_json)
        return _fail(str(missing), missing.exit_code, as_json)
    except OSError as error:
        if _is_closed_pipe(error):
            return 0  # The reader ended, for example `head`.
        if error.filename is None and error.errno in _STREAM_ERRORS:
            return _fail(f"Standard output cannot be written: {error.strerror}.", 7, as_json)
        return _bug(error, as_json)
    except Exception as error:
        return _bug(error, as_json)


def _invoke(arguments: list[str], commands: Commands) -> int:
    import click

    from kvae_serve.cli.group import group as group_of

    group = group_of(commands)
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
        _print_error("Error: " + printable(message, 3000))
    return code


def _bug(error: Exception, as_json: bool) -> int:
    if termination.received:
        return _fail("Terminated.", 128 + termination.received, as_json)
    what = f"{type(error).__name__}: {printable(error)}" if str(error) else type(error).__name__
    return _fail(f"This is a bug of kvae ({what}). Please report it. KVAE_DEBUG=1 prints a traceback.", 1, as_json)


def _print_error(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def _flush(code: int, as_json: bool) -> int:
    """Flush the standard streams; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            _drop(stream)
            if code == 0 and not _is_closed_pipe(error):
                code = _fail(f"Standard output cannot be written: {error.strerror}.", 7, as_json)
    return code


def _is_closed_pipe(error: OSError) -> bool:
    return error.filename is None and error.errno in _CLOSED_PIPE


def _drop(stream: object) -> None:
    """Redirect a stream to the null device, so that Python does not flush it again on exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[attr-defined]

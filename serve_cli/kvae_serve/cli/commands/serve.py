"""The command `kvae serve`."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import click

from kvae_serve.cli import completers, options
from kvae_serve.errors import RequestError, printable
from kvae_serve.runtime.locate import DEFAULT

if TYPE_CHECKING:
    from kvae_serve.model import Model

MIB = 2**20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command(epilog="Example: kvae serve -m mnist -m ./my-model --port 8000")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=completers.model,
    help="Folder, .onnx file, name of a shipped model, or address hf://owner/repo. May be repeated.  [default: "
    f"$KVAE_MODEL, or {DEFAULT}]",
)
@click.option(
    "--host",
    default=LOOPBACK[0],
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. 0.0.0.0 is every network of this machine.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    metavar="N",
    help="Port to listen on; 0 chooses a free one.",
)
@click.option(
    "--token",
    envvar="KVAE_TOKEN",
    show_envvar=True,
    metavar="TEXT",
    help="Bearer token that requests must have. Users of this machine can see a command line, but not the variable.",
)
@click.option(
    "--max-rows", type=options.MIN_1, default=1024, show_default=True, metavar="N", help="Maximum rows per request."
)
@click.option(
    "--max-body",
    type=options.MIN_1,
    default=16,
    show_default=True,
    metavar="MIB",
    help="Maximum size of the body of a request, in MiB.",
)
@click.option(
    "--workers",
    type=options.MIN_1,
    metavar="N",
    help="Number of requests that are computed at the same time.  [default: number of processors, 8 at most]",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    metavar="N",
    help="Number of requests that wait for a worker. Further ones are answered with 429.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Maximum time of a request, with waiting.",
)
@click.option("--access-log", is_flag=True, help="Print a line per request on standard error.")
@options.quiet
@options.runtime_args(batch_size=False)
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    token: str | None,
    max_rows: int,
    max_body: int,
    workers: int | None,
    queue: int,
    timeout: float,
    access_log: bool,
    quiet: bool,
    runtime: options.RuntimeArgs,
) -> None:
    """Answer HTTP requests for samples, codes, reconstructions and scores.

    The explorer of the first model is at /, a description of the API at /docs. The server listens on this machine only,
    unless --host is given. Ctrl-C or SIGTERM answers the requests that have started, and then ends the server.
    """
    # Imported here, so that --help works without the extra.
    from kvae_serve.http_server import app, run

    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
        raise RequestError("The token is empty or contains spaces at an end; expected printable ASCII characters.")
    loaded = _load(models or (os.environ.get("KVAE_MODEL") or DEFAULT,), runtime)
    limits = app.Limits(max_rows, max_body * MIB, workers or min(8, os.cpu_count() or 1), queue, timeout)
    only_local = host in LOOPBACK
    application = app.application(loaded, limits, token=token, only_local=only_local)
    with _listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        if not only_local:
            click.echo(
                f"Warning: --host {printable(host)} makes the models available to other machines, without encryption"
                f"{'' if token else ' and without a token'}. Use {'' if token else '--token and '}a proxy with TLS.",
                err=True,
            )
        if not quiet:
            names = ", ".join(printable(name, 60) for name in loaded)
            click.echo(
                f"Serving {names} at http://{shown}:{listening.getsockname()[1]}. Ctrl-C ends the server.", err=True
            )
        run.run(application, listening, access_log=access_log)
    if not quiet:
        click.echo("The server has ended.", err=True)


def _load(models: tuple[str, ...], runtime: options.RuntimeArgs) -> dict[str, Model]:
    loaded: dict[str, Model] = {}
    for path in models:
        place = path.rstrip("/") if "://" in path else os.path.abspath(path)  # noqa: PTH100
        name = os.path.basename(place).removesuffix(".onnx")  # noqa: PTH119
        if name in loaded:
            raise RequestError(f"Two models have the name {printable(name, 60)}. Rename a folder, or leave one out.")
        loaded[name] = runtime.load(path)
    return loaded


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"{printable(host)}:{port} cannot be used: {printable(reason, 60)}. Use another --host or --port."
        ) from error

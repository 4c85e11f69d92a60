"""Run the application in uvicorn until a signal ends it."""

from __future__ import annotations

import logging
import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette

GRACE_SECONDS = 30
"""Time for requests that have started when the server is told to end."""


def run(application: Starlette, listening: socket.socket, *, access_log: bool = False) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. Requests that have started are answered; a second Ctrl-C ends at once.

    Args:
        application: The application.
        listening: Socket that listens.
        access_log: Whether to print a line per request on standard error.
    """
    config = uvicorn.Config(
        application,
        access_log=access_log,
        log_config=None,
        log_level=logging.ERROR,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    if access_log:
        logger = logging.getLogger("uvicorn.access")
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    server = uvicorn.Server(config)
    # uvicorn raises the signals again after its end, for the handlers that were there before.
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ignored = {number for number in signals if signal.getsignal(number) is signal.SIG_IGN}
    before = {number: signal.signal(number, server.handle_exit) for number in signals if number not in ignored}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)

"""A server of models in a thread of the test, and requests to it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kvae_serve.model import load


class Reply(NamedTuple):
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Message of an error."""
        return self.json()["error"]["message"]


class Client:
    """Requests to a server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, headers: Mapping[str, str] = {}, method: str = "GET") -> Reply:
        """Send a request without a body."""
        return self._send(urllib.request.Request(self.url + path, headers=dict(headers), method=method))

    def post(self, path: str, document: Any, headers: Mapping[str, str] = {}) -> Reply:
        """Send JSON, or bytes as they are."""
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"Content-Type": "application/json", **headers}
        return self._send(urllib.request.Request(self.url + path, content, headers, method="POST"))

    def _send(self, request: urllib.request.Request) -> Reply:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return Reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.headers, error.read())


@contextlib.contextmanager
def running(paths: list[Path], limits: Any = None, **options: Any) -> Iterator[Client]:
    """Serve models by the names of their folders, until the block ends."""
    import socket

    import uvicorn

    from kvae_serve.http_server import app

    application = app.application({path.name: load(path) for path in paths}, limits or app.Limits(), **options)
    config = uvicorn.Config(application, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Client(f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.should_exit = True
        thread.join(10)

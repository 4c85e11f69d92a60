"""ASGI application: routes, limits, the bearer token, and errors as JSON."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import functools
import hmac
import html
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kvae_serve import __version__, explorer
from kvae_serve.errors import KvaeError, RequestError, printable
from kvae_serve.http_server import formats, openapi, operations
from kvae_serve.model import Model
from kvae_serve.row_stream import Chunk

STATUS = {1: 500, 2: 400, 3: 501, 4: 422, 5: 422, 6: 503, 7: 500, 8: 500}
"""HTTP status of each exit code. Files are opened at the start, so a later failure of a graph (5), such as NaN in its
output, is due to the input."""

_LOOPBACK = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)
_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_PAGE_HEADERS = {"content-security-policy": _POLICY}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        rows: Rows per request.
        body: Bytes of the body of a request.
        workers: Requests that are computed at the same time.
        queue: Requests that wait for a worker.
        seconds: Time of a request, with reading its body and waiting.
    """

    rows: int = 1024
    body: int = 16 * 2**20
    workers: int = 2
    queue: int = 64
    seconds: float = 60.0


def application(
    models: Mapping[str, Model],
    limits: Limits = Limits(),
    *,
    token: str | None = None,
    only_local: bool = True,
) -> Starlette:
    """Return the application.

    Args:
        models: Models by the name in their addresses. They are renamed to it, and their graphs opened, so that damaged
            files fail here.
        limits: Limits of the server.
        token: Bearer token that all requests but `/health` must have.
        only_local: Whether to answer only to names of this machine. This stops pages of other sites that point a name
            of theirs to 127.0.0.1 (DNS rebinding).

    Raises:
        ModelFileError: A graph is invalid.
    """
    for name, model in models.items():
        model.rename(name)  # Clients do not learn the folders of this machine.
        for graph in model.graphs:
            model.session(graph)
    server = _Server(models, limits)
    return Starlette(
        routes=[
            Route("/", server.answered(server.home)),
            Route("/explorer/{name}", server.answered(server.explorer)),
            Route("/docs", server.answered(server.docs)),
            Route("/openapi.json", server.answered(server.openapi)),
            Route("/health", server.answered(server.health)),
            Route("/v1/models", server.answered(server.list_models)),
            Route("/v1/models/{name}/info", server.answered(server.info)),
            Route("/v1/models/{name}/verify", server.answered(server.verify)),
            *(
                Route(
                    f"/v1/models/{{name}}/{operation}",
                    server.answered(functools.partial(server.operate, operation=operation)),
                    methods=["GET", "POST"] if operation == "sample" else ["POST"],
                )
                for operation in operations.OPERATIONS
            ),
        ],
        middleware=[Middleware(_Headers), Middleware(_Guard, token=token, only_local=only_local)],
        exception_handlers={HTTPException: _http_error},
    )


_Handler = Callable[[Request], Awaitable[Response]]
_Work = Callable[[float], Response]


class _Server:
    """Handlers of the routes. Computations run in a few threads, and a bounded number of requests waits for them."""

    def __init__(self, models: Mapping[str, Model], limits: Limits) -> None:
        self._models, self._limits = dict(models), limits
        self._pages: dict[str, str] = {}
        self._free = limits.workers + limits.queue
        self._threads = ThreadPoolExecutor(limits.workers, "kvae")

    @staticmethod
    def answered(handler: _Handler) -> _Handler:
        """Return the handler with its errors as JSON."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except HTTPException as error:
                return await _http_error(request, error)
            except KvaeError as error:
                return _error(STATUS.get(error.exit_code, 500), str(error), error.exit_code)
            except TimeoutError:
                return _error(504, "The request took too long. Request fewer rows, or raise --timeout.")
            except (MemoryError, RecursionError):
                return _error(413, "The request needs too much memory. Request fewer rows.")
            except Exception as error:
                what = f"{type(error).__name__}: {printable(error)}"
                return _error(500, f"This is a bug of kvae ({what}). Please report it.", 1)

        return answer

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok", "version": __version__})

    async def home(self, request: Request) -> Response:
        return await self._page(next(iter(self._models)))

    async def explorer(self, request: Request) -> Response:
        return await self._page(self._model_name(request))

    async def docs(self, request: Request) -> Response:
        return HTMLResponse(openapi.page(self._description()), headers=_PAGE_HEADERS)

    async def openapi(self, request: Request) -> Response:
        return _json(self._description())

    async def list_models(self, request: Request) -> Response:
        limits = {"rows": self._limits.rows, "body": self._limits.body, "seconds": self._limits.seconds}
        return _json({"models": [openapi.summary(*each) for each in self._models.items()], "limits": limits})

    async def info(self, request: Request) -> Response:
        model = self._models[self._model_name(request)]
        return await self._run(None, lambda deadline: _json(model.info()))

    async def verify(self, request: Request) -> Response:
        model = self._models[self._model_name(request)]

        def work(deadline: float) -> Response:
            checks = model.verify()
            ok = all(each.ok for each in checks)
            document = {"ok": ok, "model_id": model.manifest.model_id, "checks": [each._asdict() for each in checks]}
            return _json(document, 200 if ok else STATUS[6])

        return await self._run(None, work)

    async def operate(self, request: Request, operation: str) -> Response:
        """Answer a request for rows."""
        name = self._model_name(request)
        model = self._models[name]
        if operation not in operations.available(model):
            raise HTTPException(404, f"{printable(name, 60)} does not have the graphs for {operation}; see /v1/models.")
        offered = formats.offered(operations.OPERATIONS[operation], operation, model.manifest)
        kind = formats.choose(", ".join(request.headers.getlist("accept")), offered)
        if kind is None:
            raise HTTPException(406, f"The answer can be {', '.join(offered)}. Accept one of them.")
        if request.method == "POST":
            media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media != formats.JSON:
                raise HTTPException(
                    415, f"The body is {printable(media or 'of no type', 60)}; send Content-Type: {formats.JSON}."
                )
            parse = _parse
        else:
            fields = openapi.from_query(request.query_params.multi_items())
            parse = functools.partial(_no_body, fields)

        def work(deadline: float, content: bytes) -> Response:
            answer = operations.answer(operation, model, parse(content), self._limits.rows)
            headers = {"kvae-seed": str(answer.facts["seed"])} if "seed" in answer.facts else {}
            if answer.rows is not None:
                chunks = _before(deadline, answer.rows.chunks)
                answer = dataclasses.replace(answer, rows=dataclasses.replace(answer.rows, chunks=chunks))
            with np.errstate(over="ignore"):  # What overflows is refused as infinite.
                content = formats.body(answer, kind)
            return Response(content, media_type=kind, headers=headers | {"vary": "accept"})

        return await self._run(request, work)

    def _model_name(self, request: Request) -> str:
        name = request.path_params["name"]
        if name not in self._models:
            raise HTTPException(404, f"There is no model {printable(name, 60)}; see /v1/models.")
        return name

    def _description(self) -> dict[str, Any]:
        return openapi.description(self._models, self._limits.rows)

    async def _page(self, name: str) -> Response:
        def work(deadline: float) -> Response:
            if name not in self._pages:
                self._pages[name] = _with_links(explorer.render(self._models[name], name=name), list(self._models))
            return HTMLResponse(self._pages[name], headers={"content-security-policy": "frame-ancestors 'none'"})

        return await self._run(None, work)

    async def _run(self, request: Request | None, work: Callable[..., Response]) -> Response:
        """Run work in a thread, with the body of a request if it is given, within the limits.

        Raises:
            HTTPException: The queue is full (429), or the body is too large (413).
            TimeoutError: The time is over. The thread ends at the next chunk of rows, and is only then free.
        """
        if self._free <= 0:
            raise HTTPException(429, "The server is busy. Send the request again later.", {"retry-after": "1"})
        self._free -= 1
        future: Future[Response] | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.seconds):
                deadline = time.monotonic() + self._limits.seconds
                content = [await self._body(request)] if request is not None else []
                future = self._threads.submit(work, deadline, *content)
                return await asyncio.wrap_future(future)
        finally:
            if future is None or future.done():
                self._free += 1
            else:
                future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))

    def _release(self) -> None:
        self._free += 1

    async def _body(self, request: Request) -> bytes:
        limit = self._limits.body
        too_large = HTTPException(413, f"The body is too large; expected at most {limit} bytes. Send fewer rows.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)
        return b"".join(parts)


class _Headers:
    """Adds the headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Guard:
    """Refuses host names of other machines, and requests without the bearer token.

    A browser may send the token as the password of HTTP Basic.
    """

    def __init__(self, app: ASGIApp, token: str | None, only_local: bool) -> None:
        self._app, self._token, self._only_local = app, token.encode() if token is not None else None, only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._refusal(scope) or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["type"] == "lifespan":
            return None
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if self._only_local and not _LOOPBACK.fullmatch(host):
            name = printable(host.decode("latin-1"), 60) or "missing"
            return _error(400, f"The host is {name}; expected localhost or 127.0.0.1. Use one of them, or see --host.")
        if self._token is None or scope["path"] == "/health" or self._is_allowed(headers, self._token):
            return None
        answer = _error(401, "The token is missing or wrong. Send Authorization: Bearer TOKEN.")
        answer.headers.append("www-authenticate", "Bearer")
        answer.headers.append("www-authenticate", 'Basic realm="kvae: the token is the password", charset="UTF-8"')
        return answer

    @staticmethod
    def _is_allowed(headers: Mapping[bytes, bytes], token: bytes) -> bool:
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            try:
                credentials = base64.b64decode(credentials, validate=True).partition(b":")[2]
            except ValueError:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(credentials.strip(), token)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(content or b"{}")
        orjson.dumps(request.get("id") if isinstance(request, dict) else None)
    except (ValueError, TypeError) as error:
        raise RequestError(f"The body is not valid JSON: {printable(error, 100)}. Send one JSON object.") from None
    if not isinstance(request, dict):
        raise RequestError('The body is not a JSON object; expected {"label": "3", "n": 4}, for example.')
    return request


def _no_body(fields: dict[str, Any], content: bytes) -> dict[str, Any]:
    return fields


def _before(deadline: float, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield chunks until the time is over, which raises `TimeoutError`."""
    for chunk in chunks:
        yield chunk
        if time.monotonic() > deadline:
            raise TimeoutError


def _with_links(page: str, names: Sequence[str]) -> str:
    """Return the explorer with links to the other models and to the description of the API."""
    models = {f"/explorer/{quote(each, safe='')}": each for each in names} if len(names) > 1 else {}
    links = [f'<a href="{path}">{html.escape(name)}</a>' for path, name in (models | {"/docs": "HTTP API"}).items()]
    below = '<p id="subtitle" class="soft"></p>'
    return page.replace(below, f'{below}\n<nav class="soft" aria-label="Server">{" · ".join(links)}</nav>', 1)


def _json(document: Any, status: int = 200) -> Response:
    return Response(formats.to_json(document), status, media_type=formats.JSON)


def _error(status: int, message: str, exit_code: int | None = None) -> Response:
    error = {"message": message} | ({} if exit_code is None else {"exit_code": exit_code})
    return _json({"error": error}, status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {404: "There is no such address; see /docs.", 405: "This address does not have this method; see /docs."}
    is_default = error.detail in ("Not Found", "Method Not Allowed")
    answer = _error(error.status_code, messages.get(error.status_code, error.detail) if is_default else error.detail)
    answer.headers.update(error.headers or {})
    return answer

"""Local server with the routes of the Hugging Face Hub that downloads and uploads of models use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

Answer = Callable[[BaseHTTPRequestHandler], bool]


class FakeHub:
    """Repositories in memory: for each commit the files, for each branch the commit.

    Attributes:
        url: Address of the server, for HF_ENDPOINT.
        requests: Method, path and Authorization header of every request.
        intercept: Function that may answer a request itself; it returns whether it did.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.stated: dict[str, dict[str, object]] = {}
        self.intercept: Answer | None = None
        self.private: set[str] = set()

    def commit(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to a branch; return its 40 digits."""
        text = json.dumps([repo, len(self.commits.get(repo, ())), sorted(files)]).encode()
        text += b"".join(files[name] for name in sorted(files))
        sha = hashlib.sha1(text).hexdigest()
        self.commits.setdefault(repo, {})[sha] = dict(files)
        self.branches.setdefault(repo, {})[branch] = sha
        return sha

    def find(self, repo: str, revision: str) -> str | None:
        """Return the commit of a branch or a commit."""
        sha = self.branches.get(repo, {}).get(revision, revision)
        return sha if sha in self.commits.get(repo, {}) else None

    def paths(self, method: str) -> list[str]:
        """Return the paths of all requests with a method."""
        return [path for each, path, _ in self.requests if each == method]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run a hub on a free port of 127.0.0.1."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def is_large(name: str) -> bool:
    """Return whether the hub stores a file as a large file, with its SHA-256."""
    return name.endswith((".onnx", ".png"))


def git_hash(data: bytes) -> str:
    """Return the hash of a file in Git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send a JSON document."""
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, self.path, self.headers.get("Authorization")))
        if self.hub.intercept is not None and self.hub.intercept(self):
            return
        parts = [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._api("/".join(parts[2:4]), parts[4:], body)
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts == ["api", "validate-yaml"]:
            self.json({"errors": [], "warnings": []})
        elif parts[-3:] == ["info", "lfs", "objects"] or parts[-2:] == ["objects", "batch"]:
            objects = json.loads(body)["objects"]
            for each in objects:
                each["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}
            self.json({"objects": objects})
        elif parts[0] == "lfs" and self.command == "PUT":
            self.hub.lfs[parts[1]] = body
            self.answer(200)
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.answer(404)

    def _missing(self, code: str) -> None:
        self.answer(404, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _create(self, request: dict[str, object]) -> None:
        repo = f"{request['organization']}/{request['name']}" if request.get("organization") else str(request["name"])
        if repo in self.hub.commits:
            self.json({"error": "exists", "url": f"{self.hub.url}/{repo}"}, 409)
            return
        if request.get("private") or request.get("visibility") == "private":
            self.hub.private.add(repo)
        self.hub.commit(repo, {".gitattributes": b""})
        self.json({"url": f"{self.hub.url}/{repo}"})

    def _api(self, repo: str, rest: list[str], body: bytes) -> None:
        if repo not in self.hub.commits:
            self._missing("RepoNotFound")
            return
        kind, revision = (rest or ["revision", "main"])[:2]
        if kind == "branch":
            self.hub.branches[repo].setdefault(revision, self.hub.branches[repo]["main"])
            self.json({})
            return
        sha = self.hub.find(repo, revision)
        if sha is None:
            self._missing("RevisionNotFound")
        elif kind == "revision":
            siblings = self._siblings(self.hub.commits[repo][sha])
            self.json({"id": repo, "modelId": repo, "sha": sha, "siblings": siblings})
        elif kind == "preupload":
            files = json.loads(body)["files"]
            modes = ["lfs" if is_large(file["path"]) else "regular" for file in files]
            answers = [
                {"path": f["path"], "uploadMode": m, "shouldIgnore": False} for f, m in zip(files, modes, strict=True)
            ]
            self.json({"files": answers, "commitOid": sha})
        elif kind == "commit":
            files = dict(self.hub.commits[repo][sha])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    files[entry["value"]["path"]] = self.hub.lfs[entry["value"]["oid"]]
            oid = self.hub.commit(repo, files, revision)
            self.json({"commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "success": True})
        else:
            self.answer(404)

    def _siblings(self, files: dict[str, bytes]) -> list[dict[str, object]]:
        siblings = []
        for name, data in files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_hash(data)}
            if is_large(name):
                entry["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
            siblings.append({**entry, **self.hub.stated.get(name, {})})
        return siblings

    def _file(self, repo: str, revision: str, name: str) -> None:
        sha = self.hub.find(repo, revision)
        if repo not in self.hub.commits or sha is None:
            self._missing("RevisionNotFound" if repo in self.hub.commits else "RepoNotFound")
            return
        data = self.hub.commits[repo][sha].get(name)
        if data is None:
            self._missing("EntryNotFound")
            return
        etag = hashlib.sha256(data).hexdigest() if is_large(name) else git_hash(data)
        self.answer(200, data, {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "none"})


def stall(seconds: float) -> Answer:
    """Return an answer that comes after the client's patience."""

    def intercept(handler: BaseHTTPRequestHandler) -> bool:
        time.sleep(seconds)
        return False

    return intercept

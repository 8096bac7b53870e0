"""A hub on a free local port: the few routes that huggingface_hub asks for, over real HTTP, with faults to order."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?")
_FILE = re.compile(r"(?:/(?P<kind>datasets))?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = "a" * 40
    names: tuple[str, ...] = ("main",)
    """Branches and tags that stand for the commit."""
    gated_for: str | None = None
    """The only token that may read it."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes to claim in the listing, where they are not those of the files."""


@dataclass
class LocalHub:
    """What the server serves, and what it was asked."""

    url: str = ""
    models: dict[str, list[Repository]] = field(default_factory=dict)
    datasets: dict[str, list[Repository]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Names of files whose transfer breaks off half way, and fails when it is asked for again."""
    status: int | None = None
    """Answer everything with this status."""

    def fetched(self) -> list[str]:
        """File names of the GET requests so far, without API calls."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET ") and "/resolve/" in line]


@contextmanager
def running_hub() -> Iterator[LocalHub]:
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refusal(Exception):
    def __init__(self, status: int, code: str | None = None) -> None:
        self.status = status
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        return None

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.tokens.add(token)
        try:
            if self.hub.status:
                raise _Refusal(self.hub.status)
            if info := _INFO.fullmatch(path):
                self._send_info(self._repository(info["kind"], info["repo"], info["revision"], token, is_listing=True))
            elif file := _FILE.fullmatch(path):
                repository = self._repository(file["kind"], file["repo"], file["revision"], token, is_listing=False)
                self._send_file(repository, file["name"])
            else:
                raise _Refusal(404)
        except _Refusal as refusal:
            self._send(refusal.status, b"", {"X-Error-Code": refusal.code} if refusal.code else {})

    def _repository(
        self, kind: str | None, repo: str, revision: str | None, token: str | None, *, is_listing: bool
    ) -> Repository:
        shelf = self.hub.datasets if kind == "datasets" else self.hub.models
        if repo not in shelf:
            raise _Refusal(404, "RepoNotFound")
        wanted = revision or "main"
        found = next((one for one in shelf[repo] if wanted in (one.commit, *one.names)), None)
        if found is None:
            raise _Refusal(404, "RevisionNotFound")
        if found.gated_for and token != found.gated_for and not is_listing:  # listings of gated models are public
            raise _Refusal(403 if token else 401, "GatedRepo")
        return found

    def _send_info(self, repository: Repository) -> None:
        siblings = [
            {"rfilename": name, "size": repository.sizes.get(name, len(data)), "blobId": _etag(data)}
            for name, data in repository.files.items()
        ]
        body = json.dumps({"id": "owner/name", "sha": repository.commit, "siblings": siblings}).encode()
        self._send(200, body, {"Content-Type": "application/json"})

    def _send_file(self, repository: Repository, name: str) -> None:
        if name not in repository.files:
            raise _Refusal(404, "EntryNotFound")
        data = repository.files[name]
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": repository.commit}
        file = name.rpartition("/")[2]
        if self.command == "GET" and file in self.hub.broken:
            if self.hub.fetched().count(file) > 1:
                raise _Refusal(500)
            self._send(200, data, headers, cut_at=len(data) // 2)
        else:
            self._send(200, data, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut_at: int | None = None) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut_at])
        self.close_connection = True


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()

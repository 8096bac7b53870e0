"""A hub on a free local port: the few routes that huggingface_hub asks for, over real HTTP, with faults to order."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?")
_FILE = re.compile(r"(?:/(?P<kind>datasets))?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = "a" * 40
    names: tuple[str, ...] = ("main",)
    """Branches and tags that stand for the commit."""
    gated_for: str | None = None
    """The only token that may read it."""
    is_private: bool = False
    commits: list[str] = field(default_factory=list)
    """Their messages."""
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
    honours_ranges: bool = True
    sent_bytes: int = 0
    """In answers to range requests."""
    large: dict[str, bytes] = field(default_factory=dict)
    """What was uploaded as large files, by SHA-256."""
    writer: str | None = None
    """The only token that may write."""
    status: int | None = None
    """Answer everything with this status."""

    def fetched(self) -> list[str]:
        """File names of the GET requests so far, without API calls."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET ") and "/resolve/" in line]


class Refusal(Exception):
    def __init__(self, status: int, code: str | None = None, body: bytes = b"") -> None:
        self.status = status
        self.code = code
        self.body = body


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


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
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
                raise Refusal(self.hub.status)
            if self.command in ("POST", "PUT"):
                self._send_json(write(self.hub, path, token, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
            elif info := _INFO.fullmatch(path):
                self._send_info(self._repository(info["kind"], info["repo"], info["revision"], token, is_listing=True))
            elif file := _FILE.fullmatch(path):
                repository = self._repository(file["kind"], file["repo"], file["revision"], token, is_listing=False)
                self._send_file(repository, file["name"])
            else:
                raise Refusal(404)
        except Refusal as refusal:
            self._send(refusal.status, refusal.body, {"X-Error-Code": refusal.code} if refusal.code else {})

    def _repository(
        self, kind: str | None, repo: str, revision: str | None, token: str | None, *, is_listing: bool
    ) -> Repository:
        shelf = self.hub.datasets if kind == "datasets" else self.hub.models
        if repo not in shelf:
            raise Refusal(404, "RepoNotFound")
        wanted = revision or "main"
        found = next((one for one in shelf[repo] if wanted in (one.commit, *one.names)), None)
        if found is None:
            raise Refusal(404, "RevisionNotFound")
        if found.gated_for and token != found.gated_for and not is_listing:  # listings of gated models are public
            raise Refusal(403 if token else 401, "GatedRepo")
        return found

    def _send_info(self, repository: Repository) -> None:
        siblings = [
            {"rfilename": name, "size": repository.sizes.get(name, len(data)), "blobId": _etag(data)}
            for name, data in repository.files.items()
        ]
        self._send_json({"id": "owner/name", "sha": repository.commit, "siblings": siblings, "private": repository.is_private})

    def _send_json(self, answer: object) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send_file(self, repository: Repository, name: str) -> None:
        if name not in repository.files:
            raise Refusal(404, "EntryNotFound")
        data = repository.files[name]
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": repository.commit}
        file = name.rpartition("/")[2]
        wanted = _RANGE.fullmatch(self.headers.get("Range") or "")
        if wanted and self.hub.honours_ranges:
            first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
            self.hub.sent_bytes += last + 1 - first
            self._send(206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})
            return
        if self.command == "GET" and file in self.hub.broken:
            if self.hub.fetched().count(file) > 1:
                raise Refusal(500)
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


LARGE_BYTES = 1000  # as this hub sees it
_REPOSITORY = r"(?P<repo>[^/]+/[^/]+)"
_PREUPLOAD = re.compile(rf"/api/models/{_REPOSITORY}/preupload/(?P<branch>.+)")
_BATCH = re.compile(rf"/{_REPOSITORY}\.git/info/lfs/objects/batch")
_LARGE = re.compile(r"/large/(?P<sha256>[0-9a-f]{64})")
_BRANCH = re.compile(rf"/api/models/{_REPOSITORY}/branch/(?P<branch>.+)")
_COMMIT = re.compile(rf"/api/models/{_REPOSITORY}/commit/(?P<branch>.+)")


def write(hub: LocalHub, path: str, token: str | None, body: bytes) -> object:
    """A POST or a PUT, as huggingface_hub sends them to publish a model. Returns: the answer's JSON."""
    if uploaded := _LARGE.fullmatch(path):  # without a token: the address was given to somebody who has one
        if hashlib.sha256(body).hexdigest() != uploaded["sha256"]:
            raise Refusal(400)
        hub.large[uploaded["sha256"]] = body
        return {}
    if hub.writer is None or token != hub.writer:
        raise Refusal(403 if token else 401)
    if path == "/api/repos/create":
        return _create(hub, json.loads(body))
    if made := _BRANCH.fullmatch(path):
        hub.models[made["repo"]].append(Repository({}, "b" * 40, (made["branch"],)))
        return {}
    if asked := _PREUPLOAD.fullmatch(path):
        _branch(hub, asked["repo"], asked["branch"])
        return {"files": [_mode(file) for file in json.loads(body)["files"]]}
    if _BATCH.fullmatch(path):
        return {"transfer": "basic", "objects": [_upload(hub, one) for one in json.loads(body)["objects"]]}
    if commit := _COMMIT.fullmatch(path):
        repository = _branch(hub, commit["repo"], commit["branch"])
        return _commit(hub, repository, f"{hub.url}/{commit['repo']}/commit", body)
    raise Refusal(404)


def _create(hub: LocalHub, asked: dict[str, str]) -> object:
    repo = f"{asked['organization']}/{asked['name']}"
    if repo in hub.models:
        raise Refusal(409, body=json.dumps({"url": f"{hub.url}/{repo}"}).encode())
    hub.models[repo] = [Repository({}, is_private=bool(asked.get("private") or asked.get("visibility") == "private"))]
    return {"url": f"{hub.url}/{repo}"}


def _branch(hub: LocalHub, repo: str, branch: str) -> Repository:
    found = next((one for one in hub.models.get(repo, []) if branch in one.names), None)
    if found is None:
        raise Refusal(404, "RevisionNotFound" if repo in hub.models else "RepoNotFound")
    return found


def _mode(file: dict[str, Any]) -> object:
    mode = "lfs" if file["size"] > LARGE_BYTES else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def _upload(hub: LocalHub, wanted: dict[str, Any]) -> object:
    upload = {"upload": {"href": f"{hub.url}/large/{wanted['oid']}"}}
    return {**wanted} if wanted["oid"] in hub.large else {**wanted, "actions": upload}


def _commit(hub: LocalHub, repository: Repository, url: str, body: bytes) -> object:
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "header":
            repository.commits.append(value["summary"])
        elif line["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        else:
            assert line["key"] == "lfsFile"
            if value["oid"] not in hub.large:
                raise Refusal(422)
            repository.files[value["path"]] = hub.large[value["oid"]]
    commit = hashlib.sha1(body).hexdigest()
    return {"success": True, "commitOid": commit, "commitUrl": f"{url}/{commit}", "hookOutput": ""}


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()

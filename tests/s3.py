"""A real S3 server as a process of its own (moto's server mode), and a proxy before it that fails on demand."""

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import boto3
import pytest
from pydantic import SecretStr
from ulid import ULID

from jobs.settings import Settings

START_TIMEOUT_S = 30.0
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "test-key", "test-secret"

Fault = Literal["refuse", "drop", "lose-answer"] | None
"""`refuse`: 503. `drop`: the connection breaks before the store has seen anything. `lose-answer`: it breaks after."""


class S3Server:
    """A running server. Args: url: its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def settings(self, settings: Settings, endpoint: str | None = None) -> Settings:
        """`settings` with a new bucket as the store, reached at `endpoint` where it is not the server's own."""
        bucket = f"scalpel-{ULID()}".lower()
        client = boto3.client(
            "s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        return settings.model_copy(
            update={
                "artifact_url": f"s3://{bucket}/results",
                "artifact_endpoint": endpoint or self.url,
                "artifact_region": REGION,
                "artifact_access_key": SecretStr(ACCESS_KEY),
                "artifact_secret_key": SecretStr(SECRET_KEY),
            }
        )


@contextmanager
def s3_server(log: Path) -> Iterator[S3Server]:
    """Start one on a free port; where it cannot be started, the test is skipped and says why."""
    pytest.importorskip("moto")
    port = _free_port()
    command = (sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port))
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _await_port(port, process, log)
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip(f"the S3 server does not start here: {log.read_text()[-500:]}")


class FaultyProxy:
    """Passes requests on to `target`, but for those that `fault` chooses.

    Attributes:
        fault: (method, path, number of the request among those of its method) -> what goes wrong with it.
        seen: (method, path, fault) of every request so far.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.fault: Callable[[str, str, int], Fault] = lambda method, path, number: None
        self.seen: list[tuple[str, str, Fault]] = []
        self._counting = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                proxy.serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, method: str) -> int:
        return sum(seen == method for seen, _, _ in self.seen)

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._counting:
            fault = self.fault(request.command, request.path, self.count(request.command))
            self.seen.append((request.command, request.path, fault))
        if fault == "refuse":
            answer_with(request, 503, [("Content-Length", "0")], b"")
        elif fault == "drop":
            request.close_connection = True
        else:
            status, headers, content = self._forward(request, body)
            if fault == "lose-answer":
                request.close_connection = True
            else:
                answer_with(request, status, headers, content)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        assert self.target.hostname is not None
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=30)
        connection.request(request.command, request.path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in ("transfer-encoding", "connection")]
        if "content-length" not in {name.lower() for name, _ in headers}:
            headers.append(("Content-Length", str(len(content))))
        connection.close()
        return answer.status, headers, content


def answer_with(request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
    request.send_response_only(status)
    for name, value in headers:
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content)
    request.wfile.flush()

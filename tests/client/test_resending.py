"""Requests whose answer is lost on the way, by a proxy that breaks connections between the client and the real service."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise

import pytest
from fastapi import FastAPI

import client.sending
from client import ApiError, Scalpel, ServiceUnreachable
from tests.api.serving import Served, served

MODEL = "demo:smollm2-135m"


class Breaker:
    """Passes each request on, and hangs up instead of giving back the next `losses` answers."""

    def __init__(self, port: int) -> None:
        self.losses = 0
        self.requests: list[bytes] = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._pass_on(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        """One request and its answer; the service is asked to close the connection, so that its end is seen."""
        request = connection.recv(65536).replace(b"Connection: keep-alive", b"Connection: close")
        head, _, body = request.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            while name.lower() == b"content-length" and len(body) < int(value):
                piece = connection.recv(65536)
                request, body = request + piece, body + piece
        self.requests.append(request)
        with socket.create_connection(("127.0.0.1", self._port)) as service:
            service.sendall(request)
            answer = b"".join(iter(lambda: service.recv(65536), b""))
        if self.losses:
            self.losses -= 1
        else:
            connection.sendall(answer)


@pytest.fixture
def breaker(service: Served) -> Iterator[Breaker]:
    made = Breaker(service.port)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.sending, "FIRST_DELAY_S", 0.01)


def test_a_submission_whose_answer_is_lost_makes_one_job(breaker: Breaker, api_key: str) -> None:
    with Scalpel(breaker.url, api_key=api_key) as scalpel:
        breaker.losses = 2
        job = scalpel.submit(MODEL, {"bits": 4})
        assert [found.id for found in scalpel.jobs()] == [job.id]
        scalpel.submit(MODEL, {"bits": 4})
        assert len(list(scalpel.jobs())) == 2, "another call is another request"
    submissions = [request for request in breaker.requests if request.startswith(b"POST")]
    assert len(submissions) == 4
    assert submissions[0] == submissions[1] == submissions[2]


def test_it_gives_up_in_the_end(breaker: Breaker, api_key: str) -> None:
    with Scalpel(breaker.url, api_key=api_key, retries=2) as scalpel, pytest.raises(ServiceUnreachable):
        breaker.losses = 99
        scalpel.submit(MODEL, {"bits": 4})
    assert len(breaker.requests) == 3


def test_a_deletion_is_not_sent_again(breaker: Breaker, api_key: str) -> None:
    """The second would be told that there is no such job, which is not what happened."""
    with Scalpel(breaker.url, api_key=api_key) as scalpel:
        job = scalpel.cancel(scalpel.submit(MODEL, {"bits": 4}).id)
        breaker.losses = 1
        with pytest.raises(ServiceUnreachable):
            scalpel.delete(job.id)
    assert [request.split()[0] for request in breaker.requests] == [b"POST", b"POST", b"DELETE"]


class Scripted(BaseHTTPRequestHandler):
    """Answers as told, one after the other, and then as a service does."""

    def do_GET(self) -> None:
        script: list[tuple[int, str | None]] = self.server.script  # type: ignore[attr-defined]
        self.server.arrivals.append(time.monotonic())  # type: ignore[attr-defined]
        status, retry_after = script.pop(0) if script else (200, None)
        body = b"[]" if status == 200 else b'{"type": "x", "title": "Come back", "status": %d}' % status
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def telling(*script: tuple[int, str | None]) -> Iterator[tuple[Scalpel, list[float]]]:
    """A client of a server that first answers as told, and when each request arrived there."""
    with HTTPServer(("127.0.0.1", 0), Scripted) as server:
        arrivals: list[float] = []
        server.script, server.arrivals = list(script), arrivals  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Scalpel(f"http://127.0.0.1:{server.server_port}") as scalpel:
            yield scalpel, arrivals
        server.shutdown()
        thread.join()


def test_it_comes_back_when_it_was_told_to() -> None:
    with telling((503, None), (429, "1"), (503, "0")) as (scalpel, arrivals):
        assert scalpel.methods() == ()
    waited = [later - earlier for earlier, later in pairwise(arrivals)]
    assert len(waited) == 3
    assert 1.0 <= waited[1] < 1.5


@pytest.mark.parametrize(
    "answer",
    [(429, None), (429, "3600"), (503, "3600"), (500, None), (404, None)],
    ids=lambda answer: f"{answer[0]} {answer[1]}",
)
def test_it_does_not_come_back_otherwise(answer: tuple[int, str | None]) -> None:
    with telling(answer) as (scalpel, arrivals):
        with pytest.raises(ApiError, match="Come back"):
            scalpel.methods()
        assert len(arrivals) == 1


def test_service_that_starts_late_is_waited_for(app: FastAPI, api_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.sending, "FIRST_DELAY_S", 0.4)
    with served(app) as first:
        pass
    found: list[int] = []
    with Scalpel(first.url, api_key=api_key) as scalpel:
        asking = threading.Thread(target=lambda: found.append(len(scalpel.methods())))
        asking.start()
        with served(app, port=first.port):
            asking.join()
    assert found and found[0] > 0

import threading
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx_sse import ServerSentEvent, connect_sse

from jobs.settings import Settings
from tests.api.conftest import Submit
from tests.api.serving import Served, served
from tests.api.standin import Worker


@pytest.fixture
def service(app: FastAPI) -> Iterator[Served]:
    with served(app) as running:
        yield running


@pytest.fixture
def http(service: Served, api_key: str) -> Iterator[httpx.Client]:
    with connected(service, api_key) as client:
        yield client


def connected(service: Served, api_key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {api_key}"}
    return httpx.Client(base_url=service.url, headers=headers, timeout=10, trust_env=False)


@pytest.fixture
def job_id(http: httpx.Client) -> str:
    answer = http.post("/v1/jobs", json={"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}})
    return str(answer.json()["id"])


def follow(http: httpx.Client, job_id: str, **arguments: dict[str, str]) -> Iterator[ServerSentEvent]:
    with connect_sse(http, "GET", f"/v1/jobs/{job_id}/events", **arguments) as source:
        yield from source.iter_sse()


def words(events: list[ServerSentEvent]) -> list[str]:
    """`1 queued`, `2 running`, `3 hello`."""
    return [f"{event.id} {event.json()['data'].get('message') or event.json()['data'].get('state')}" for event in events]


def test_stream_replays_the_past_follows_the_present_and_ends(http: httpx.Client, job_id: str, worker: Worker) -> None:
    worker.claim()
    stream = follow(http, job_id)
    assert words([next(stream), next(stream)]) == ["1 queued", "2 running"]
    worker.note(job_id, "hello")
    event = next(stream)
    assert (event.id, event.event) == ("3", "note")
    data = event.json()
    assert data.pop("created_at")
    assert data == {"seq": 3, "type": "note", "attempt": 1, "data": {"level": "info", "message": "hello"}}
    worker.succeed(job_id, {})
    assert words(list(stream)) == ["4 succeeded"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"headers": {"Last-Event-ID": "2"}},
        {"params": {"after": "2"}},
        {"headers": {"Last-Event-ID": "2"}, "params": {"after": "0"}},
    ],
    ids=["header", "query", "header wins"],
)
def test_stream_takes_up_after_the_last_event_seen(
    http: httpx.Client, job_id: str, worker: Worker, arguments: dict[str, dict[str, str]]
) -> None:
    worker.claim()
    worker.note(job_id, "hello")
    worker.succeed(job_id, {})
    assert words(list(follow(http, job_id, **arguments))) == ["3 hello", "4 succeeded"]


def test_stream_of_an_ended_job_ends_even_when_all_was_seen(http: httpx.Client, job_id: str, worker: Worker) -> None:
    worker.succeed(worker.claim(), {})
    assert list(follow(http, job_id, params={"after": "3"})) == []
    assert list(follow(http, job_id, params={"after": "99"})) == []


def test_many_readers_each_get_every_event_once_in_order(http: httpx.Client, job_id: str, worker: Worker) -> None:
    worker.claim()
    seen: list[list[ServerSentEvent]] = [[] for _ in range(8)]

    def read(into: list[ServerSentEvent]) -> None:
        into.extend(follow(http, job_id))

    readers = [threading.Thread(target=read, args=(into,)) for into in seen]
    for number, reader in enumerate(readers):
        reader.start()
        worker.note(job_id, f"{number}")
    for number in range(300):  # more than one queue holds
        worker.note(job_id, f"more {number}")
    worker.succeed(job_id, {})
    for reader in readers:
        reader.join(20)
    expected = [str(seq) for seq in range(1, 2 + 8 + 300 + 1 + 1)]
    assert all([event.id for event in events] == expected for events in seen)


def test_stream_is_not_buffered_and_says_what_it_is(http: httpx.Client, job_id: str, worker: Worker) -> None:
    worker.succeed(worker.claim(), {})
    headers = http.get(f"/v1/jobs/{job_id}/events").headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


def test_silent_stream_is_kept_alive_with_comments(http: httpx.Client, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    with http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert next(text for text in answer.iter_text() if text.startswith(":")) == ": ping\n\n"


def test_server_that_stops_lets_go_of_its_streams(app: FastAPI, api_key: str, worker: Worker) -> None:
    with served(app) as running, connected(running, api_key) as http:
        answer = http.post("/v1/jobs", json={"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}})
        stream = follow(http, answer.json()["id"])
        next(stream)
        app.state.context.tailer.close()
        assert list(stream) == []


@pytest.mark.parametrize("after", ["-1", "99999999999999999999", "x"])
def test_position_that_is_none_is_refused(web: TestClient, submit: Submit, after: str) -> None:
    answer = web.get(f"/v1/jobs/{submit()}/events", params={"after": after})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "after")


def test_reader_who_leaves_is_forgotten(app: FastAPI, http: httpx.Client, job_id: str, settings: Settings) -> None:
    stream = follow(http, job_id)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator
    for _ in range(100):
        if not app.state.context.tailer.watched:
            return
        threading.Event().wait(0.05)
    raise AssertionError("the stream is still watched")

import logging

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from jobs.watching.log_context import fields


def test_the_clients_own_id_comes_back_on_every_answer_and_in_the_problem(web: TestClient) -> None:
    given = {"X-Request-Id": "trace-7:a/b"}
    assert web.get("/healthz", headers=given).headers["x-request-id"] == "trace-7:a/b"
    for path, headers in (
        ("/v1/jobs/nobody", {}),
        ("/nowhere", {}),
        ("/v1/jobs", {"Authorization": "Bearer x"}),
        ("/v1/jobs", {"Host": "evil.example"}),
        ("/v1/jobs?limit=x", {}),
    ):
        answer = web.get(path, headers={**given, **headers})
        assert answer.status_code >= 400
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == "trace-7:a/b", path


@pytest.mark.parametrize("unsafe", ["", "x" * 129, "two words", "a\tb", "<script>", '"'])
def test_an_id_that_could_harm_a_log_is_replaced(web: TestClient, unsafe: str) -> None:
    given = web.get("/healthz", headers={"X-Request-Id": unsafe}).headers["x-request-id"]
    assert given != unsafe
    assert len(given) == 32
    assert given != web.get("/healthz").headers["x-request-id"]


def test_a_failure_carries_the_id_too_and_so_does_its_log(app: FastAPI) -> None:
    logged: list[object] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(fields().get("request_id"))

    @app.get("/broken")
    def broken() -> None:
        log.warning("about to break")
        raise ZeroDivisionError

    log = logging.getLogger("broken")
    log.addHandler(Handler())
    log.propagate = False
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as web:
        answer = web.get("/broken", headers={"X-Request-Id": "mine"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"
    assert logged == ["mine"]
    assert fields() == {}

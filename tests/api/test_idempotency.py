import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update

import api.routes.jobs
from api.app import create_app
from jobs import request as job_request
from jobs.database import Sessions
from jobs.request import JobRequest
from jobs.settings import Settings
from jobs.tables import Idempotent
from tests.api.conftest import Submit
from tests.api.test_auth import key_of, with_key

REQUEST = {"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}}
EXEMPT = {
    "/v1/estimates",  # changes nothing
    "/v1/keys",  # its answer is a secret that must not be stored, as are those of the next two
    "/v1/webhooks",
    "/v1/webhooks/{webhook_id}/rotate",
    "/v1/datasets",  # the same bytes are the same data set, and too many to be kept for comparison
    "/v1/models",  # the same files are the same upload, and its answer says how far it has come by now
}
KEY = {"Idempotency-Key": "a-key"}


def jobs_of(web: TestClient) -> list[str]:
    return [job["id"] for job in web.get("/v1/jobs").json()["items"]]


def test_the_same_request_acts_once_and_its_answer_comes_again(web: TestClient) -> None:
    first, second = (web.post("/v1/jobs", json=REQUEST, headers=KEY) for _ in range(2))
    assert (second.status_code, second.json()) == (202, first.json())
    for name in ("location", "etag", "content-type"):
        assert second.headers[name] == first.headers[name]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert jobs_of(web) == [first.json()["id"]]


def test_without_a_key_every_request_acts(web: TestClient) -> None:
    for _ in range(2):
        web.post("/v1/jobs", json=REQUEST)
    assert len(jobs_of(web)) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/jobs", {**REQUEST, "labels": {"a": "b"}}), ("/v1/jobs?x=1", REQUEST), ("/v1/jobs/x/cancel", REQUEST)],
    ids=["body", "query", "path"],
)
def test_the_key_of_another_request_is_refused(web: TestClient, path: str, body: dict[str, Any]) -> None:
    web.post("/v1/jobs", json=REQUEST, headers=KEY)
    answer = web.post(path, json=body, headers=KEY)
    assert (answer.status_code, answer.json()["type"]) == (422, "idempotency-key-reused")
    assert len(jobs_of(web)) == 1


def test_a_request_that_was_refused_leaves_its_key_free(web: TestClient) -> None:
    for wrong in ({**REQUEST, "surplus": 1}, {**REQUEST, "recipe": {"sparsity": 0.3, "pattern": "2:4"}}):
        assert web.post("/v1/jobs", json=wrong, headers=KEY).status_code == 422
    assert web.post("/v1/jobs", json=REQUEST, headers=KEY).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "\x01"])
def test_a_key_that_is_no_word_is_refused(web: TestClient, key: str) -> None:
    answer = web.post("/v1/jobs", json=REQUEST, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_keys_of_another_tenant_are_other_keys(app: FastAPI, web: TestClient, sessions: Sessions) -> None:
    stranger = with_key(app, key_of(sessions, "STRANGER", "read", "write"))
    answers = [tenant.post("/v1/jobs", json=REQUEST, headers=KEY) for tenant in (web, stranger)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert jobs_of(stranger) == [answers[1].json()["id"]] != jobs_of(web)


def test_a_key_that_may_not_write_replays_nothing(app: FastAPI, web: TestClient, sessions: Sessions) -> None:
    web.post("/v1/jobs", json=REQUEST, headers=KEY)
    answer = with_key(app, key_of(sessions, "0" * 26, "read")).post("/v1/jobs", json=REQUEST, headers=KEY)
    assert answer.status_code == 403


def test_a_cancellation_acts_once(web: TestClient, submit: Submit) -> None:
    job_id = submit()
    first, second = (web.post(f"/v1/jobs/{job_id}/cancel", headers=KEY) for _ in range(2))
    assert first.json() == second.json() and second.headers["idempotent-replayed"] == "true"
    assert web.post(f"/v1/jobs/{job_id}/cancel").status_code == 409


def test_while_the_first_is_at_work_the_second_is_told_to_wait(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    is_at_work, may_end = threading.Event(), threading.Event()
    check = job_request.check_request

    def slow(request: JobRequest) -> Any:
        is_at_work.set()
        assert may_end.wait(30)
        return check(request)

    monkeypatch.setattr(api.routes.jobs, "check_request", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(web.post, "/v1/jobs", json=REQUEST, headers=KEY)
        assert is_at_work.wait(30)
        second = web.post("/v1/jobs", json=REQUEST, headers=KEY)
        may_end.set()
        assert first.result().status_code == 202
    assert (second.status_code, second.json()["type"]) == (409, "idempotency-key-in-flight")
    assert second.headers["retry-after"] == "1"
    assert web.post("/v1/jobs", json=REQUEST, headers=KEY).json() == first.result().json()


def test_a_holder_that_was_given_up_makes_no_second_job(
    web: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps past its time, another takes over and answers; then it wakes up, with the change in its hands."""
    check, sleepers = job_request.check_request, [True]

    def overtaken(request: JobRequest) -> Any:
        if sleepers and sleepers.pop():
            with sessions.begin() as session:
                session.execute(update(Idempotent).values(held_until=datetime.now(UTC) - timedelta(seconds=1)))
            assert web.post("/v1/jobs", json=REQUEST, headers=KEY).status_code == 202
        return check(request)

    monkeypatch.setattr(api.routes.jobs, "check_request", overtaken)
    late = web.post("/v1/jobs", json=REQUEST, headers=KEY)
    assert (late.status_code, late.json()["type"]) == (409, "idempotency-key-in-flight")
    (job_id,) = jobs_of(web)
    assert web.post("/v1/jobs", json=REQUEST, headers=KEY).json()["id"] == job_id


def test_many_at_once_make_one_job(web: TestClient) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: web.post("/v1/jobs", json=REQUEST, headers=KEY), range(6)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len(jobs_of(web)) == 1


def test_a_failure_leaves_the_key_free(settings: Settings, api_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: JobRequest) -> Any:
        raise ZeroDivisionError

    headers = {"Authorization": f"Bearer {api_key}", **KEY}
    with TestClient(create_app(settings), base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False) as web:
        with monkeypatch.context() as patch:
            patch.setattr(api.routes.jobs, "check_request", broken)
            assert web.post("/v1/jobs", json=REQUEST).status_code == 500
        assert web.post("/v1/jobs", json=REQUEST).status_code == 202


def test_every_post_that_changes_something_takes_a_key(app: FastAPI) -> None:
    for path, operations in app.openapi()["paths"].items():
        if "post" in operations and path not in EXEMPT:
            names = {parameter["name"] for parameter in operations["post"].get("parameters", ())}
            assert "Idempotency-Key" in names, path

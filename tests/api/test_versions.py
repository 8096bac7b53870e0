import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Submit
from tests.api.standin import Worker


@pytest.fixture
def path(submit: Submit) -> str:
    return f"/v1/jobs/{submit()}"


def test_a_job_that_the_reader_has_is_not_sent_again(web: TestClient, path: str, worker: Worker) -> None:
    etag = web.get(path).headers["etag"]
    for given in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = web.get(path, headers={"If-None-Match": given})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    worker.note(worker.claim(), "hello")
    answer = web.get(path, headers={"If-None-Match": etag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != etag


def test_answers_to_changes_carry_the_version_that_they_made(web: TestClient, path: str) -> None:
    answer = web.patch(path, json={"priority": 7})
    assert answer.headers["etag"] == web.get(path).headers["etag"]
    answer = web.post(f"{path}/cancel")
    assert answer.headers["etag"] == web.get(path).headers["etag"]


def test_what_has_changed_since_is_not_changed_again(web: TestClient, path: str, worker: Worker) -> None:
    seen = {"If-Match": web.get(path).headers["etag"]}
    worker.claim()
    for method, where, body in (
        ("POST", f"{path}/cancel", None),
        ("PATCH", path, {"priority": 1}),
        ("DELETE", path, None),
        ("DELETE", f"{path}/artifacts", None),
    ):
        answer = web.request(method, where, headers=seen, json=body)
        assert (answer.status_code, answer.json()["type"]) == (412, "precondition-failed"), where
    job = web.get(path).json()
    assert (job["state"], job["priority"], job["cancel_requested"]) == ("running", 0, False)


def test_the_version_that_was_seen_is_changed(web: TestClient, path: str) -> None:
    for given in (web.get(path).headers["etag"], "*"):
        assert web.patch(path, json={"priority": 3}, headers={"If-Match": given}).status_code == 200
    seen = {"If-Match": web.get(path).headers["etag"]}
    assert web.post(f"{path}/cancel", headers=seen).json()["state"] == "cancelled"


def test_labels_and_priority_are_changed_each_for_itself(web: TestClient, submit: Submit) -> None:
    path = f"/v1/jobs/{submit(labels={'team': 'search'}, priority=-5)}"
    job = web.get(path).json()
    assert (job["labels"], job["priority"]) == ({"team": "search"}, -5)
    assert web.patch(path, json={"priority": 100}).json()["labels"] == {"team": "search"}
    changed = web.patch(path, json={"labels": {}}).json()
    assert (changed["labels"], changed["priority"]) == ({}, 100)
    assert web.get(path).json() == changed
    assert web.get("/v1/jobs", params={"label": "team:search"}).json()["items"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [({"priority": 101}, "priority"), ({"labels": {"": "x"}}, "labels."), ({"state": "succeeded"}, "state")],
    ids=["too high", "label", "state"],
)
def test_a_wrong_change_is_refused_with_its_field(web: TestClient, path: str, change: dict[str, object], field: str) -> None:
    problem = web.patch(path, json=change).json()
    assert (problem["status"], problem["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_unknown_job_is_not_found_whatever_its_version(web: TestClient, method: str) -> None:
    where = "/v1/jobs/nobody" + ("/cancel" if method == "POST" else "")
    answer = web.request(method, where, json={}, headers={"If-Match": '"x"'})
    assert (answer.status_code, answer.json()["type"]) == (404, "job-not-found")

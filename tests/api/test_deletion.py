import json

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from jobs.database import Sessions
from jobs.tables import Artifact, Event, Job, Ring, Solution
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.api.test_exports import DENSE, report

FILES = {"model.safetensors": b"weights"}


@pytest.fixture
def job_id(submit: Submit, worker: Worker) -> str:
    """A compression that has succeeded and keeps solutions."""
    made = submit(recipe={"bits": 4})
    worker.succeed(
        worker.claim(), {**FILES, "report.json": report({"bits": 4, "group_size": 64})}, {"block-00000.safetensors": b"block"}
    )
    return made


def export(web: TestClient, job_id: str) -> str:
    return str(web.post(f"/v1/jobs/{job_id}/exports", json=DENSE).json()["id"])


def test_a_deleted_job_is_gone_with_all_it_had(web: TestClient, job_id: str, sessions: Sessions) -> None:
    answer = web.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for rest in ("", "/artifacts", "/artifacts/model.safetensors", "/report", "/events", "/exports", "/sha256sums"):
        assert web.get(f"/v1/jobs/{job_id}{rest}").status_code == 404, rest
    with sessions() as session:
        for table in (Job, Event, Artifact, Solution, Ring):
            assert session.scalar(select(func.count()).select_from(table)) == 0, table
    assert web.delete(f"/v1/jobs/{job_id}").status_code == 404


@pytest.mark.parametrize("rest", ["", "/artifacts"])
def test_a_job_that_has_not_ended_is_not_deleted(web: TestClient, submit: Submit, worker: Worker, rest: str) -> None:
    job_id = submit()
    for state in ("queued", "running"):
        answer = web.delete(f"/v1/jobs/{job_id}{rest}")
        assert (answer.status_code, answer.json()["type"]) == (409, "illegal-transition")
        assert f"is {state}" in answer.json()["detail"]
        if state == "queued":
            worker.claim()
    assert web.get(f"/v1/jobs/{job_id}").status_code == 200


def test_a_job_with_exports_goes_only_with_them(web: TestClient, job_id: str) -> None:
    child = export(web, job_id)
    answer = web.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["type"]) == (409, "referenced")
    answer = web.delete(f"/v1/jobs/{job_id}", params={"cascade": True})
    assert (answer.status_code, answer.json()["type"]) == (409, "illegal-transition"), "the export is queued"
    assert child in answer.json()["detail"]
    web.post(f"/v1/jobs/{child}/cancel")
    assert web.delete(f"/v1/jobs/{job_id}", params={"cascade": True}).status_code == 204
    assert web.get("/v1/jobs").json()["items"] == []


def test_an_export_can_be_deleted_alone(web: TestClient, job_id: str) -> None:
    child = export(web, job_id)
    web.post(f"/v1/jobs/{child}/cancel")
    assert web.delete(f"/v1/jobs/{child}").status_code == 204
    assert web.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_files_go_and_the_report_and_the_solutions_stay(web: TestClient, job_id: str) -> None:
    job = web.delete(f"/v1/jobs/{job_id}/artifacts").json()
    assert job["artifacts_deleted_at"] is not None
    assert job == web.get(f"/v1/jobs/{job_id}").json()
    for rest in ("/artifacts/model.safetensors", "/artifact.tar", "/sha256sums"):
        answer = web.get(f"/v1/jobs/{job_id}{rest}")
        assert (answer.status_code, answer.json()["type"]) == (410, "artifact-gone"), rest
    assert json.loads(web.get(f"/v1/jobs/{job_id}/report").content)["output"] == {"format": "dense"}
    assert [file["name"] for file in web.get(f"/v1/jobs/{job_id}/artifacts").json()["items"]] == ["report.json"]
    assert job["solution_bytes"] == 5
    assert export(web, job_id)


def test_solutions_go_on_request_unless_an_export_is_at_work_on_them(web: TestClient, job_id: str) -> None:
    child, path = export(web, job_id), f"/v1/jobs/{job_id}/artifacts"
    answer = web.delete(path, params={"solutions": True})
    assert (answer.status_code, answer.json()["type"]) == (409, "referenced")
    assert web.get(f"{path}/model.safetensors").status_code == 200, "all or nothing"
    web.post(f"/v1/jobs/{child}/cancel")
    assert web.delete(path, params={"solutions": True}).json()["solution_bytes"] is None
    answer = web.post(f"/v1/jobs/{job_id}/exports", json=DENSE)
    assert (answer.status_code, answer.json()["type"]) == (410, "solutions-gone")

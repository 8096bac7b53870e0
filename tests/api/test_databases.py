"""Model databases over HTTP: noted as jobs succeed, once for their contents, and shown to their tenant alone."""

from fastapi.testclient import TestClient

from compression.report import Report
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.compression import reports


def succeed(submit: Submit, worker: Worker, report: Report) -> str:
    job_id = submit()
    worker.claim()
    worker.succeed(job_id, {"report.json": report.model_dump_json().encode()})
    return job_id


def test_jobs_that_chose_from_the_same_contents_share_a_database(web: TestClient, submit: Submit, worker: Worker) -> None:
    first, second = (succeed(submit, worker, reports.faster()) for _ in range(2))
    plain = succeed(submit, worker, reports.report())
    (listed,) = web.get("/v1/databases").json()["items"]
    structure = reports.faster().structure
    assert structure is not None
    use = structure.database
    expected = {
        "key": use.key,
        "kind": "structures",
        "levels": use.levels,
        "size_bytes": use.size_bytes,
        "seconds": use.seconds,
    }
    assert expected.items() <= listed.items()
    assert listed["model"] == "demo:smollm2-135m"
    read = web.get(f"/v1/databases/{listed['id']}").json()
    assert read == {**listed, "jobs": [first, second]}
    assert read["used_at"] >= read["created_at"]
    found = {job_id: web.get(f"/v1/jobs/{job_id}").json()["database"] for job_id in (first, second, plain)}
    assert found == {first: listed["id"], second: listed["id"], plain: None}


def test_a_database_outlives_its_jobs(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = succeed(submit, worker, reports.faster())
    assert web.delete(f"/v1/jobs/{job_id}").status_code == 204
    (listed,) = web.get("/v1/databases").json()["items"]
    assert web.get(f"/v1/databases/{listed['id']}").json()["jobs"] == []


def test_no_database_is_told_of_as_such(web: TestClient) -> None:
    assert web.get("/v1/databases").json() == {"items": [], "next_cursor": None}
    answer = web.get("/v1/databases/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert (answer.status_code, answer.json()["type"]) == (404, "database-not-found")

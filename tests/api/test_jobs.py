from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Submit
from tests.api.standin import Worker

MODEL = "demo:smollm2-135m"


def test_submitted_job_is_queued_and_answered_with_its_location(web: TestClient) -> None:
    request = {"model": MODEL, "recipe": {"pattern": "2:4"}, "labels": {"team": "search"}}
    answer = web.post("/v1/jobs", json=request)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["attempt"], job["labels"]) == ("queued", 0, {"team": "search"})
    assert job["request"] == request
    assert job["recipe"]["options"] == {
        "method": "sparsegpt", "sparsity": 0.5, "pattern": "2:4", "damp": 0.01, "block_size": 128,
    }  # fmt: skip
    assert web.get(job["links"]["self"]).json() == job


def test_running_job_shows_stage_and_progress(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    worker.claim()
    worker.record(job_id, "stage", stage="compressing")
    worker.record(job_id, "activity", activity="solving", block=3, blocks=30)
    worker.block(job_id, 3)
    job = web.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["stage"], job["activity"], job["attempt"]) == ("running", "compressing", "solving", 1)
    assert job["progress"] == {"block": 3, "blocks": 30, "fraction": 0.1, "eta_s": 12.0}


def test_failed_job_says_why(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    worker.fail(worker.claim())
    job = web.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "failed"
    assert {name: said for name, said in job["error"].items() if said is not None} == {
        "type": "numerical-error", "title": "The mathematics broke down", "detail": "layer 3: NaN", "layer": "layer 3",
    }  # fmt: skip


@pytest.mark.parametrize("settings", [{"default_run_s": 60.0, "max_run_s": 3600.0}], indirect=True)
def test_time_limits_are_the_request_s_or_the_server_s(web: TestClient) -> None:
    def ask(**limits: float) -> Any:
        return web.post("/v1/jobs", json={"model": MODEL, "recipe": {"sparsity": 0.5}, "limits": limits})

    assert (ask(run_s=120).json()["run_limit_s"], ask().json()["run_limit_s"]) == (120.0, 60.0)
    refused = ask(run_s=3601)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"field": "limits.run_s", "detail": "3601 s is more than this server allows", "allowed": "<= 3600"}
    ]


@pytest.mark.parametrize(
    ("change", "field", "allowed"),
    [
        ({"recipe": {"sparsity": 1.5}}, "recipe.sparsity", "< 1.0"),
        ({"recipe": {"bits": 7}}, "recipe.bits", "2, 3, 4, 5, 6 or 8 or 'ternary'"),
        ({"recipe": {"bits": 4, "group_size": 5}}, "recipe.group_size", ">= 16 or 'row'"),
        ({"recipe": {"sparsity": 0.5, "speed": 1}}, "recipe.speed", None),
        ({"recipe": {}}, "recipe", "name at least one of sparsity, pattern, bits"),
        ({"recipe": {"sparsity": 0.3, "pattern": "2:4"}}, "recipe.sparsity", "0.5, or leave one of the two out"),
        ({"calibration": {"nsamples": 0}}, "calibration.nsamples", ">= 1"),
        ({"evaluation": {"sources": ["sotu", 7]}}, "evaluation.sources.1", None),
        ({"goal": {"metric": "bytes", "factor": 2}}, "recipe.sparsity", "recipe.ignore, or no goal"),
        ({"recipe": {}, "goal": {"metric": "bytes", "factor": 2}}, "output.format", None),
        (
            {"recipe": {}, "goal": {"metric": "bytes", "factor": 40}, "output": {"format": "compressed-tensors"}},
            "goal",
            "a factor of at most 3.66 with these levels",
        ),
        ({"recipe": {}, "goal": {"metric": "bytes"}}, "goal", None),
        ({"recipe": {}, "goal": {"metric": "bytes", "factor": 2, "levels": [{"bits": 1}]}}, "goal.levels.0.bits", None),
        ({"labels": {"": "x"}}, "labels.", None),
        ({"model": None}, "model", None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_refused_request_names_the_field_and_what_is_allowed(
    web: TestClient, change: dict[str, Any], field: str, allowed: str | None
) -> None:
    answer = web.post("/v1/jobs", json={"model": MODEL, "recipe": {"sparsity": 0.5}, **change})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    fault = problem["errors"][0]
    assert fault["field"] == field
    assert fault["detail"]
    if allowed is not None:
        assert fault["allowed"] == allowed


def test_refused_request_leaves_no_job(web: TestClient) -> None:
    web.post("/v1/jobs", json={"model": MODEL, "recipe": {}})
    web.post("/v1/jobs", json={"model": "demo:nobody-knows", "recipe": {"bits": 4}})
    assert web.get("/v1/jobs").json() == {"items": [], "next_cursor": None}


def test_unknown_demo_model_is_refused_with_the_known_ones(web: TestClient) -> None:
    problem = web.post("/v1/jobs", json={"model": "demo:nobody-knows", "recipe": {"bits": 4}}).json()
    assert problem["type"] == "source-error"
    assert MODEL in problem["detail"]


def test_pages_hold_every_job_once_newest_first(web: TestClient, submit: Submit) -> None:
    submitted = [submit() for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = web.get("/v1/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 2
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == submitted[::-1]


def test_jobs_are_filtered_by_state_model_and_label(web: TestClient, submit: Submit, worker: Worker) -> None:
    running, other, labelled = submit(), submit(model="/models/tiny"), submit(labels={"team": "search"})
    assert worker.claim() == running

    def found(**query: str) -> list[str]:
        return [job["id"] for job in web.get("/v1/jobs", params=query).json()["items"]]

    assert found(state="running") == [running]
    assert found(model="/models/tiny") == [other]
    assert found(label="team:search") == [labelled]
    assert found(label="team:other") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("state=asleep", "state"), ("limit=0", "limit"), ("limit=201", "limit"), ("label=nocolon", "label")],
)
def test_wrong_query_is_refused_with_its_field(web: TestClient, query: str, field: str) -> None:
    answer = web.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_made_up_cursor_is_refused(web: TestClient) -> None:
    assert web.get("/v1/jobs?cursor=abc").json()["type"] == "invalid-cursor"


def test_unknown_job_is_not_found(web: TestClient) -> None:
    for path in ("", "/report", "/artifacts", "/artifacts/config.json", "/events"):
        answer = web.get(f"/v1/jobs/nobody{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "job-not-found"), path


def test_queued_job_is_cancelled_at_once_and_only_once(web: TestClient, submit: Submit) -> None:
    job_id = submit()
    answer = web.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    again = web.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "illegal-transition")


def test_running_job_is_flagged_for_cancellation(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    worker.claim()
    job = web.post(f"/v1/jobs/{job_id}/cancel").json()
    assert (job["state"], job["cancel_requested"]) == ("running", True)


def test_queued_job_rests_until_it_is_resumed(web: TestClient, submit: Submit) -> None:
    path = f"/v1/jobs/{submit()}"
    answer = web.post(f"{path}/resume")
    assert (answer.status_code, answer.json()["type"]) == (409, "illegal-transition")
    for action, state in (("pause", "paused"), ("resume", "queued")):
        answer = web.post(f"{path}/{action}")
        assert (answer.status_code, answer.json()["state"]) == (202, state)
        assert answer.json()["links"][action] == f"{path}/{action}"


def test_running_job_is_flagged_for_a_pause_that_can_be_taken_back(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    worker.claim()
    for action, is_requested in (("pause", True), ("resume", False)):
        job = web.post(f"/v1/jobs/{job_id}/{action}").json()
        assert (job["state"], job["pause_requested"]) == ("running", is_requested)


def test_report_is_a_conflict_until_the_job_has_succeeded(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    answer = web.get(f"/v1/jobs/{job_id}/report")
    assert (answer.status_code, answer.json()["type"]) == (409, "report-not-ready")
    worker.succeed(worker.claim(), {"report.json": b'{"report_version": 1}'})
    answer = web.get(f"/v1/jobs/{job_id}/report")
    assert (answer.json(), answer.headers["content-type"]) == ({"report_version": 1}, "application/json")


def test_what_the_model_rules_out_is_refused_at_submit(web: TestClient) -> None:
    answer = web.post("/v1/jobs", json={"model": MODEL, "recipe": {"bits": 4, "group_size": 128}})
    assert answer.status_code == 422
    fault = answer.json()["errors"][0]
    assert fault["field"] == "recipe.group_size"
    assert "128 does not divide the 576 inputs of model.layers.*.self_attn.q_proj" in fault["detail"]
    assert fault["allowed"] == "sizes that fit every targeted matrix: 16, 32, 64, row"
    answer = web.post("/v1/jobs", json={"model": MODEL, "recipe": {"bits": 4}, "calibration": {"seqlen": 9000}})
    assert answer.json()["errors"][0] == {
        "field": "calibration.seqlen", "detail": "9000 exceeds the model's 8192 positions", "allowed": "<= 8192",
    }  # fmt: skip
    assert web.get("/v1/jobs").json()["items"] == []


def test_answer_says_before_the_work_that_nothing_will_be_won_on_disk(web: TestClient) -> None:
    job = web.post("/v1/jobs", json={"model": MODEL, "recipe": {"bits": 4}}).json()
    assert job["forecast"]["artifact_bytes"] > job["forecast"]["source_bytes"]
    assert "no smaller than its source" in job["forecast"]["note"]


def test_model_of_which_nothing_is_known_yet_is_taken(web: TestClient) -> None:
    job = web.post("/v1/jobs", json={"model": "owner/name", "recipe": {"bits": 4, "group_size": 128}}).json()
    assert (job["state"], job["forecast"]) == ("queued", None)

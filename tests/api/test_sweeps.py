"""Sweeps over HTTP: all jobs or none, the same jobs as alone, figures as they come, nobody else's."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from compression.report import Report
from jobs.access.quotas import set_quotas
from jobs.access.tables import LOCAL_TENANT_ID, Tenant
from jobs.database import Sessions
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.compression import reports

MODEL = "demo:smollm2-135m"
SWEEP: dict[str, Any] = {
    "model": MODEL,
    "recipes": [{"pattern": "2:4", "inputs": "compressed"}],
    "grid": {"sparsity": [0.5, 0.75], "pattern": ["2:4"], "method": ["magnitude", "sparsegpt"]},
    "labels": {"team": "search"},
}
ALONE: dict[str, Any] = {"recipes": [], "grid": {}}


def report(ratio: float, packed_bits: float) -> bytes:
    whole = reports.report()
    (result, *_) = whole.results
    sizes = whole.sizes.model_copy(update={"bits_per_targeted_weight": packed_bits})
    changed: Report = whole.model_copy(update={"results": (result.model_copy(update={"ratio": ratio}),), "sizes": sizes})
    return changed.model_dump_json().encode()


def test_sweep_is_a_job_for_each_recipe_and_tells_what_was_left_out(web: TestClient) -> None:
    answer = web.post("/v1/sweeps", json=SWEEP)
    assert answer.status_code == 202
    sweep = answer.json()
    assert answer.headers["location"] == f"/v1/sweeps/{sweep['id']}"
    assert [point["recipe"] for point in sweep["points"]] == [
        {"inputs": "compressed", "pattern": "2:4"},
        {"inputs": "dense", "sparsity": 0.5, "pattern": "2:4", "method": "magnitude"},
        {"inputs": "dense", "sparsity": 0.5, "pattern": "2:4", "method": "sparsegpt"},
    ]
    assert sweep["jobs"] == {"queued": 3}
    assert [one["recipe"]["sparsity"] for one in sweep["left_out"]] == [0.75, 0.75]
    assert "contradicts pattern 2:4" in sweep["left_out"][0]["reason"]
    for point in sweep["points"]:
        job = web.get(f"/v1/jobs/{point['job_id']}").json()
        assert job["sweep"] == sweep["id"]
        assert job["request"] == {"model": MODEL, "recipe": point["recipe"], "labels": {"team": "search"}}
        assert job["estimate"] is not None
    assert web.get(f"/v1/sweeps/{sweep['id']}").json() == sweep
    (listed,) = web.get("/v1/sweeps").json()["items"]
    assert (listed["id"], listed["jobs"]) == (sweep["id"], {"queued": 3})


def test_a_family_of_goals_is_a_job_for_each(web: TestClient) -> None:
    goals = [{"metric": "latency", "factor": factor} for factor in (1.3, 1.6, 1.3)]
    answer = web.post("/v1/sweeps", json={"model": MODEL, "goals": goals})
    assert answer.status_code == 202, answer.text
    sweep = answer.json()
    assert [point["goal"] for point in sweep["points"]] == goals[:2]
    assert [point["recipe"] for point in sweep["points"]] == [{}, {}]
    job = web.get(f"/v1/jobs/{sweep['points'][1]['job_id']}").json()
    assert job["request"] == {"model": MODEL, "goal": goals[1]}
    assert job["estimate"]["disk"]["scratch_bytes"] > 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipes": [], "grid": {}}, "recipes"),
        ({"recipes": [{"bits": 4}, {"sparsity": 0.3, "pattern": "2:4"}]}, "recipes.1.recipe.sparsity"),
        ({"recipes": [{"bits": 4, "group_size": 1024}], "grid": {}}, "recipes.0.recipe.group_size"),
        ({"recipes": [{"bits": 4}], "grid": {"bits": [99]}}, "grid"),
        ({"grid": {"damp": [0.01 + number / 1000 for number in range(40)], "bits": [3, 4]}, "recipes": []}, "grid"),
        ({"calibration": {"nsamples": 0}}, "calibration.nsamples"),
        ({"goals": [{"metric": "latency", "factor": 1.5}], "output": {"format": "gptq"}, **ALONE}, "goals.0.output.format"),
        ({"goals": [{"metric": "latency", "factor": 0.5}]}, "goals.0.factor"),
        ({"colour": "red"}, "colour"),
    ],
    ids=["none", "contradiction", "width", "empty grid", "too many", "calibration", "packed", "slower", "unknown"],
)
def test_what_any_point_would_refuse_is_refused_and_leaves_no_job(web: TestClient, change: dict[str, Any], field: str) -> None:
    answer = web.post("/v1/sweeps", json={**SWEEP, **change})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert web.get("/v1/jobs").json()["items"] == web.get("/v1/sweeps").json()["items"] == []


def test_figures_come_with_the_reports_and_the_dominated_are_marked(web: TestClient, worker: Worker) -> None:
    sweep = web.post("/v1/sweeps", json={"model": MODEL, "grid": {"bits": [2, 3, 4, 8]}}).json()
    measured = {2: (3.0, 2.25), 3: (1.5, 3.25), 4: (1.6, 4.25)}  # bits -> ratio, bits per weight: 4 bits lost to 3
    asked = {point["job_id"]: point["recipe"]["bits"] for point in sweep["points"]}
    for _ in range(3):
        job_id = worker.claim()
        if asked[job_id] == 8:
            worker.fail(job_id)
            job_id = worker.claim()
        worker.succeed(job_id, {"report.json": report(*measured[asked[job_id]])})
    points = {point["recipe"]["bits"]: point for point in web.get(f"/v1/sweeps/{sweep['id']}").json()["points"]}
    for bits, (ratio, width) in measured.items():
        assert points[bits]["figures"]["perplexity_ratio"] == ratio
        assert points[bits]["figures"]["bits_per_weight"] == width
    assert {bits: point["is_dominated"] for bits, point in points.items()} == {2: False, 3: False, 4: True, 8: None}
    assert points[8]["figures"] is None
    assert (points[8]["error"] is None) == (points[8]["state"] == "queued")


def test_forgotten_sweep_leaves_its_jobs_and_a_deleted_job_is_no_point(web: TestClient) -> None:
    sweep = web.post("/v1/sweeps", json={"model": MODEL, "grid": {"bits": [3, 4]}}).json()
    first, second = (point["job_id"] for point in sweep["points"])
    web.post(f"/v1/jobs/{first}/cancel")
    assert web.delete(f"/v1/jobs/{first}").status_code == 204
    left = web.get(f"/v1/sweeps/{sweep['id']}").json()
    assert [point["job_id"] for point in left["points"]] == [second]
    assert web.delete(f"/v1/sweeps/{sweep['id']}").status_code == 204
    assert web.get(f"/v1/sweeps/{sweep['id']}").status_code == 404
    assert web.delete(f"/v1/sweeps/{sweep['id']}").status_code == 404
    job = web.get(f"/v1/jobs/{second}").json()
    assert (job["state"], job["sweep"]) == ("queued", None)


def test_sweep_that_exceeds_a_quota_leaves_nothing(web: TestClient, submit: Submit, sessions: Sessions) -> None:
    submit()
    with sessions.begin() as session:
        set_quotas(session.get_one(Tenant, LOCAL_TENANT_ID), {"queued": 3})
    answer = web.post("/v1/sweeps", json={"model": MODEL, "grid": {"bits": [2, 3, 4]}})
    assert answer.status_code == 429
    assert len(web.get("/v1/jobs").json()["items"]) == 1
    assert web.get("/v1/sweeps").json()["items"] == []
    assert web.post("/v1/sweeps", json={"model": MODEL, "grid": {"bits": [3, 4]}}).status_code == 202


def test_same_key_makes_one_sweep(web: TestClient) -> None:
    body, headers = {"model": MODEL, "grid": {"bits": [3, 4]}}, {"Idempotency-Key": "once"}
    answers = [web.post("/v1/sweeps", json=body, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len(web.get("/v1/jobs").json()["items"]) == 2

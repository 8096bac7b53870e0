import json
from importlib import import_module
from pkgutil import iter_modules

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import DataError, OperationalError

import jobs
from api.problems import PROBLEMS, Problem, ProblemResponse, kind_of
from compression.errors import CompressionError, InvalidOptions, NumericalError
from jobs.errors import JobNotFound, JobsError
from jobs.failure import from_compression_error

for found in iter_modules(jobs.__path__, prefix="jobs."):
    import_module(found.name)  # errors may be born in any of them


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(subclasses(CompressionError) | subclasses(JobsError), key=str))
def test_every_error_of_the_rooms_has_a_status_of_its_own(kind: type[Exception]) -> None:
    assert kind in PROBLEMS


def test_slugs_are_told_apart() -> None:
    slugs = [kind.slug for kind in PROBLEMS.values()]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize(
    "error", [InvalidOptions("recipe.bits", "wrong"), NumericalError("layer", "NaN"), CompressionError("x")], ids=str
)
def test_job_that_failed_and_request_that_was_refused_use_the_same_words(error: CompressionError) -> None:
    failure, kind = from_compression_error(error), kind_of(error)
    assert kind is not None
    assert (failure.type, failure.title) == (kind.slug, kind.title)


def test_unmapped_descendant_falls_back_to_its_parent() -> None:
    class Stranger(JobNotFound):
        pass

    assert kind_of(Stranger("x")) == PROBLEMS[JobNotFound]
    assert kind_of(ValueError()) is None


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/jobs/", 404, "not-found"),
        ("DELETE", "/v1/jobs", 405, "method-not-allowed"),
    ],
)
def test_unknown_routes_and_methods_are_problems_too(web: TestClient, method: str, path: str, status: int, slug: str) -> None:
    answer = web.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (status, slug)
    assert answer.headers["content-type"] == "application/problem+json"


def test_broken_json_is_refused(web: TestClient) -> None:
    answer = web.post("/v1/jobs", content=b'{"model": ', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body")


def test_number_too_long_to_read_is_refused(web: TestClient) -> None:
    body = b'{"model": "demo:smollm2-135m", "recipe": {"sparsity": %s}}' % (b"9" * 5000)
    answer = web.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "bad-request")


@pytest.mark.parametrize(
    "status_error", [ZeroDivisionError("secret"), JobsError("secret"), CompressionError("secret")], ids=repr
)
def test_unexpected_error_is_a_500_without_internals(app: FastAPI, status_error: Exception) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise status_error

    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as web:
        answer = web.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_database_that_is_away_is_a_503(app: FastAPI) -> None:
    @app.get("/away")
    def away() -> None:
        raise OperationalError("SELECT 1", {}, Exception("no route to host 10.0.0.7"))

    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as web:
        answer = web.get("/away")
    assert (answer.status_code, answer.json()["type"]) == (503, "database-unavailable")
    assert "10.0.0.7" not in answer.text


def test_value_that_the_database_cannot_hold_is_the_caller_s_mistake(app: FastAPI) -> None:
    @app.get("/nul")
    def nul() -> None:
        raise DataError("SELECT secret FROM jobs", {}, Exception("PostgreSQL text fields cannot contain NUL (0x00) bytes"))

    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as web:
        answer = web.get("/nul")
    assert (answer.status_code, answer.json()["type"]) == (422, "unstorable-value")
    assert "secret" not in answer.text


def test_problem_with_a_lone_surrogate_can_still_be_sent() -> None:
    body = ProblemResponse(Problem(type="x", title="\ud800", status=400)).body
    assert json.loads(bytes(body))["title"] == "\ud800"

import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from cli.embedded import ValkeyServer
from compression.options import METHOD_OPTIONS
from jobs.errors import SettingsError
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from tests.jobs.conftest import valkey  # noqa: F401  a fixture

HEAVY = ("torch", "transformers", "datasets", "worker")


def test_api_never_imports_torch_or_the_worker() -> None:
    program = f"import sys, api.app; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_process_that_answers_is_healthy(web: TestClient) -> None:
    assert web.get("/healthz").json() == {"status": "ok"}


def test_readiness_names_the_part_that_is_down(web: TestClient) -> None:
    answer = web.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "down: broker")
    assert {part["field"]: part["detail"] for part in answer.json()["errors"]} == {
        "database": "ok", "schema": "ok", "broker": "down", "artifacts": "ok",
    }  # fmt: skip


def test_service_is_ready_when_every_part_answers(settings: Settings, valkey: ValkeyServer) -> None:  # noqa: F811
    app = create_app(settings.model_copy(update={"broker_url": valkey.url}))
    with TestClient(app, base_url="http://127.0.0.1") as web:
        checks = {"database": "ok", "schema": "ok", "broker": "ok", "artifacts": "ok"}
        assert web.get("/readyz").json() == {"status": "ready", "checks": checks, "maintain_age_s": None, "workers": 0}
        valkey.stop()
        assert web.get("/readyz").status_code == 503


def test_service_without_a_broker_does_not_start(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"broker_url": None}))
    with pytest.raises(SettingsError), TestClient(app):
        pass


def test_methods_are_listed_with_their_schema(web: TestClient) -> None:
    methods = {method["name"]: method for method in web.get("/v1/methods").json()}
    assert methods.keys() == METHOD_OPTIONS.keys()
    assert all(method["good_for"] for method in methods.values())
    assert methods["sparsegpt"]["options"]["properties"]["sparsity"]["exclusiveMaximum"] == 1


def test_listed_models_can_be_asked_for(web: TestClient) -> None:
    for model in web.get("/v1/models").json()["items"]:
        check_request(JobRequest.model_validate({"model": model["name"], "recipe": {"bits": 4}}))


def test_no_page_loads_scripts_from_elsewhere(web: TestClient) -> None:
    assert web.get("/docs").status_code == web.get("/redoc").status_code == 404


@pytest.fixture
def openapi(web: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = web.get("/openapi.json").json()
    return document


def test_openapi_examples_are_accepted(web: TestClient, openapi: dict[str, Any]) -> None:
    examples = openapi["components"]["schemas"]["JobRequest"]["examples"]
    assert examples
    for example in examples:
        assert web.post("/v1/jobs", json=example).status_code == 202


def test_openapi_names_every_refusal_as_a_problem(openapi: dict[str, Any]) -> None:
    assert openapi["info"]["version"] == version("scalpel")
    for path in openapi["paths"].values():
        for operation in path.values():
            assert {"400", "500", "503"} <= operation["responses"].keys()
            for status, answer in operation["responses"].items():
                assert status.isdecimal()
                assert (list(answer.get("content", ())) == ["application/problem+json"]) is (int(status) >= 400), answer
    submit = openapi["paths"]["/v1/jobs"]["post"]["responses"]
    assert submit.keys() == {"202", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"}


def test_openapi_documents_files_as_bytes_and_events_as_a_stream(openapi: dict[str, Any]) -> None:
    def answers(path: str) -> list[str]:
        return list(openapi["paths"][f"/v1/jobs/{{job_id}}{path}"]["get"]["responses"]["200"]["content"])

    assert answers("/artifacts/{name}") == ["application/octet-stream"]
    assert answers("/events") == ["text/event-stream"]
    assert answers("/report") == ["application/json"]

"""The interface against its own OpenAPI document: requests made from it, alone and in sequences, are answered as it says."""

import pytest
from fastapi import FastAPI

from benchmarks.conformance import examine
from cli.embedded import ValkeyServer
from jobs.settings import Settings
from tests.api.serving import served
from tests.jobs.conftest import valkey  # noqa: F401  a fixture


@pytest.fixture
def settings(settings: Settings, valkey: ValkeyServer) -> Settings:  # noqa: F811
    return settings.model_copy(update={"broker_url": valkey.url})  # so that /readyz has nothing to say


def test_every_operation_answers_as_it_is_documented(app: FastAPI, api_key: str) -> None:
    with served(app) as service:
        found = examine(service.url, api_key, examples=2, steps=4, phases=("examples", "fuzzing", "stateful"))
    assert found.failures == {}
    assert len(found.operations) == found.declared >= 33
    assert found.cases.total() > 60 and found.cases["stateful"] > 0, found.cases
    assert found.statuses[200] > 0 and found.checks > found.cases.total()


def test_an_answer_that_is_not_documented_is_found(app: FastAPI, api_key: str) -> None:
    document = app.openapi()
    document["paths"]["/v1/methods"]["get"]["responses"] = {"204": {"description": "Nothing."}}
    with served(app) as service:
        found = examine(service.url, api_key, examples=1, steps=2, phases=("fuzzing",))
    assert {label for _, label in found.failures} == {"GET /v1/methods"}

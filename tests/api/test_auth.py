"""Who gets in: nobody without a key, nobody beyond its scopes, and nobody into another tenant's rooms."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from jobs.access.keys import Scope, create_key
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.tables import Tenant
from tests.api.conftest import Submit
from tests.api.resources import MAKERS, House, Operation, operations
from tests.api.standin import Worker

CHANGES_NOTHING = {"/v1/estimates"}  # though it is a POST
OPEN = {"/healthz", "/readyz", "/openapi.json"}


def with_key(app: FastAPI, token: str) -> TestClient:
    headers = {"Authorization": f"Bearer {token}"}
    return TestClient(app, base_url="http://127.0.0.1:8321", headers=headers, raise_server_exceptions=False)


def key_of(sessions: Sessions, tenant: str, *scopes: Scope) -> str:
    with sessions.begin() as session:
        session.merge(Tenant(id=tenant, name=tenant.lower(), created_at=datetime.now(UTC)))
        session.flush()
        return create_key(session, tenant, "test", scopes)[1]


@pytest.fixture
def stranger(app: FastAPI, web: TestClient, sessions: Sessions) -> Iterator[TestClient]:
    """Another tenant, who may do everything, at home."""
    yield with_key(app, key_of(sessions, "STRANGER", "read", "write", "admin"))


@pytest.fixture
def house(web: TestClient, submit: Submit, worker: Worker) -> House:
    return House(web, submit, worker)


def test_every_route_but_the_health_checks_asks_for_a_key(app: FastAPI, web: TestClient) -> None:
    anonymous = TestClient(app, base_url="http://127.0.0.1:8321", raise_server_exceptions=False)
    for path, described in app.openapi()["paths"].items():
        for method, operation in described.items():
            kinds = operation.get("requestBody", {}).get("content", {"application/json": {}})
            headers = {"Content-Type": next(iter(kinds))}
            answer = anonymous.request(method, path.replace("{", "").replace("}", ""), content=b"{}", headers=headers)
            if path in OPEN:
                assert answer.status_code in (200, 503), path
            else:
                assert (answer.status_code, answer.json()["type"]) == (401, "unauthenticated"), (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nonsense", "Basic c2NhbHBlbDp4", "scalpel_x"])
def test_bad_credentials_are_no_key(app: FastAPI, web: TestClient, header: str) -> None:
    anonymous = TestClient(app, base_url="http://127.0.0.1:8321", raise_server_exceptions=False)
    assert anonymous.get("/v1/jobs", headers={"Authorization": header}).status_code == 401


def test_key_that_may_only_read_cannot_submit_or_cancel(
    app: FastAPI, web: TestClient, sessions: Sessions, submit: Submit
) -> None:
    reader = with_key(app, key_of(sessions, "0" * 26, "read"))
    job_id = submit()
    assert reader.get(f"/v1/jobs/{job_id}").status_code == 200
    for answer in (
        reader.post("/v1/jobs", json={"model": "demo:smollm2-135m", "recipe": {"bits": 4}}),
        reader.post(f"/v1/jobs/{job_id}/cancel"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")
        assert "`write`" in answer.json()["detail"]


def test_ids_of_another_tenant_are_not_there_whatever_is_asked_of_them(
    app: FastAPI, house: House, stranger: TestClient
) -> None:
    walked = [operation for operation in operations(app) if operation.parameters]
    assert len(walked) >= 8
    for operation in walked:
        ids = operation.make_ids(house)
        answer = operation.send(stranger, ids)
        assert answer.status_code == 404, (operation, answer.text)
        assert answer.json()["type"].endswith("-not-found"), (operation, answer.text)
        owner_s = operation.send(house.web, ids)
        assert owner_s.status_code < 300, f"{operation.method} {operation.path}: not even its owner: {owner_s.text}"


def test_lists_hold_nothing_of_another_tenant(app: FastAPI, house: House, stranger: TestClient) -> None:
    ids = {maker(house) for name, maker in MAKERS.items() if name.endswith("_id")}
    lists = [each for each in operations(app) if each.method == "get" and not each.parameters and each.path.startswith("/v1")]
    seen = ""
    for operation in lists:
        answer = operation.send(stranger, {})
        assert answer.status_code == 200, operation.path
        assert not [known for known in ids if known in answer.text], operation.path
        seen += operation.send(house.web, {}).text
    assert all(known in seen for known in ids), "no list shows it even to its owner"


def test_every_write_is_audited_with_key_address_and_resource(app: FastAPI, house: House, api_key: str) -> None:
    me = house.web.get("/v1/me").json()
    for operation in operations(app):
        if not operation.is_write or operation.path in CHANGES_NOTHING:
            continue
        ids = operation.make_ids(house)
        if operation.method == "delete" and not ids:
            Operation("put", operation.path, *_put_of(app, operation.path)).send(house.web, {})
        newest = house.web.get("/v1/audit?limit=1").json()["items"]
        answer = operation.send(house.web, ids)
        assert answer.status_code < 300, (operation.method, operation.path, answer.text)
        entry = house.web.get("/v1/audit?limit=1").json()["items"][0]
        assert [entry] != newest, f"{operation.method} {operation.path} leaves nothing in the audit"
        assert (entry["key_id"], entry["address"], entry["outcome"]) == (me["key_id"], "testclient", "done")
        assert entry["resource"]
        assert api_key not in str(entry)


def _put_of(app: FastAPI, path: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    document = app.openapi()
    return document["paths"][path]["put"], document


def test_write_that_the_key_may_not_do_is_audited_too(app: FastAPI, web: TestClient, sessions: Sessions) -> None:
    reader = with_key(app, key_of(sessions, "0" * 26, "read"))
    assert reader.delete("/v1/keys/somebody").status_code == 403
    assert reader.get("/v1/keys").status_code == 403  # a read
    (entry,) = web.get("/v1/audit").json()["items"]
    assert (entry["action"], entry["outcome"]) == ("DELETE /v1/keys/{key_id}", "forbidden")
    assert entry["key_id"] == reader.get("/v1/me").json()["key_id"]


def test_without_authentication_everybody_on_this_machine_is_the_local_tenant(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"authentication": "off"}))
    with TestClient(app, base_url="http://127.0.0.1:8321") as anonymous:
        assert anonymous.post("/v1/jobs", json={"model": "demo:smollm2-135m", "recipe": {"bits": 4}}).status_code == 202
        assert len(anonymous.get("/v1/jobs").json()["items"]) == 1

"""Keys over HTTP: made, shown once, no stronger than their maker's, and worth nothing once revoked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from jobs.access import keys
from jobs.database import Sessions
from tests.api.test_auth import key_of, with_key


def make(web: TestClient, **fields: Any) -> dict[str, Any]:
    answer = web.post("/v1/keys", json={"name": "ci", "scopes": ["read"], **fields})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


def test_new_key_opens_what_it_was_made_for_and_is_shown_once(app: FastAPI, web: TestClient) -> None:
    made = make(web)
    client = with_key(app, made["key"])
    assert client.get("/v1/jobs").status_code == 200
    assert client.post("/v1/jobs", json={"model": "demo:smollm2-135m", "recipe": {"bits": 4}}).status_code == 403
    listed = web.get("/v1/keys")
    assert [key["name"] for key in listed.json()["items"]] == ["ci", "local"]
    assert made["key"] not in listed.text
    assert made["key"].startswith(listed.json()["items"][0]["prefix"])
    assert listed.json()["items"][0]["last_used_at"] is not None


def test_revoked_key_opens_nothing_and_stays_in_the_list(app: FastAPI, web: TestClient) -> None:
    made = make(web)
    revoked = web.delete(f"/v1/keys/{made['id']}").json()
    assert with_key(app, made["key"]).get("/v1/me").status_code == 401
    assert web.delete(f"/v1/keys/{made['id']}").json() == revoked == web.get("/v1/keys").json()["items"][0]
    answer = web.delete("/v1/keys/nobody")
    assert (answer.status_code, answer.json()["type"]) == (404, "key-not-found")


def test_key_expires_when_it_was_asked_to(web: TestClient) -> None:
    expires_at = datetime.fromisoformat(make(web, expires_in_days=90)["expires_at"])
    assert abs(expires_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
    assert make(web)["expires_at"] is None


def test_key_gives_no_scope_that_it_does_not_have(app: FastAPI, web: TestClient, sessions: Sessions) -> None:
    keeper = with_key(app, key_of(sessions, "0" * 26, "read", "admin"))
    answer = keeper.post("/v1/keys", json={"name": "x", "scopes": ["read", "write"]})
    assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")
    assert "`write`" in answer.json()["detail"]
    assert make(keeper, scopes=["admin", "read", "read"])["scopes"] == ["read", "admin"]


def test_only_an_administrator_s_key_manages_keys(app: FastAPI, web: TestClient, sessions: Sessions) -> None:
    writer = with_key(app, key_of(sessions, "0" * 26, "read", "write"))
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("DELETE", "/v1/keys/x"), ("GET", "/v1/audit")):
        assert writer.request(method, path, json={"name": "x", "scopes": ["read"]}).status_code == 403, path


@pytest.mark.parametrize(
    "fields",
    [{"scopes": []}, {"scopes": ["root"]}, {"name": ""}, {"name": "a\nb"}, {"expires_in_days": 0}, {"expires_in_days": 10**9}],
    ids=str,
)
def test_wrong_request_is_refused_by_its_field(web: TestClient, fields: dict[str, Any]) -> None:
    answer = web.post("/v1/keys", json={"name": "ci", "scopes": ["read"], **fields})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].partition(".")[0] == next(iter(fields))


def test_tenant_has_so_many_keys_and_no_more(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_KEYS", 2)
    made = make(web)
    answer = web.post("/v1/keys", json={"name": "ci", "scopes": ["read"]})
    assert (answer.status_code, answer.json()["type"]) == (429, "quota-exceeded")
    assert "revoke" in answer.json()["detail"]
    web.delete(f"/v1/keys/{made['id']}")
    make(web)

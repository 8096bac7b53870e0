"""The caller about itself, its hub token and its limits, over HTTP."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from jobs.access.hub_access import hub_settings
from jobs.access.quotas import set_quotas
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.tables import Tenant
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.api.test_auth import key_of, with_key

TOKEN = "hf_" + "T" * 34
BODY = {"model": "demo:smollm2-135m", "recipe": {"bits": 4}}


def limit(sessions: Sessions, **quotas: int) -> None:
    with sessions.begin() as session:
        set_quotas(session.get_one(Tenant, LOCAL_TENANT_ID), quotas)


def test_me_tells_tenant_scopes_limits_and_use(
    app: FastAPI, web: TestClient, sessions: Sessions, submit: Submit, worker: Worker
) -> None:
    limit(sessions, queued=7)
    submit()
    worker.succeed(worker.claim(), {"report.json": b"12345"})
    submit()
    me = with_key(app, key_of(sessions, "0" * 26, "write")).get("/v1/me").json()
    assert me["tenant"] == {"id": "0" * 26, "name": "0" * 26}  # as `key_of` names it
    assert me["scopes"] == ["write"]
    assert me["quotas"] == {"running": None, "queued": 7, "stored_bytes": None, "device_s": None}
    assert (me["use"]["running"], me["use"]["queued"], me["use"]["stored_bytes"]) == (0, 1, 5)
    assert me["use"]["device_s"] > 0


def test_job_beyond_the_limit_is_refused_and_leaves_nothing(web: TestClient, sessions: Sessions, submit: Submit) -> None:
    limit(sessions, queued=1)
    job_id = submit()
    answer = web.post("/v1/jobs", json=BODY)
    assert (answer.status_code, answer.json()["type"]) == (429, "quota-exceeded")
    assert answer.json()["detail"] == (
        "the limit `queued` is 1 and 1 are used; wait until some have started, or cancel some, or ask the operator for more"
    )
    assert [job["id"] for job in web.get("/v1/jobs").json()["items"]] == [job_id]
    assert len(web.get("/v1/audit").json()["items"]) == 1
    web.post(f"/v1/jobs/{job_id}/cancel")
    assert web.post("/v1/jobs", json=BODY).status_code == 202


def test_hub_token_is_kept_for_the_tenant_and_never_shown(
    web: TestClient, app: FastAPI, settings: Settings, sessions: Sessions
) -> None:
    stranger = with_key(app, key_of(sessions, "STRANGER", "admin"))
    assert web.get("/v1/secrets/hub-token").json() == {"is_set": False, "set_at": None}
    put = web.put("/v1/secrets/hub-token", json={"token": TOKEN})
    assert put.status_code == 200
    got = web.get("/v1/secrets/hub-token")
    assert got.json() == put.json()
    assert got.json()["is_set"] is True
    assert TOKEN not in put.text + got.text + web.get("/v1/audit").text
    with sessions() as session:
        token = hub_settings(session, settings, LOCAL_TENANT_ID).hub_token
    assert token is not None and token.get_secret_value() == TOKEN
    assert stranger.get("/v1/secrets/hub-token").json()["is_set"] is False
    assert stranger.delete("/v1/secrets/hub-token").status_code == 404
    assert web.delete("/v1/secrets/hub-token").status_code == 204
    assert web.get("/v1/secrets/hub-token").json()["is_set"] is False
    assert web.delete("/v1/secrets/hub-token").json()["type"] == "secret-not-found"


@pytest.mark.parametrize("token", ["hf_with space", "hf_\r\nX-Evil: 1", "short", "ü" * 20, "x" * 513], ids=repr)
def test_token_that_fits_into_no_header_is_refused_without_repeating_it(web: TestClient, token: str) -> None:
    answer = web.put("/v1/secrets/hub-token", json={"token": token})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "token"
    assert token not in answer.text


def test_server_without_a_master_key_keeps_no_secret(settings: Settings, api_key: str) -> None:
    app = create_app(settings.model_copy(update={"secret_keys": ()}))
    with with_key(app, api_key) as web:
        answer = web.put("/v1/secrets/hub-token", json={"token": TOKEN})
        assert (answer.status_code, answer.json()["type"]) == (409, "secrets-not-configured")
        assert "SCALPEL_SECRET_KEYS" in answer.json()["detail"]
        assert web.get("/v1/secrets/hub-token").json()["is_set"] is False


def test_audit_is_read_page_by_page(web: TestClient, submit: Submit) -> None:
    submitted = [submit() for _ in range(3)]
    first = web.get("/v1/audit?limit=2").json()
    second = web.get("/v1/audit", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [entry["resource"] for entry in first["items"] + second["items"]] == submitted[::-1]
    assert second["next_cursor"] is None
    assert web.get("/v1/audit?cursor=abc").json()["type"] == "invalid-cursor"

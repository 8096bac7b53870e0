"""Webhooks over HTTP: secrets shown once, hostile addresses refused, the log, and nothing for keys without `admin`."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.api.test_auth import key_of, with_key

BODY = {"url": "https://hooks.example.com/scalpel?token=x", "events": ["job.failed", "job.cancelled"]}


@pytest.fixture
def webhook_id(web: TestClient) -> str:
    return str(web.post("/v1/webhooks", json=BODY).json()["id"])


def test_secret_is_shown_when_it_is_made_and_never_again(web: TestClient) -> None:
    made = web.post("/v1/webhooks", json=BODY)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    view = made.json()
    secret = view.pop("secret")
    assert secret.startswith("whsec_")
    assert view["is_enabled"] is True and view["events"] == BODY["events"]
    assert web.get(made.headers["location"]).json() == view
    assert web.get("/v1/webhooks").json()["items"] == [view]
    rotated = web.post(f"/v1/webhooks/{view['id']}/rotate").json()
    assert rotated["secret"] not in ("", secret) and rotated["old_secret_until"] is not None
    seen = web.get("/v1/webhooks").text + web.get("/v1/audit").text + web.patch(made.headers["location"], json={}).text
    assert secret not in seen and rotated["secret"] not in seen


@pytest.mark.parametrize(
    "url", ["https://169.254.169.254/", "https://localhost/", "http://example.com/", "https://a:b@example.com/"]
)
def test_address_that_leads_inside_is_refused(web: TestClient, webhook_id: str, url: str) -> None:
    for answer in (
        web.post("/v1/webhooks", json={"url": url}),
        web.patch(f"/v1/webhooks/{webhook_id}", json={"url": url}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, "url-refused")
    assert web.get(f"/v1/webhooks/{webhook_id}").json()["url"] == BODY["url"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("events", []), ("events", ["job.lost"]), ("description", "\0"), ("description", "x" * 256), ("secret", "whsec_x")],
    ids=str,
)
def test_request_out_of_range_is_refused(web: TestClient, field: str, value: object) -> None:
    answer = web.post("/v1/webhooks", json={**BODY, field: value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(field)


def test_log_tells_of_a_job_s_end_and_takes_a_resend(web: TestClient, webhook_id: str, submit: Submit, worker: Worker) -> None:
    submit()
    failed = worker.claim()
    worker.fail(failed)
    test = web.post(f"/v1/webhooks/{webhook_id}/test")
    assert (test.status_code, test.json()["type"]) == (202, "webhook.test")
    page = web.get(f"/v1/webhooks/{webhook_id}/deliveries?limit=1").json()
    assert page["items"] == [test.json()]
    (of_job,) = web.get(f"/v1/webhooks/{webhook_id}/deliveries", params={"cursor": page["next_cursor"]}).json()["items"]
    assert (of_job["type"], of_job["job_id"], of_job["state"]) == ("job.failed", failed, "pending")
    assert of_job["next_attempt_at"] is not None and "payload" not in of_job
    again = web.post(f"/v1/webhooks/{webhook_id}/deliveries/{of_job['id']}/resend")
    assert (again.status_code, again.json()["id"]) == (202, of_job["id"])
    assert web.post(f"/v1/webhooks/{webhook_id}/deliveries/none/resend").json()["type"] == "delivery-not-found"


def test_nothing_is_sent_to_a_disabled_webhook(web: TestClient, webhook_id: str) -> None:
    path = f"/v1/webhooks/{webhook_id}"
    delivery_id = web.post(f"{path}/test").json()["id"]
    assert web.patch(path, json={"is_enabled": False}).json()["disabled_reason"] is not None
    for action in ("test", f"deliveries/{delivery_id}/resend"):
        answer = web.post(f"{path}/{action}")
        assert (answer.status_code, answer.json()["type"]) == (409, "webhook-disabled")
    assert web.delete(path).status_code == 200
    assert web.get(path).json()["type"] == "webhook-not-found"


def test_scope_admin_is_needed_even_to_read(app: FastAPI, web: TestClient, webhook_id: str, sessions: Sessions) -> None:
    writer = with_key(app, key_of(sessions, LOCAL_TENANT_ID, "read", "write"))
    for path in ("", f"/{webhook_id}", f"/{webhook_id}/deliveries"):
        assert writer.get(f"/v1/webhooks{path}").status_code == 403
    assert writer.post("/v1/webhooks", json=BODY).status_code == 403

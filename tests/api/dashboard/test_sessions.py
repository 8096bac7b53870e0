"""Who gets into the dashboard, for how long, and what a page of another site cannot do."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api.dashboard.routes.sign_in import own_path
from jobs.access.browser_sessions import make_link
from jobs.access.keys import create_key
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.tables import ApiKey, BrowserSession
from tests.api.conftest import Submit
from tests.api.dashboard.conftest import URL, Visitor, visitor_of

PAGES = ("/", "/new", "/jobs", "/models", "/datasets", "/keys", "/compare")


@pytest.mark.parametrize("path", PAGES)
def test_page_sends_who_is_not_signed_in_to_the_sign_in(app: FastAPI, web: TestClient, path: str) -> None:
    answer = visitor_of(app).get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("path", PAGES)
def test_page_allows_no_foreign_script_and_is_kept_nowhere(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert " style=" not in answer.text and "<style" not in answer.text and " onclick" not in answer.text


def test_session_ends_with_its_key(visitor: Visitor, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(update(ApiKey).values(revoked_at=datetime.now(UTC)))
    assert visitor.get("/").status_code == 303
    assert visitor.get("/v1/jobs").status_code == 401


def test_session_ends_with_its_time(visitor: Visitor, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(update(BrowserSession).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert visitor.get("/").status_code == 303


def test_neither_key_nor_token_is_kept(visitor: Visitor, sessions: Sessions, api_key: str) -> None:
    token = next(cookie.value for cookie in visitor.client.cookies.jar if "session" in cookie.name)
    with sessions() as session:
        (row,) = session.scalars(select(BrowserSession)).all()
        kept = str(vars(row))
    assert token is not None
    assert token not in kept and api_key not in kept


def test_signing_in_and_out_is_audited(visitor: Visitor, web: TestClient) -> None:
    visitor.post("/sign-out")
    entries = web.get("/v1/audit").json()["items"]
    assert [entry["action"] for entry in entries] == ["session.close", "session.open"]
    assert all(entry["address"] == "testclient" for entry in entries)


def test_link_is_good_once_and_for_a_while(app: FastAPI, web: TestClient, sessions: Sessions, api_key: str) -> None:
    with sessions.begin() as session:
        first, second = make_link(session, api_key), make_link(session, api_key)
        session.execute(
            update(BrowserSession)
            .where(
                BrowserSession.id == select(BrowserSession.id).order_by(BrowserSession.id.desc()).limit(1).scalar_subquery()
            )
            .values(expires_at=datetime.now(UTC))
        )
    found = [visitor_of(app).post("/sign-in/once", token=token).status_code for token in (first, first, second, "")]
    assert sorted(found) == [303, 401, 401, 401]
    assert found[1] == 401


def test_link_is_no_session_and_a_session_no_link(app: FastAPI, visitor: Visitor, sessions: Sessions, api_key: str) -> None:
    with sessions.begin() as session:
        link = make_link(session, api_key)
    stranger = visitor_of(app)
    cookie = next(cookie for cookie in visitor.client.cookies.jar if "session" in cookie.name)
    stranger.client.cookies.set(cookie.name, link)
    assert stranger.get("/").status_code == 303
    assert cookie.value is not None
    assert visitor_of(app).post("/sign-in/once", token=cookie.value).status_code == 401


@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
def test_form_without_its_token_changes_nothing(visitor: Visitor, submit: Submit, web: TestClient, token: str) -> None:
    job_id = submit()
    answer = visitor.client.post(f"/jobs/{job_id}/cancel", data={"csrf": token})
    assert answer.status_code == 403
    assert web.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"


def test_cookie_alone_changes_nothing_over_the_api(visitor: Visitor) -> None:
    body = {"model": "demo:smollm2-135m", "recipe": {"bits": 4}}
    assert visitor.get("/v1/jobs").status_code == 200
    assert visitor.client.post("/v1/jobs", json=body).status_code == 403
    assert visitor.client.post("/v1/jobs", json=body, headers={"X-CSRF-Token": visitor.token()}).status_code == 202


def test_token_of_one_browser_is_worth_nothing_in_another(app: FastAPI, visitor: Visitor, api_key: str) -> None:
    other = visitor_of(app)
    other.sign_in(api_key)
    assert visitor.client.post("/sign-out", data={"csrf": other.token()}, follow_redirects=False).status_code == 403


def test_token_is_asked_for_without_authentication_too(open_visitor: Visitor) -> None:
    form = {"model.kind": "demo", "model.demo": "demo:smollm2-135m", "goal": "quantise", "recipe.bits": "4"}
    assert open_visitor.client.post("/new", data=form).status_code == 403
    answer = open_visitor.client.get("/new")
    assert "Sign out" not in answer.text
    assert open_visitor.client.post("/new", data={"csrf": _token(answer.text), **form}).status_code == 200


def _token(page: str) -> str:
    return page.partition('name="csrf" value="')[2].partition('"')[0]


def test_page_of_another_site_cannot_send_a_form(visitor: Visitor) -> None:
    headers = {"Origin": "https://evil.example"}
    answer = visitor.client.post("/sign-out", data={"csrf": visitor.token()}, headers=headers, follow_redirects=False)
    assert answer.status_code == 403


@pytest.mark.parametrize("settings", [{"failed_keys_per_minute": 2}], indirect=True)
def test_keys_cannot_be_tried_without_end(app: FastAPI, web: TestClient) -> None:
    stranger = visitor_of(app)
    page = stranger.client.get("/sign-in").text
    tried = [
        stranger.client.post("/sign-in", data={"csrf": _token(page), "key": f"scalpel_{number}"}).status_code
        for number in range(4)
    ]
    assert tried == [401, 401, 429, 429]


def test_key_that_may_only_read_sees_and_changes_nothing(
    app: FastAPI, web: TestClient, sessions: Sessions, submit: Submit
) -> None:
    with sessions.begin() as session:
        _, key = create_key(session, LOCAL_TENANT_ID, "reader", ["read"])
    job_id = submit()
    reader = visitor_of(app)
    reader.sign_in(key)
    assert "Cancel" not in reader.get(f"/jobs/{job_id}").text
    page = reader.client.get("/new").text
    refused = reader.client.post(f"/jobs/{job_id}/cancel", data={"csrf": _token(page)})
    assert (refused.status_code, "`write`" in refused.text) == (403, True)
    assert reader.get("/keys").status_code == 403


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/\r\nx: y", "javascript:x"]
)
def test_sign_in_leads_nowhere_else(path: str) -> None:
    assert own_path(path) == "/"


def test_cookies_are_for_https_alone_where_there_is_https(app: FastAPI, web: TestClient) -> None:
    client = TestClient(app, base_url=URL.replace("http", "https"))
    cookie = client.get("/sign-in").headers["set-cookie"]
    assert cookie.startswith("__Host-scalpel-form=") and "Secure" in cookie and "HttpOnly" in cookie

"""Publishing from a job's page: what the form asks for, who may, and what is refused."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from markupsafe import escape

from api.app import create_app
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.publications import Published
from jobs.settings import Settings
from tests.api.conftest import Submit
from tests.api.dashboard.conftest import URL, Visitor, visitor_of
from tests.api.standin import Worker
from tests.api.test_auth import key_of

FOLDER = f"s3://models/{LOCAL_TENANT_ID}/ours"
EVIL = "javascript:alert(1)//\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"publish_buckets": ("s3://models/{tenant}",)})


@pytest.fixture
def done(web: TestClient, submit: Submit, worker: Worker) -> str:
    """A job with files, of a tenant that has a hub token."""
    web.put("/v1/secrets/hub-token", json={"token": "hf_" + "T" * 34})
    job_id = submit()
    worker.claim()
    worker.succeed(job_id, {"report.json": b"{}", "model.safetensors": b"x"})
    return job_id


@pytest.mark.parametrize(
    ("typed", "target"),
    [
        ({"target": "hub", "hub": " owner/model "}, {"hub": "owner/model", "private": True}),
        ({"hub": "owner/model"}, {"hub": "owner/model", "private": True}),
        (
            {"target": "hub", "hub": "owner/model", "revision": "next", "public": "yes", "bucket": "s3://left/over"},
            {"hub": "owner/model", "private": False, "revision": "next"},
        ),
        ({"target": "bucket", "bucket": FOLDER, "hub": "left/over"}, {"bucket": FOLDER}),
    ],
)
def test_form_asks_for_what_the_api_takes(
    visitor: Visitor, web: TestClient, done: str, typed: dict[str, str], target: dict[str, Any]
) -> None:
    answer = visitor.post(f"/jobs/{done}/publish", **typed)
    (made,) = web.get(f"/v1/jobs/{done}/publications").json()["items"]
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{made['id']}")
    assert (made["request"], made["task"], made["parent"]) == ({"target": target}, "publish", done)
    (audited,) = [entry for entry in web.get("/v1/audit").json()["items"] if entry["action"] == "job.publish"]
    assert (audited["resource"], audited["address"]) == (made["id"], "testclient")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"target": "hub", "hub": "owner"}, "String should match pattern"),
        ({"target": "hub", "hub": "owner/.."}, "it is no name of a repository"),
        ({"target": "hub", "hub": "owner/model", "revision": "a..b"}, "it is no name of a branch"),
        ({"target": "bucket", "bucket": "s3://other/folder"}, f"below s3://models/{LOCAL_TENANT_ID}/"),
        ({"target": "bucket", "bucket": EVIL}, "it is no plain address of a folder"),
        ({}, "at least 3 characters"),
    ],
    ids=["no-owner", "no-repository", "no-branch", "foreign-bucket", "hostile-bucket", "empty"],
)
def test_refused_target_is_shown_again_on_the_page_of_the_job(
    visitor: Visitor, web: TestClient, done: str, typed: dict[str, str], words: str
) -> None:
    answer = visitor.post(f"/jobs/{done}/publish", **typed)
    assert (answer.status_code, words in answer.text) == (422, True)
    assert 'aria-invalid="true"' in answer.text
    for said in typed.values():
        assert f'value="{escape(said)}"' in answer.text
    assert "<img src=x" not in answer.text
    assert web.get(f"/v1/jobs/{done}/publications").json()["items"] == []


def test_target_is_refused_without_a_token_for_it(visitor: Visitor, web: TestClient, done: str) -> None:
    web.delete("/v1/secrets/hub-token")
    answer = visitor.post(f"/jobs/{done}/publish", hub="owner/model")
    assert (answer.status_code, "the tenant has no hub token" in answer.text) == (422, True)


def test_form_without_its_token_publishes_nothing(visitor: Visitor, web: TestClient, done: str) -> None:
    fields = {"target": "hub", "hub": "owner/model"}
    for csrf in ({}, {"csrf": "0" * 64}):
        assert visitor.client.post(f"/jobs/{done}/publish", data={**csrf, **fields}).status_code == 403
    assert web.get(f"/v1/jobs/{done}/publications").json()["items"] == []


def test_key_that_only_reads_sees_publications_and_makes_none(
    app: FastAPI, visitor: Visitor, web: TestClient, sessions: Sessions, done: str
) -> None:
    visitor.post(f"/jobs/{done}/publish", hub="owner/model")
    reader = visitor_of(app)
    reader.sign_in(key_of(sessions, LOCAL_TENANT_ID, "read"))
    page = reader.get(f"/jobs/{done}").text
    assert ("owner/model" in page, f"/jobs/{done}/publish" in page) == (True, False)
    assert reader.post(f"/jobs/{done}/publish", hub="owner/other").status_code == 403
    assert len(web.get(f"/v1/jobs/{done}/publications").json()["items"]) == 1
    assert web.get("/v1/audit").json()["items"][0]["outcome"] == "forbidden"


def test_page_offers_publishing_only_where_there_are_files(
    visitor: Visitor, web: TestClient, submit: Submit, worker: Worker, done: str
) -> None:
    form = 'id="publish"'
    assert form in visitor.get(f"/jobs/{done}").text
    waiting = submit()
    assert form not in visitor.get(f"/jobs/{waiting}").text
    refused = visitor.post(f"/jobs/{waiting}/publish", hub="owner/model")
    assert (refused.status_code, "Nothing to publish" in refused.text) == (409, True)
    assert web.delete(f"/v1/jobs/{done}/artifacts").status_code < 300
    assert form not in visitor.get(f"/jobs/{done}").text


@pytest.mark.parametrize(
    ("url", "is_link"), [("https://huggingface.co/owner/model/commit/1", True), (FOLDER, False), (EVIL, False)]
)
def test_place_of_the_files_is_a_link_only_where_it_is_a_page(
    visitor: Visitor, web: TestClient, worker: Worker, done: str, url: str, is_link: bool
) -> None:
    visitor.post(f"/jobs/{done}/publish", hub="owner/model")
    made = worker.claim()
    worker.publish(made, Published(url=url, revision=None, files=2, size_bytes=3))
    for path in (f"/jobs/{done}", f"/jobs/{made}"):
        page = visitor.get(path).text
        assert str(escape(url)) in page
        assert (f'href="{escape(url)}"' in page) == is_link
        assert "<img src=x" not in page


def test_server_without_buckets_offers_the_hub_alone(settings: Settings, visitor: Visitor, done: str, api_key: str) -> None:
    offered = 'name="bucket"'
    assert offered in visitor.get(f"/jobs/{done}").text
    bare = create_app(settings.model_copy(update={"publish_buckets": ()}))
    with TestClient(bare, base_url=URL) as client:
        alone = Visitor(client)
        alone.sign_in(api_key)
        page = alone.get(f"/jobs/{done}").text
        assert ('id="publish-hub"' in page, offered in page) == (True, False)
        assert "no bucket: ask the operator" in alone.post(f"/jobs/{done}/publish", target="bucket", bucket=FOLDER).text
        assert alone.post(f"/jobs/{done}/publish", target="hub", hub="owner/model").status_code == 303

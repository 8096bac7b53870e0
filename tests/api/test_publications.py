"""Publications over HTTP: queued as jobs, and refused before any work."""

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Job
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.api.test_auth import key_of, with_key

HUB = {"target": {"hub": "owner/model"}}
TOKEN = {"token": "hf_" + "T" * 34}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"publish_buckets": ("s3://models/{tenant}", "s3://shared/all/")})


@pytest.fixture
def done(submit: Submit, worker: Worker) -> str:
    job_id = submit()
    worker.claim()
    worker.succeed(job_id, {"report.json": b"{}", "model.safetensors": b"x"})
    return job_id


def test_publication_is_a_queued_job_of_its_own(web: TestClient, done: str) -> None:
    assert web.put("/v1/secrets/hub-token", json=TOKEN).status_code == 200
    answer = web.post(f"/v1/jobs/{done}/publications", json={**HUB, "labels": {"team": "a"}})
    job = answer.json()
    assert answer.status_code == 202, job
    assert (job["task"], job["parent"], job["state"], job["publication"]) == ("publish", done, "queued", None)
    assert answer.headers["location"] == job["links"]["self"]
    assert web.get(f"/v1/jobs/{done}").json()["links"]["publications"] == f"/v1/jobs/{done}/publications"
    assert web.get(f"/v1/jobs/{done}/publications").json()["items"] == [job]
    assert web.get(f"/v1/jobs/{done}/exports").json()["items"] == []
    assert web.post(f"/v1/jobs/{job['id']}/publications", json=HUB).json()["type"] == "not-publishable"


def test_hub_needs_a_token_of_the_tenant_s_own(settings: Settings, sessions: Sessions, done: str, api_key: str) -> None:
    """The operator's, shared for reading, writes for nobody else."""
    shared = settings.model_copy(update={"hub_token": settings.secret_keys[0], "share_hub_token": True})
    app = create_app(shared)
    with with_key(app, api_key) as web:
        assert web.post(f"/v1/jobs/{done}/publications", json=HUB).status_code == 202, "the operator's own tenant"
        stranger = with_key(app, key_of(sessions, "STRANGER", "read", "write", "admin"))
        with sessions.begin() as session:
            theirs = session.get_one(Job, done)
            theirs.tenant_id = "STRANGER"
        refused = stranger.post(f"/v1/jobs/{done}/publications", json=HUB)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "target.hub"
        assert "/v1/secrets/hub-token" in refused.text
        stranger.put("/v1/secrets/hub-token", json=TOKEN)
        assert stranger.post(f"/v1/jobs/{done}/publications", json=HUB).status_code == 202


@pytest.mark.parametrize(
    ("bucket", "status"),
    [
        ("s3://shared/all/ours", 202),
        (f"s3://models/{'0' * 26}/ours/", 202),
        (f"s3://models/{'0' * 25}1/ours/", 422),
        ("s3://models/", 422),
        ("s3://shared/all/../else", 422),
        ("s3://shared/allother", 422),
        ("s3://other/all/", 422),
        ("s3://key:secret@shared/all/", 422),
        ("https://shared/all/", 422),
        ("file:///etc/", 422),
        ("", 422),
    ],
)
def test_bucket_must_be_one_that_the_operator_allows(web: TestClient, done: str, bucket: str, status: int) -> None:
    answer = web.post(f"/v1/jobs/{done}/publications", json={"target": {"bucket": bucket}})
    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["errors"][0]["field"] == "target.bucket"


@pytest.mark.parametrize("hub", ["owner", "owner/na me", "../model", "a/b/c", "owner/.git", "owner/..", "http://x/y"])
def test_name_that_leads_elsewhere_is_refused(web: TestClient, done: str, hub: str) -> None:
    web.put("/v1/secrets/hub-token", json=TOKEN)
    answer = web.post(f"/v1/jobs/{done}/publications", json={"target": {"hub": hub}})
    assert answer.status_code == 422, answer.text


def test_job_without_files_is_refused(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    assert web.post(f"/v1/jobs/{job_id}/publications", json=HUB).json()["type"] == "not-publishable"
    assert web.get(f"/v1/jobs/{job_id}").json()["state"] == State.QUEUED

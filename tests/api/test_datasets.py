"""Data sets over HTTP: brought, found, read, named by jobs and removed; refused where they are not what they should be."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from jobs.access.quotas import set_quotas
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.store.retention import referenced
from jobs.tables import Tenant
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.api.test_auth import key_of, with_key

LINES = b'{"text": "One."}\n{"text": "Two."}\n'
JSONL = {"Content-Type": "application/jsonl"}
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


def bring(web: TestClient, content: bytes = LINES, headers: dict[str, str] = JSONL, name: str = "texts") -> str:
    answer = web.post("/v1/datasets", params={"name": name}, content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_data_set_is_stored_counted_and_read_back(web: TestClient, settings: Settings) -> None:
    made = web.post("/v1/datasets", params={"name": "my texts"}, content=LINES, headers=JSONL)
    dataset = made.json()
    assert made.headers["location"] == f"/v1/datasets/{dataset['id']}"
    told = {name: dataset[name] for name in ("name", "kind", "documents", "characters", "size_bytes", "source", "used_at")}
    assert told == {
        "name": "my texts",
        "kind": "documents",
        "documents": 2,
        "characters": 8,
        "size_bytes": len(LINES),
        "source": f"dataset:{dataset['id']}",
        "used_at": None,
    }
    assert web.get(made.headers["location"]).json() == dataset
    content = web.get(f"{made.headers['location']}/content")
    assert (content.content, content.headers["etag"]) == (LINES, f'"{dataset["sha256"]}"')
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_same_bytes_are_the_same_data_set(web: TestClient) -> None:
    first = bring(web)
    again = web.post("/v1/datasets", params={"name": "other"}, content=LINES, headers={"Content-Type": "application/x-ndjson"})
    assert (again.status_code, again.json()["id"], again.json()["name"]) == (200, first, "texts")
    as_text = bring(web, headers=PLAIN)
    assert as_text != first


def test_they_are_listed_page_by_page(web: TestClient) -> None:
    ids = [bring(web, f'"{index}"'.encode()) for index in range(3)]
    first = web.get("/v1/datasets?limit=2").json()
    second = web.get("/v1/datasets", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None
    assert web.get("/v1/datasets?cursor=abc").json()["type"] == "invalid-cursor"


def test_wrong_line_is_named_and_nothing_is_kept(web: TestClient, settings: Settings) -> None:
    answer = web.post("/v1/datasets?name=x", content=LINES + b"{}\n", headers=JSONL)
    assert (answer.status_code, answer.json()["type"]) == (422, "invalid-dataset")
    assert answer.json()["detail"].startswith("line 3: ")
    assert web.get("/v1/datasets").json()["items"] == []
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_size_and_type_are_limited_here_as_elsewhere(settings: Settings, api_key: str) -> None:
    app = create_app(settings.model_copy(update={"max_dataset_bytes": 2_900_000}))
    with with_key(app, api_key) as web:
        line = b'"' + b"x" * 1_499_997 + b'"'  # more than any other route takes
        assert web.post("/v1/datasets?name=x", content=line, headers=JSONL).status_code == 201

        def endless() -> Iterator[bytes]:
            yield from (line + b"\n" for _ in range(3))

        for content in (line + b"\n" + line + b"\n", endless()):
            answer = web.post("/v1/datasets?name=x", content=content, headers=JSONL)
            assert (answer.status_code, answer.json()["type"]) == (413, "content-too-large")
        for kind in ("application/json", "application/octet-stream", "multipart/form-data; boundary=x"):
            assert web.post("/v1/datasets?name=x", content=LINES, headers={"Content-Type": kind}).status_code == 415
        assert web.post("/v1/jobs", content=line, headers=JSONL).status_code == 415
        assert web.post("/v1/jobs", content=b" " * 1_100_000, headers={"Content-Type": "application/json"}).status_code == 413


@pytest.mark.parametrize("name", [None, "", "a\nb", "x" * 256], ids=repr)
def test_it_needs_a_printable_name(web: TestClient, name: str | None) -> None:
    params = {} if name is None else {"name": name}
    answer = web.post("/v1/datasets", params=params, content=LINES, headers=JSONL)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")


def test_what_a_job_reads_stays_until_the_job_has_ended(
    web: TestClient, submit: Submit, worker: Worker, sessions: Sessions
) -> None:
    dataset_id = bring(web)
    sha256 = web.get(f"/v1/datasets/{dataset_id}").json()["sha256"]
    job_id = submit(calibration={"source": f"dataset:{dataset_id}"})
    refused = web.delete(f"/v1/datasets/{dataset_id}")
    assert (refused.status_code, refused.json()["type"]) == (409, "in-use")
    assert job_id in refused.json()["detail"]
    assert web.get(f"/v1/datasets/{dataset_id}").json()["used_at"] is not None
    worker.succeed(worker.claim(), {"report.json": b"{}"})
    with sessions() as session:
        assert referenced(session, {sha256}) == {sha256}
    assert web.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    assert web.get(f"/v1/datasets/{dataset_id}").json()["type"] == "dataset-not-found"
    with sessions() as session:
        assert referenced(session, {sha256}) == set()


def test_job_that_names_what_is_not_there_is_refused(app: FastAPI, web: TestClient, sessions: Sessions) -> None:
    foreign = bring(with_key(app, key_of(sessions, "STRANGER", "write")))
    plain = bring(web)
    for parts in (
        {"calibration": {"source": f"dataset:{foreign}"}},
        {"evaluation": {"sources": [f"dataset:{foreign}"]}},
        {"evaluation": {"sources": ["dataset:01M83MEDB5ME2A8FP9H1VA9R8M"]}},
        {"evaluation": {"sources": ["dataset:../x"]}},
        {"model": "owner/name", "evaluation": {"labelled": f"dataset:{plain}"}},  # what is known of the others has no labels
        {"model": "upload:01M83MEDB5ME2A8FP9H1VA9R8M"},
    ):
        answer = web.post("/v1/jobs", json={"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}, **parts})
        assert (answer.status_code, answer.json()["type"]) == (422, "source-error"), answer.text
    assert web.get("/v1/jobs").json()["items"] == []


def test_bytes_beyond_the_tenants_limit_are_refused(web: TestClient, sessions: Sessions) -> None:
    with sessions.begin() as session:
        set_quotas(session.get_one(Tenant, LOCAL_TENANT_ID), {"stored_bytes": len(LINES) + 10})
    bring(web)
    refused = web.post("/v1/datasets?name=x", content=b'"0123456789"', headers=JSONL)
    assert (refused.status_code, refused.json()["type"]) == (429, "quota-exceeded")
    assert web.post("/v1/datasets?name=x", content=LINES, headers=JSONL).status_code == 200, "nothing new"
    assert web.post("/v1/datasets?name=x", content=b'"01234567"', headers=JSONL).status_code == 201
    file = {"path": "config.json", "size_bytes": 10, "sha256": "0" * 64}
    manifest = {"name": "x", "files": [file, {**file, "path": "model.safetensors"}]}
    assert web.post("/v1/models", json=manifest).json()["type"] == "quota-exceeded"
    assert all(item["kind"] == "demo" for item in web.get("/v1/models").json()["items"])

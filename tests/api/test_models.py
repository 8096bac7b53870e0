"""Models over HTTP: promised, brought part by part, taken up where they were cut off, judged by what they really are."""

import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api.app import create_app
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.store.retention import referenced
from jobs.tables import ModelPart, UploadedModel
from jobs.uploads.model_checks import tend_uploads
from tests import tiny_models
from tests.api.conftest import Submit
from tests.api.serving import served
from tests.api.standin import Worker
from tests.api.test_auth import key_of, with_key

PART = 20_000
Files = dict[str, bytes]
Judge = Callable[[], None]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tiny_models.save(tmp_path_factory.mktemp("tiny"), max_shard_size="60KB")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"upload_part_bytes": PART})


@pytest.fixture
def judge(settings: Settings, sessions: Sessions) -> Judge:
    """What the housekeeping does every second."""
    return lambda: tend_uploads(sessions, artifact_store(settings), settings, threading.Event())


def manifest(files: Mapping[str, bytes], name: str = "tiny") -> dict[str, Any]:
    entries = [
        {"path": path, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()
    ]
    return {"name": name, "files": entries}


def begin(web: TestClient, files: Mapping[str, bytes]) -> str:
    answer = web.post("/v1/models", json=manifest(files))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def put(web: TestClient, model_id: str, path: str, offset: int, part: bytes) -> Any:
    headers = {"Content-Type": "application/octet-stream", "Upload-Offset": str(offset)}
    return web.put(f"/v1/models/{model_id}/files/{path}", content=part, headers=headers)


def bring(web: TestClient, model_id: str, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        for offset in range(0, len(data), PART):
            answer = put(web, model_id, path, offset, data[offset : offset + PART])
            assert answer.status_code == 200, answer.text


def uploaded(web: TestClient, judge: Judge, files: Mapping[str, bytes]) -> dict[str, Any]:
    model_id = begin(web, files)
    bring(web, model_id, files)
    judge()
    return dict(web.get(f"/v1/models/{model_id}").json())


def test_model_is_brought_and_judged_and_jobs_are_foretold_without_it(web: TestClient, judge: Judge, tiny: Files) -> None:
    assert sum(name.endswith(".safetensors") for name in tiny) > 1
    model_id = begin(web, tiny)
    body = {"model": f"upload:{model_id}", "recipe": {"sparsity": 0.5}}
    assert "uploading, not ready" in web.post("/v1/jobs", json=body).json()["detail"]
    bring(web, model_id, tiny)
    assert web.get(f"/v1/models/{model_id}").json()["state"] == "checking"
    judge()
    model = web.get(f"/v1/models/{model_id}").json()
    assert (model["state"], model["problem"], model["size_bytes"]) == ("ready", None, sum(map(len, tiny.values())))
    assert all(file["is_verified"] and file["received_bytes"] == file["size_bytes"] for file in model["files"])
    job = web.post("/v1/jobs", json=body)
    assert (job.status_code, job.json()["forecast"] is not None) == (202, True)
    too_long = web.post("/v1/jobs", json={**body, "calibration": {"seqlen": 4096}})
    assert too_long.json()["errors"][0]["field"] == "calibration.seqlen"
    estimate = web.post("/v1/estimates", json=body).json()
    assert estimate["unknown"] is None
    assert estimate["parameters"]["all"] > 0


def test_listed_after_the_demos_newest_first(web: TestClient, tiny: Files) -> None:
    ids = [begin(web, {**tiny, "vocab.txt": str(index).encode()}) for index in range(3)]
    first = web.get("/v1/models?limit=2").json()
    second = web.get("/v1/models", params={"cursor": first["next_cursor"]}).json()
    assert {item["kind"] for item in first["items"][:-2]} == {"demo"}
    assert [item["id"] for item in first["items"][-2:] + second["items"]] == ids[::-1]


def test_part_counts_whole_or_not_at_all(settings: Settings, api_key: str, tiny: Files) -> None:
    """A sender's connection breaks in mid-part, and the API process is another one afterwards."""
    data = tiny["tokenizer.json"]
    with served(create_app(settings)) as service, with_key(create_app(settings), api_key) as web:
        model_id = begin(web, tiny)
        where = f"/v1/models/{model_id}/files/tokenizer.json"
        assert put(web, model_id, "tokenizer.json", 0, data[:100]).headers["upload-offset"] == "100"
        head = (
            f"PUT {where} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nAuthorization: Bearer {api_key}\r\n"
            f"Content-Type: application/octet-stream\r\nUpload-Offset: 100\r\nContent-Length: 1000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(head.encode() + data[100:600])
    with with_key(create_app(settings), api_key) as web:
        found = web.get(where)
        assert (found.headers["upload-offset"], found.json()["received_bytes"]) == ("100", 100)
        assert put(web, model_id, "tokenizer.json", 100, data[100:600]).json()["received_bytes"] == 600
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_same_files_go_on_with_the_same_upload(web: TestClient, tiny: Files) -> None:
    model_id = begin(web, tiny)
    put(web, model_id, "config.json", 0, tiny["config.json"][:7])
    again = web.post("/v1/models", json=manifest(dict(reversed(tiny.items())), name="other"))
    assert (again.status_code, again.json()["id"]) == (200, model_id)
    assert {file["path"]: file["received_bytes"] for file in again.json()["files"]}["config.json"] == 7


@pytest.mark.parametrize(
    ("path", "offset", "length", "refusal"),
    [
        ("config.json", 5, 5, (409, "upload-offset")),
        ("config.json", 0, 5, (409, "upload-offset")),
        ("config.json", 10, 0, (422, "part-too-long")),
        ("config.json", 10, 10_000, (422, "part-too-long")),
        ("tokenizer.json", 0, PART + 1, (413, "content-too-large")),
        ("vocab.txt", 0, 5, (404, "file-not-in-manifest")),
        ("config.json", -1, 5, (422, "invalid-request")),
    ],
)
def test_part_that_does_not_fit_is_refused(
    web: TestClient, tiny: Files, path: str, offset: int, length: int, refusal: tuple[int, str]
) -> None:
    model_id = begin(web, tiny)
    put(web, model_id, "config.json", 0, tiny["config.json"][:10])
    answer = put(web, model_id, path, offset, b"x" * length)
    assert (answer.status_code, answer.json()["type"]) == refusal
    assert web.get(f"/v1/models/{model_id}/files/config.json").json()["received_bytes"] == 10


def test_what_is_whole_takes_no_more(web: TestClient, judge: Judge, tiny: Files) -> None:
    model = uploaded(web, judge, tiny)
    answer = put(web, model["id"], "config.json", len(tiny["config.json"]), b"x")
    assert (answer.status_code, answer.json()["type"]) == (409, "upload-closed")


HOSTILE: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "code": (lambda files: files.append({**files[0], "path": "modeling_tiny.py"}), "path"),
    "pickle": (lambda files: files.append({**files[0], "path": "pytorch_model.bin"}), "path"),
    "archive": (lambda files: files.append({**files[0], "path": "model.tar.gz"}), "path"),
    "folder": (lambda files: files.append({**files[0], "path": "sub/model.safetensors"}), "path"),
    "climbing": (lambda files: files.append({**files[0], "path": "../model.safetensors"}), "path"),
    "dots": (lambda files: files.append({**files[0], "path": "...safetensors"}), "path"),
    "hidden": (lambda files: files.append({**files[0], "path": ".safetensors"}), "path"),
    "absolute": (lambda files: files.append({**files[0], "path": "/etc/config.json"}), "path"),
    "newline": (lambda files: files.append({**files[0], "path": "model.safetensors\n"}), "path"),
    "twice": (lambda files: files.append(dict(files[0])), "path"),
    "empty": (lambda files: files[0].update(size_bytes=0), "size_bytes"),
    "endless config": (lambda files: files[0].update(size_bytes=2**40), "size_bytes"),
    "beyond the limit": (lambda files: files[-1].update(path="model-9.safetensors", size_bytes=2**50), "files"),
    "no hash": (lambda files: files[0].update(sha256="x"), "sha256"),
    "no config": (lambda files: files.pop(0), "files"),
    "no weights": (lambda files: files.__setitem__(slice(1, None), []), "files"),
    "shards without index": (lambda files: files.remove(next(f for f in files if "index" in f["path"])), "files"),
    "too many": (lambda files: files.extend({**files[0], "path": f"a{n}.safetensors"} for n in range(2000)), "files"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_manifest_is_refused_before_the_first_byte(web: TestClient, tiny: Files, case: str) -> None:
    promised = manifest(tiny)
    promised["files"].sort(key=lambda file: file["path"] != "config.json")
    change, field = HOSTILE[case]
    change(promised["files"])
    answer = web.post("/v1/models", json=promised)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["errors"][0]["field"]
    assert all(item["kind"] == "demo" for item in web.get("/v1/models").json()["items"])


def with_header(change: Callable[[dict[str, Any]], object], data: bytes) -> bytes:
    """A safetensors file whose header lies."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data[8 + length :]


def first_weights(files: Files) -> str:
    return min(name for name in files if name.endswith(".safetensors"))


def overlap(files: Files) -> None:
    def change(header: dict[str, Any]) -> None:
        entries = [body for name, body in header.items() if name != "__metadata__"]
        entries[1]["data_offsets"] = entries[0]["data_offsets"]
        entries[1]["shape"] = entries[0]["shape"]

    files[first_weights(files)] = with_header(change, files[first_weights(files)])


def config(**fields: object) -> Callable[[Files], None]:
    return lambda files: files.update({"config.json": json.dumps({**json.loads(files["config.json"]), **fields}).encode()})


DAMAGE: dict[str, tuple[Callable[[Files], object], str]] = {
    "overlapping tensors": (overlap, "starts at byte"),
    "truncated": (lambda files: files.update({first_weights(files): files[first_weights(files)][:-4]}), "truncated"),
    "a header without end": (
        lambda files: files.update({first_weights(files): (2**40).to_bytes(8, "little") + b"x" * 100}),
        "header of 1099511627776 bytes",
    ),
    "config is no JSON": (lambda files: files.update({"config.json": b"{"}), "not valid JSON"),
    "config is no JSON to a database": (config(nonsense=float("nan")), "no JSON"),
    "unknown architecture": (config(architectures=["Evil"], model_type="evil"), "evil"),
    "weights that nobody names": (
        lambda files: files.update({"extra.safetensors": b"\2\0\0\0\0\0\0\0{}"}),
        "extra.safetensors",
    ),
    "an index that names nothing": (
        lambda files: files.update({"model.safetensors.index.json": b'{"weight_map": {}}'}),
        "index",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_wrong_inside_is_refused_once_it_is_whole(web: TestClient, judge: Judge, tiny: Files, case: str) -> None:
    files = dict(tiny)
    change, problem = DAMAGE[case]
    change(files)
    model = uploaded(web, judge, files)
    assert model["state"] == "refused"
    assert problem in model["problem"]
    answer = web.post("/v1/jobs", json={"model": f"upload:{model['id']}", "recipe": {"sparsity": 0.5}})
    assert (answer.status_code, answer.json()["type"]) == (422, "source-error")
    assert problem in answer.json()["detail"]


def test_file_that_is_not_the_promised_one_is_refused_and_a_new_try_begins_anew(
    web: TestClient, judge: Judge, tiny: Files
) -> None:
    model_id = begin(web, tiny)
    weights = first_weights(tiny)
    bring(web, model_id, {**tiny, weights: tiny[weights][:-1] + bytes([tiny[weights][-1] ^ 1])})
    judge()
    model = web.get(f"/v1/models/{model_id}").json()
    assert model["state"] == "refused"
    assert f"{weights} has the SHA-256" in model["problem"]
    again = web.post("/v1/models", json=manifest(tiny))
    assert (again.status_code, again.json()["state"]) == (201, "uploading")
    assert again.json()["id"] != model_id
    assert {file["received_bytes"] for file in again.json()["files"]} == {0}, "the files of a refused model are not kept"
    assert web.get(f"/v1/models/{model_id}").status_code == 404


def test_own_files_need_no_second_upload_and_a_hash_alone_gives_nothing(
    app: FastAPI, web: TestClient, sessions: Sessions, judge: Judge, tiny: Files
) -> None:
    uploaded(web, judge, tiny)
    changed = {**tiny, "vocab.txt": b"more"}
    mine = web.post("/v1/models", json=manifest(changed)).json()
    assert [file["path"] for file in mine["files"] if file["received_bytes"] == 0] == ["vocab.txt"]
    put(web, mine["id"], "vocab.txt", 0, b"more")
    judge()
    assert web.get(f"/v1/models/{mine['id']}").json()["state"] == "ready"
    stranger = with_key(app, key_of(sessions, "STRANGER", "read", "write"))
    theirs = stranger.post("/v1/models", json=manifest(tiny))
    assert (theirs.status_code, theirs.json()["state"]) == (201, "uploading")
    assert {file["received_bytes"] for file in theirs.json()["files"]} == {0}


def test_another_tenants_model_is_not_there(
    app: FastAPI, web: TestClient, sessions: Sessions, judge: Judge, tiny: Files
) -> None:
    model = uploaded(web, judge, tiny)
    stranger = with_key(app, key_of(sessions, "STRANGER", "read", "write"))
    where = f"/v1/models/{model['id']}"
    for answer in (
        stranger.get(where),
        stranger.get(f"{where}/files/config.json"),
        put(stranger, model["id"], "config.json", 0, b"x"),
        stranger.delete(where),
    ):
        assert (answer.status_code, answer.json()["type"]) == (404, "model-not-found")
    job = stranger.post("/v1/jobs", json={"model": f"upload:{model['id']}", "recipe": {"sparsity": 0.5}})
    assert (job.status_code, job.json()["type"]) == (422, "source-error")
    assert "no such uploaded model" in job.json()["detail"]
    assert all(item["kind"] == "demo" for item in stranger.get("/v1/models").json()["items"])


def test_model_stays_while_a_job_needs_it_and_its_parts_as_long_as_it_does(
    web: TestClient, judge: Judge, sessions: Sessions, submit: Submit, worker: Worker, tiny: Files
) -> None:
    model = uploaded(web, judge, tiny)
    job_id = submit(model=f"upload:{model['id']}")
    refused = web.delete(f"/v1/models/{model['id']}")
    assert (refused.status_code, refused.json()["type"]) == (409, "in-use")
    worker.succeed(worker.claim(), {"report.json": b"{}"})
    with sessions() as session:
        stored = set(session.scalars(select(ModelPart.sha256)))
        assert referenced(session, stored) == stored
    assert web.delete(f"/v1/models/{model['id']}").status_code == 204
    assert web.get(f"/v1/jobs/{job_id}").status_code == 200
    with sessions() as session:
        assert referenced(session, stored) == set()


def test_what_nobody_goes_on_with_expires(
    web: TestClient, judge: Judge, sessions: Sessions, settings: Settings, tiny: Files
) -> None:
    ready = uploaded(web, judge, tiny)["id"]
    left = begin(web, {**tiny, "vocab.txt": b"left"})
    fresh = begin(web, {**tiny, "vocab.txt": b"fresh"})
    long_ago = datetime.now(UTC) - timedelta(seconds=settings.upload_expires_s + 1)
    with sessions.begin() as session:
        session.execute(update(UploadedModel).where(UploadedModel.id != fresh).values(updated_at=long_ago))
    judge()
    assert [web.get(f"/v1/models/{each}").status_code for each in (ready, left, fresh)] == [200, 404, 200]


def test_one_model_that_cannot_be_judged_keeps_no_other_waiting(
    web: TestClient, judge: Judge, sessions: Sessions, settings: Settings, tiny: Files
) -> None:
    files = [{**tiny, "vocab.txt": str(index).encode()} for index in range(2)]
    ids = [begin(web, each) for each in files]
    for model_id, each in zip(ids, files, strict=True):
        bring(web, model_id, each)
    with sessions() as session:
        gone = session.scalars(
            select(ModelPart.sha256).where(ModelPart.model_id == ids[0], ModelPart.path == "vocab.txt")
        ).one()
    shutil.rmtree(Path(settings.data_dir) / "artifacts" / "sha256" / gone[:2])
    judge()
    first, second = (web.get(f"/v1/models/{each}").json() for each in ids)
    assert (first["state"], second["state"]) == ("refused", "ready")

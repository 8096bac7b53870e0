import hashlib
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from jobs.database import Sessions
from jobs.settings import Settings
from jobs.store.retention import expire_artifacts
from tests.api.conftest import Submit
from tests.api.standin import Worker

CONTENT = bytes(range(256)) * 40
NAME = "model-00001-of-00002.safetensors"


@pytest.fixture
def path(submit: Submit, worker: Worker) -> str:
    """Of the artifacts of a job that gave two files."""
    job_id = submit()
    worker.succeed(worker.claim(), {NAME: CONTENT, "report.json": b"{}"})
    return f"/v1/jobs/{job_id}/artifacts"


def test_artifacts_are_listed_with_size_hash_and_address(web: TestClient, path: str) -> None:
    assert web.get(path).json()["items"][0] == {
        "name": NAME,
        "size_bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "href": f"{path}/{NAME}",
    }


def test_expired_file_is_gone_and_its_report_is_not(web: TestClient, path: str, sessions: Sessions) -> None:
    with sessions.begin() as session:
        assert expire_artifacts(session, datetime.now(UTC)) == 1
    answer = web.get(f"{path}/{NAME}")
    assert (answer.status_code, answer.json()["type"]) == (410, "artifacts-expired")
    assert [file["name"] for file in web.get(path).json()["items"]] == ["report.json"]
    job_path = path.removesuffix("/artifacts")
    assert web.get(f"{job_path}/report").status_code == 200
    assert web.get(job_path).json()["artifacts_expired_at"] is not None


def test_download_gives_the_bytes_under_their_hash(web: TestClient, path: str) -> None:
    answer = web.get(f"{path}/{NAME}")
    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert answer.headers["content-length"] == str(len(CONTENT))


def test_download_is_never_taken_for_a_page(web: TestClient, path: str) -> None:
    headers = web.get(f"{path}/report.json").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=10000-", 10000, 10240), ("bytes=-5", 10235, 10240),
     ("bytes=10000-99999", 10000, 10240), ("bytes=-99999", 0, 10240)],
)  # fmt: skip
def test_single_range_is_honoured(web: TestClient, path: str, wanted: str, start: int, end: int) -> None:
    answer = web.get(f"{path}/{NAME}", headers={"range": wanted})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=1-2", "bytes=a-b"])
def test_other_ranges_are_answered_with_the_whole_file(web: TestClient, path: str, wanted: str) -> None:
    answer = web.get(f"{path}/{NAME}", headers={"range": wanted})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_range_beyond_the_end_is_refused(web: TestClient, path: str, wanted: str) -> None:
    answer = web.get(f"{path}/{NAME}", headers={"range": wanted})
    assert (answer.status_code, answer.json()["type"]) == (416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_range_of_another_version_is_answered_with_the_whole_file(web: TestClient, path: str) -> None:
    answer = web.get(f"{path}/{NAME}", headers={"range": "bytes=0-9", "if-range": '"another"'})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_reader_who_has_the_file_is_told_so(web: TestClient, path: str) -> None:
    etag = web.get(f"{path}/{NAME}").headers["etag"]
    answer = web.get(f"{path}/{NAME}", headers={"if-none-match": f'"other", {etag}'})
    assert (answer.status_code, answer.content) == (304, b"")


def test_unknown_artifact_is_not_found(web: TestClient, path: str) -> None:
    for name in ("nothing.json", "../../../etc/passwd", "%2e%2e/x"):
        assert web.get(f"{path}/{name}").status_code == 404


def test_unfinished_job_has_no_artifacts(web: TestClient, submit: Submit) -> None:
    assert web.get(f"/v1/jobs/{submit()}/artifacts").json()["items"] == []


def test_damaged_file_is_not_given_out(web: TestClient, path: str, settings: Settings) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    stored = next((settings.data_dir / "artifacts").rglob(digest))
    stored.write_bytes(b"x" * len(CONTENT))
    assert b"x" not in web.get(f"{path}/{NAME}").content

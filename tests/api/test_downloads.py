import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from jobs.settings import Settings
from jobs.store.artifacts import CHUNK_BYTES
from tests.api.conftest import Submit
from tests.api.documented import Documented
from tests.api.standin import Worker

LARGE = bytes(range(256)) * (CHUNK_BYTES // 256) + b"and some more"
LONG_NAME = "/".join(["folder" * 10] * 3) + "/weights.bin"  # beyond what a plain header holds
FILES = {"a/config.json": b"{}", LONG_NAME: b"long", "empty": b"", "model.safetensors": LARGE, "report.json": b'{"a": 1}'}


@pytest.fixture
def path(submit: Submit, worker: Worker) -> str:
    job_id = submit()
    worker.succeed(worker.claim(), FILES)
    return f"/v1/jobs/{job_id}"


def test_the_archive_holds_every_file_and_its_length_is_known_before(web: TestClient, path: str) -> None:
    answer = web.get(f"{path}/artifact.tar")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    assert answer.headers["content-length"] == str(len(answer.content))
    assert len(answer.content) % 10_240 == 0
    job_id = path.rpartition("/")[2]
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:") as archive:
        found = {member.name: member for member in archive}
        assert found.keys() == {f"{job_id}/{name}" for name in FILES}
        for name, content in FILES.items():
            member = found[f"{job_id}/{name}"]
            file = archive.extractfile(member)
            assert file is not None and file.read() == content
            assert (member.mode, member.uid, member.type) == (0o644, 0, tarfile.REGTYPE)


def test_the_systems_own_tools_read_the_archive_and_the_checksums(web: TestClient, path: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(web.get(f"{path}/artifact.tar").content)
    subprocess.run(["tar", "-xf", "a.tar", "--strip-components=1"], cwd=tmp_path, check=True)
    (tmp_path / "SHA256SUMS").write_bytes(web.get(f"{path}/sha256sums").content)
    checked = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)
    assert checked.stdout.count(b": OK\n") == len(FILES)
    (tmp_path / "a" / "config.json").write_bytes(b"[]")
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True).returncode == 1


def test_an_archive_is_continued_with_the_same_bytes(web: TestClient, path: str) -> None:
    whole = web.get(f"{path}/artifact.tar")
    etag = whole.headers["etag"]
    for start in (0, 511, 512, 3000, CHUNK_BYTES - 1, CHUNK_BYTES + 5000, len(whole.content) - 1):
        answer = web.get(f"{path}/artifact.tar", headers={"Range": f"bytes={start}-", "If-Range": etag})
        assert answer.status_code == 206
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(whole.content[start:]).digest(), start
    middle = web.get(f"{path}/artifact.tar", headers={"Range": "bytes=100-9999"})
    assert middle.content == whole.content[100:10_000]
    assert web.get(f"{path}/artifact.tar", headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize("rest", ["/artifact.tar", "/sha256sums", "/artifacts/model.safetensors"])
def test_a_head_tells_what_a_get_would_send(web: TestClient, path: str, rest: str) -> None:
    head, get = web.head(path + rest), web.get(path + rest)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "accept-ranges", "content-type", "content-disposition"):
        assert head.headers[name] == get.headers[name], name
    assert web.head(path + rest, headers={"If-None-Match": head.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("rest", ["/artifact.tar", "/sha256sums"])
def test_a_job_without_files_has_nothing_to_pack(web: TestClient, submit: Submit, rest: str) -> None:
    answer = web.get(f"/v1/jobs/{submit()}{rest}")
    assert (answer.status_code, answer.json()["type"]) == (409, "artifacts-not-ready")


def test_names_that_break_lines_are_escaped_as_sha256sum_does(web: TestClient, submit: Submit, worker: Worker) -> None:
    job_id, digest = submit(), hashlib.sha256(b"x").hexdigest()
    worker.succeed(worker.claim(), {"a\nb": b"x", "c\\d": b"x"})
    assert web.get(f"/v1/jobs/{job_id}/sha256sums").text == f"\\{digest}  a\\nb\n\\{digest}  c\\\\d\n"


def test_a_store_that_users_reach_is_where_they_are_sent(settings: Settings, path: str, api_key: str) -> None:
    told = {
        "artifact_url": "s3://bucket/prefix", "artifact_public_endpoint": "https://store.example",
        "artifact_access_key": "key", "artifact_secret_key": "secret",
    }  # fmt: skip
    app = create_app(Settings.model_validate({**settings.model_dump(), **told}))
    headers = {"Authorization": f"Bearer {api_key}"}
    where = f"{path}/artifacts/model.safetensors"
    with TestClient(app, base_url="http://127.0.0.1:8321", headers=headers, follow_redirects=False) as web:
        web.event_hooks = {"response": [Documented(app).check]}
        answer = web.get(where, headers={"Range": "bytes=0-1"})
        digest = hashlib.sha256(LARGE).hexdigest()
        assert answer.status_code == 307
        assert answer.headers["location"].startswith(f"https://store.example/bucket/prefix/sha256/{digest[:2]}/{digest}?")
        assert "model.safetensors" in answer.headers["location"]
        assert "secret" not in answer.headers["location"]
        assert web.get(where, headers={"If-None-Match": f'"{digest}"'}).status_code == 304
        assert web.head(where).headers["content-length"] == str(len(LARGE))

"""Downloads that the service leaves to its store, through a real S3 server."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import Scalpel
from jobs.settings import Settings
from tests.api.standin import Worker
from tests.s3 import S3Server

FILES = {"config.json": b"{}", "weights/model (1).safetensors": bytes(range(256)) * 40_000}


@pytest.fixture
def settings(settings: Settings, s3: S3Server) -> Iterator[Settings]:
    yield s3.settings(settings).model_copy(update={"artifact_public_endpoint": s3.url})


def test_files_come_from_the_store_whole_and_the_key_is_not_shown_to_it(
    scalpel: Scalpel, worker: Worker, tmp_path: Path
) -> None:
    job = scalpel.submit("demo:smollm2-135m", {"bits": 4})
    worker.succeed(worker.claim(), FILES)
    path = f"/v1/jobs/{job.id}/artifacts/config.json"
    sent = scalpel._http.get(path)
    assert sent.status_code == 307
    followed = scalpel._http.get(path, follow_redirects=True)
    assert followed.content == b"{}"
    assert "authorization" not in followed.request.headers, "S3 itself refuses two ways of signing"
    paths = scalpel.download(job.id, tmp_path / "out")
    assert {found.relative_to(tmp_path / "out").as_posix(): found.read_bytes() for found in paths} == FILES
    archive = scalpel._http.get(f"/v1/jobs/{job.id}/artifact.tar")
    assert archive.status_code == 200, "made here, from what the store has"
    assert hashlib.sha256(FILES["config.json"]).hexdigest() in scalpel._http.get(f"/v1/jobs/{job.id}/sha256sums").text

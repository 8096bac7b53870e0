"""Signed addresses: byte for byte what Amazon's own library makes, and what a real server answers."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from botocore.config import Config
from pydantic import SecretStr

from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.store.presign import Presigner, presigner
from tests.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server

ANSWER = {
    "response-content-disposition": "attachment; filename*=UTF-8''g%C3%BCte%20%281%29.gguf",
    "response-content-type": "application/octet-stream",
}


@pytest.fixture
def settings(settings: Settings, s3: S3Server) -> Settings:
    return s3.settings(settings).model_copy(update={"artifact_public_endpoint": s3.url})


@pytest.mark.parametrize(
    ("endpoint", "prefix"),
    [("https://s3.example.org", "some where/it+is"), ("http://127.0.0.1:9000", "")],
    ids=["deep", "flat"],
)
def test_signature_is_the_one_of_the_reference_library(endpoint: str, prefix: str) -> None:
    presigner = Presigner(endpoint, "bucket", prefix, REGION, ACCESS_KEY, SecretStr(SECRET_KEY))
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=config,
    )
    expected = client.generate_presigned_url(
        "get_object",
        Params={
            "Bucket": "bucket",
            "Key": f"{prefix}/sha256/ab/abc".lstrip("/"),
            "ResponseContentDisposition": ANSWER["response-content-disposition"],
            "ResponseContentType": ANSWER["response-content-type"],
        },
        ExpiresIn=600,
    )
    client.close()
    signed_at = datetime.strptime(parse_qs(urlsplit(expected).query)["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    made = presigner.url("sha256/ab/abc", 600, ANSWER, signed_at)
    assert urlsplit(made)[:3] == urlsplit(expected)[:3]
    assert parse_qs(urlsplit(made).query) == parse_qs(urlsplit(expected).query)


def test_anybody_reads_the_file_or_a_range_of_it_under_its_name(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights of a model")
    store = artifact_store(settings)
    sha256, _ = store.put_file(tmp_path / "file")
    url = store.presigned_url(sha256, 60, "güte (1).gguf")
    assert url is not None
    whole, part = httpx.get(url), httpx.get(url, headers={"Range": "bytes=0-6"})
    assert (whole.status_code, whole.content) == (200, b"weights of a model")
    assert whole.headers["content-disposition"] == ANSWER["response-content-disposition"]
    assert whole.headers["content-type"] == "application/octet-stream"
    assert (part.status_code, part.content) == (206, b"weights")


@pytest.mark.parametrize(
    ("field", "value"),
    [("artifact_public_endpoint", None), ("artifact_secret_key", None), ("artifact_url", "file:///srv/artifacts")],
    ids=["not-reachable", "no-keys", "local"],
)
def test_without_a_bucket_that_users_reach_there_is_none(settings: Settings, field: str, value: str | None) -> None:
    assert presigner(settings.model_copy(update={field: value})) is None


def test_a_local_folder_has_no_address(tmp_path: Path) -> None:
    assert artifact_store(Settings(data_dir=tmp_path)).presigned_url("ab" * 32, 60, "name") is None


def test_it_never_lasts_longer_than_a_week() -> None:
    url = Presigner("https://s3.example.org", "b", "", REGION, "k", SecretStr("s")).url("key", 10**9, {})
    assert "X-Amz-Expires=604800&" in url

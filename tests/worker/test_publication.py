"""Publications through the true supervisor: to a hub over HTTP, to a bucket's folder, and refused by either."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pytest
from pydantic import SecretStr

from jobs import attempts
from jobs.access.hub_access import HUB_TOKEN
from jobs.access.secrets import MasterKeys, new_master_key, put_secret
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.publications import PublicationRequest, find_publishable, submit_publication
from jobs.settings import Settings
from jobs.states import State
from jobs.store.artifacts import artifact_store, object_store
from jobs.tables import Job
from tests.jobs.sourcing.local_hub import LARGE_BYTES, LocalHub, Repository, running_hub
from tests.s3 import S3Server
from tests.worker.conftest import MakeHost, Submit, events, read_job
from worker.supervisor import Supervisor

# huggingface_hub's own upload of a large file hands it to httpx2 by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

TOKEN = "hf_" + "WriterOfOneTenant" * 2
FILES = {"config.json": b"{}", "model.safetensors": b"w" * (LARGE_BYTES + 1), "report.json": b"{}", "parts/a.bin": b"a"}

Publish = Callable[..., str]


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        hub.writer = TOKEN
        yield hub


@pytest.fixture
def settings(settings: Settings, hub: LocalHub, tmp_path: Path) -> Settings:
    changes = {
        "hub_endpoint": hub.url,
        "secret_keys": (SecretStr(new_master_key()),),
        "publish_buckets": (f"file://{tmp_path}/bucket/{{tenant}}/",),
    }
    return settings.model_copy(update=changes)


@pytest.fixture
def publish(sessions: Sessions, settings: Settings, submit: Submit, tmp_path: Path) -> Publish:
    """Queues a publication of a job that has succeeded; gives its id."""

    def publish(target: dict[str, Any], token: str | None = TOKEN, max_attempts: int = 3) -> str:
        job_id, store, stored = submit(), artifact_store(settings), []
        for name, content in FILES.items():
            path = tmp_path / "file"
            path.write_bytes(content)
            stored.append(StoredFile(name, *store.put_file(path)))
        with sessions.begin() as session:
            if token is not None:
                put_secret(session, MasterKeys.of(settings), LOCAL_TENANT_ID, HUB_TOKEN, token)
            job = attempts.claim(session, "the test", 60.0)
            assert job is not None and job.id == job_id
            attempts.succeed(session, job_id, job.attempt, stored)
            parent = find_publishable(session, LOCAL_TENANT_ID, job_id)
            request = PublicationRequest.model_validate({"target": target})
            return submit_publication(session, parent, request, max_attempts).id

    return publish


def worked_off(sessions: Sessions, host: MakeHost, job_id: str) -> Job:
    Supervisor(host("succeed")).work_off()
    return read_job(sessions, job_id)


def test_files_are_committed_to_a_private_repository_of_the_hub(
    sessions: Sessions, publish: Publish, scripted: MakeHost, hub: LocalHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    job = worked_off(sessions, scripted, publish({"hub": "owner/model"}))
    assert job.state is State.SUCCEEDED, job.error
    (repository,) = hub.models["owner/model"]
    assert repository.files == FILES
    assert repository.is_private
    assert repository.commits == [f"Add what job {job.parent_id} made of {job.model}"]
    assert list(hub.large.values()) == [FILES["model.safetensors"]]
    assert job.publication is not None
    assert job.publication["url"] == f"{hub.url}/owner/model/commit/{job.publication['revision']}"
    assert (job.publication["files"], job.publication["size_bytes"]) == (4, sum(map(len, FILES.values())))
    notes = [event.data["message"] for event in events(sessions, job.id) if event.type == "note"]
    assert notes[-1] == "sending report.json (0.0 MB), 4 of 4"
    assert TOKEN not in caplog.text + str([event.data for event in events(sessions, job.id)])


def test_branch_is_made_and_another_publication_sends_no_large_file_again(
    sessions: Sessions, publish: Publish, scripted: MakeHost, hub: LocalHub
) -> None:
    worked_off(sessions, scripted, publish({"hub": "owner/model", "private": False}))
    job = worked_off(sessions, scripted, publish({"hub": "owner/model", "private": False, "revision": "2of4"}))
    assert job.state is State.SUCCEEDED, job.error
    main, branch = hub.models["owner/model"]
    assert (main.names, branch.names, branch.files) == (("main",), ("2of4",), FILES)
    assert len([line for line in hub.requests if line.startswith("PUT /large/")]) == 1


def test_public_repository_gets_nothing_that_was_to_be_private(
    sessions: Sessions, publish: Publish, scripted: MakeHost, hub: LocalHub
) -> None:
    hub.models["owner/model"] = [Repository({})]
    job = worked_off(sessions, scripted, publish({"hub": "owner/model"}))
    assert job.state is State.FAILED
    assert job.error is not None and "everybody can read it" in job.error["detail"]
    assert hub.models["owner/model"][0].files == {}


@pytest.mark.parametrize("token", ["hf_" + "Stranger" * 4, None], ids=["another's token", "no token"])
def test_who_may_not_write_is_told_so_at_once(
    sessions: Sessions, publish: Publish, scripted: MakeHost, hub: LocalHub, token: str | None
) -> None:
    job = worked_off(sessions, scripted, publish({"hub": "owner/model"}, token))
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None and "/v1/secrets/hub-token" in job.error["detail"]
    assert hub.models == {}


def test_hub_that_fails_is_tried_again(sessions: Sessions, publish: Publish, scripted: MakeHost, hub: LocalHub) -> None:
    job_id = publish({"hub": "owner/model"}, max_attempts=2)
    hub.status = 500
    job = worked_off(sessions, scripted, job_id)
    assert (job.state, job.attempt) == (State.FAILED, 2)
    assert job.error is not None and job.error["type"] == "attempts-exhausted"


def test_files_are_put_into_a_folder_of_an_allowed_bucket(
    sessions: Sessions, publish: Publish, scripted: MakeHost, tmp_path: Path
) -> None:
    folder = tmp_path / "bucket" / LOCAL_TENANT_ID / "ours"
    job = worked_off(sessions, scripted, publish({"bucket": f"file://{folder}"}))
    assert job.state is State.SUCCEEDED, job.error
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert job.publication == {"url": f"file://{folder}/", "revision": None, "files": 4, "size_bytes": 1006}


def test_bucket_on_s3_is_written_with_the_store_s_own_credentials(
    sessions: Sessions, settings: Settings, publish: Publish, scripted: MakeHost, s3: S3Server
) -> None:
    on_s3 = s3.settings(settings)
    folder = on_s3.artifact_url.replace("/results", "/published")
    on_s3 = on_s3.model_copy(update={"artifact_url": settings.artifact_url, "publish_buckets": (folder,)})
    job_id = publish({"bucket": f"{folder}/ours"})
    Supervisor(replace(scripted("succeed"), settings=on_s3)).work_off()
    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    bucket = object_store(on_s3.model_copy(update={"artifact_url": f"{folder}/ours/"}))
    assert {name: bytes(obstore.get(bucket, name).bytes()) for name in FILES} == FILES


def test_bucket_that_fails_is_tried_again_and_its_words_stay_here(
    sessions: Sessions, settings: Settings, publish: Publish, scripted: MakeHost, tmp_path: Path
) -> None:
    (tmp_path / "bucket").write_text("no folder")
    job = worked_off(sessions, scripted, publish({"bucket": f"file://{tmp_path}/bucket/{LOCAL_TENANT_ID}/x"}, max_attempts=2))
    assert (job.state, job.attempt) == (State.FAILED, 2)
    assert job.error is not None and job.error["detail"].endswith("/x/: the bucket did not take config.json")

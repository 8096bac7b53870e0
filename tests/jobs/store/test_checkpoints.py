import pytest

from jobs import attempts, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.errors import StaleAttempt
from jobs.failure import Failure
from jobs.store import checkpoints
from tests.jobs.conftest import Submit

FINGERPRINT = StoredFile("fingerprint.json", "a" * 64, 10)


@pytest.fixture
def job_id(sessions: Sessions, submit: Submit) -> str:
    """A running job's."""
    submit()
    with sessions.begin() as session:
        job = attempts.claim(session, "worker", 30.0)
    assert job is not None
    return job.id


def block(index: int, sign: str = "b") -> StoredFile:
    return StoredFile(f"block-{index:05d}.safetensors", sign * 63 + str(index), 100)


def manifest(sessions: Sessions, job_id: str) -> dict[str, str]:
    with sessions() as session:
        return {file.name: file.sha256 for file in checkpoints.kept(session, job_id)}


def test_the_manifest_grows_block_by_block_and_makes_no_event(sessions: Sessions, job_id: str) -> None:
    for index in (0, 1, 1):
        with sessions.begin() as session:
            checkpoints.keep(session, job_id, 1, FINGERPRINT, block(index))
    assert manifest(sessions, job_id) == {file.name: file.sha256 for file in (block(0), block(1), FINGERPRINT)}
    with sessions() as session:
        assert repository.get(session, OURS, job_id).last_seq == 2


def test_blocks_of_another_fingerprint_leave_with_the_first_of_the_new_one(sessions: Sessions, job_id: str) -> None:
    other = StoredFile("fingerprint.json", "c" * 64, 10)
    with sessions.begin() as session:
        checkpoints.keep(session, job_id, 1, FINGERPRINT, block(0))
        checkpoints.keep(session, job_id, 1, FINGERPRINT, block(1))
    with sessions.begin() as session:
        checkpoints.keep(session, job_id, 1, other, block(0, "d"))
    assert manifest(sessions, job_id) == {other.name: other.sha256, block(0).name: block(0, "d").sha256}


def test_an_attempt_that_lost_the_job_adds_nothing(sessions: Sessions, job_id: str) -> None:
    with sessions.begin() as session, pytest.raises(StaleAttempt):
        checkpoints.keep(session, job_id, 2, FINGERPRINT, block(0))
    assert manifest(sessions, job_id) == {}


@pytest.mark.parametrize("end", ["succeed", "fail", "cancelled"])
def test_the_manifest_goes_when_the_job_ends(sessions: Sessions, job_id: str, end: str) -> None:
    with sessions.begin() as session:
        checkpoints.keep(session, job_id, 1, FINGERPRINT, block(0))
    with sessions.begin() as session:
        match end:
            case "succeed":
                attempts.succeed(session, job_id, 1, [])
            case "fail":
                attempts.fail(session, job_id, 1, Failure(type="numerical-error", title="It broke down", detail="NaN"))
            case _:
                attempts.cancelled(session, job_id, 1)
    assert manifest(sessions, job_id) == {}


@pytest.mark.parametrize("end", ["hand_back", "retry"])
def test_the_manifest_stays_for_the_next_attempt(sessions: Sessions, job_id: str, end: str) -> None:
    with sessions.begin() as session:
        checkpoints.keep(session, job_id, 1, FINGERPRINT, block(0))
    with sessions.begin() as session:
        getattr(attempts, end)(session, job_id, 1, "because")
    assert len(manifest(sessions, job_id)) == 2
